//! What the processes have in common around their HTTP ports: who may ask at all, errors as JSON
//! and as one line, tokens, TLS, and what of a configuration may change at run time.
//!
//! A browser carries requests of any page it shows to addresses that only its user can reach.
//! [`Door`] lets nothing of that kind in: a request names this very listener, comes from no other
//! origin, and a change says that its body is JSON, which a page of another origin cannot say
//! unasked.
//!
//! Whether a request has the token is asked behind the door: [`Live::lets_in`], or [`Live::admits`]
//! where others may come in too.

mod authority;
mod body;
pub mod bounded;
pub mod causes;
pub mod certs;
mod door;
mod error;
mod listener;
mod live;
mod place;
mod secret;
pub mod secure;
pub mod supervisor;
pub mod terminate;
pub mod tls;
pub mod trust;

pub use authority::{Authority, BadName, Names};
pub use door::{Door, Ends, service};
pub use error::{Say, in_json};
pub use listener::{Listener, Shown, Stream};
pub use live::{Admission, Live, Reloaded, Settings, bearer, same};
pub use place::{line_of, misread};
pub use secret::{SecretError, read_secret};
