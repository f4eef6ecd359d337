//! What the process tells a service manager that wants to know (`NOTIFY_SOCKET`, systemd's
//! `Type=notify`): that it serves, reads its configuration again, or is about to end.
//!
//! Nobody waits for an answer, and one that does not listen any more is no reason to stop.

use sd_notify::{NotifyState, notify};

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
