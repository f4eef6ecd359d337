//! What the HTTP ports of controller, balancer and node have in common: who may ask at all, and errors as JSON.
//!
//! A browser carries requests of any page it shows to addresses that only its user can reach. [`Door`] lets
//! nothing of that kind in: a request names this very listener, comes from no other origin, and a change says that its
//! body is JSON, which a page of another origin cannot say unasked.
//!
//! Who has which token is checked behind the door, by the process itself.

mod authority;
mod door;
mod error;
mod secret;

pub use authority::{Authority, BadName, Names};
pub use door::{Door, Local, service};
pub use error::{Say, in_json};
pub use secret::{SecretError, read_secret};
