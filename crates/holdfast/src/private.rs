//! What this process writes is its user's alone: configurations, stores and data hold secrets.

/// Files and folders that are made from now on may be read by nobody else.
#[expect(unsafe_code, reason = "the mask of a process has no call in the standard library")]
pub(crate) fn from_now_on() {
    // SAFETY: umask takes an integer, cannot fail, and touches no memory of this process. No other
    // thread runs yet.
    unsafe { libc::umask(0o077) };
}
