//! Scripted events, exact plans.
