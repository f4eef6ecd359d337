//! What those who sent MONITOR are told of the commands that run.

use std::time::Duration;

use super::super::{Auth, Command, Session};
use crate::clock;
use crate::command::Flags;
use crate::config::Values;
use crate::node::Node;

/// Tells those who watch what runs. What holds secrets or is for administrators is not shown.
pub(in crate::session) fn tell_monitors(
    node: &Node,
    config: &Values,
    session: &Session,
    command: &Command,
    words: &[&[u8]],
) {
    let flags = command.flags;
    let is_hidden =
        flags.has(Flags::SKIP_SLOWLOG) || flags.has(Flags::ADMIN) || flags.has(Flags::PEER);
    if node.monitors.any() && !is_hidden && session.auth != Auth::Peer {
        let now = Duration::from_micros(clock::unix_us());
        let limit = config.subscriber_limit();
        node.monitors.tell(&session.client, words, now, limit);
    }
}
