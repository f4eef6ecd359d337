//! The reply to an unknown command.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};

/// Why a connection ends that speaks HTTP.
pub(super) const HTTP: &str = "it speaks HTTP, as a browser does that a web page has sent here";
/// Between two lines in the log, ms: a page may try without end.
const LINE_MS: u64 = 60_000;

/// Whether these are words of a browser: anybody's page makes it send lines of the page's own,
/// behind these, to any port that its user reaches. Redis and Kvrocks too go by these two, and say
/// nothing.
pub(super) fn is_http(words: &[&[u8]]) -> bool {
    let name = words.first().copied().unwrap_or_default();
    name.eq_ignore_ascii_case(b"post") || name.eq_ignore_ascii_case(b"host:")
}

/// Writes a line of it, unless one was written lately.
pub(super) fn note_http(address: SocketAddr, now_ms: u64) {
    static WRITTEN_MS: AtomicU64 = AtomicU64::new(0);
    let last = WRITTEN_MS.load(Ordering::Relaxed);
    let is_due = now_ms >= last.saturating_add(LINE_MS);
    let (done, not) = (Ordering::Relaxed, Ordering::Relaxed);
    if is_due && WRITTEN_MS.compare_exchange(last, now_ms, done, not).is_ok() {
        tracing::warn!(%address, "a connection was ended: {HTTP}");
    }
}

/// As Redis 7: the name cut at 128 bytes, then arguments while they fit into 128 bytes.
pub(super) fn unknown_command(words: &[&[u8]]) -> String {
    let text = |word: &[u8]| String::from_utf8_lossy(&word[..word.len().min(128)]).into_owned();
    let name = words.first().map(|word| text(word)).unwrap_or_default();
    let mut arguments = String::new();
    for word in words.iter().skip(1) {
        if arguments.len() >= 128 {
            break;
        }
        let room = 128 - arguments.len();
        let word = String::from_utf8_lossy(&word[..word.len().min(room)]).into_owned();
        arguments.push_str(&format!("'{word}' "));
    }
    format!("ERR unknown command '{name}', with args beginning with: {arguments}")
}
