//! What the process tells a service manager that wants to know (`NOTIFY_SOCKET`, systemd's
//! `Type=notify`): that it serves, reads its configuration again, or is about to end.
//!
//! Nobody waits for an answer, and one that does not listen any more is no reason to stop.

use std::time::Duration;

use sd_notify::{NotifyState, notify};

/// What a stop takes beside what it waits for.
const REST: Duration = Duration::from_secs(30);

/// It serves: at the start, and again when the configuration was read.
pub fn ready() {
    let _ = notify(&[NotifyState::Ready]);
}

/// It reads its configuration again; [`ready`] follows.
pub fn reloading() {
    if let Ok(now) = NotifyState::monotonic_usec_now() {
        let _ = notify(&[NotifyState::Reloading, now]);
    }
}

/// It was told to end, and may have to wait for somebody first.
pub fn stopping() {
    let _ = notify(&[NotifyState::Stopping]);
}

/// It ends by itself, for that reason: the manager shows it beside the unit, to whoever does not
/// read the log.
pub fn ends(why: &str) {
    let line = why.replace('\n', " ");
    let _ = notify(&[NotifyState::Status(&line)]);
}

/// It waits for somebody for as long as `wait` before it ends: without this word it would be killed
/// at the manager's own limit, `TimeoutStopSec` of systemd, if that is shorter.
pub fn waits(wait: Duration) {
    let us = u32::try_from((wait + REST).as_micros()).unwrap_or(u32::MAX);
    let _ = notify(&[NotifyState::ExtendTimeoutUsec(us)]);
}
