//! What is run, and how it is stopped.

use std::sync::Arc;

use resp::Protocol;

use crate::control::{Control, Tick};

/// One run.
pub struct Job<'j> {
    /// What error texts call it: the hash of a script, the name of a function.
    pub name: &'j str,
    /// Names of keys.
    pub keys: &'j [&'j [u8]],
    /// Further arguments.
    pub args: &'j [&'j [u8]],
    /// Of the client.
    pub protocol: Protocol,
    /// How it is stopped.
    pub control: Arc<Control>,
    /// Asked while it runs.
    pub tick: Tick,
}
