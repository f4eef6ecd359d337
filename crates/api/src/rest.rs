//! REST types of the controller, in the shape of kvrocks-controller where it has one.
