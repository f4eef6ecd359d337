//! MONITOR: every command that runs is told to those who watch.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use crate::clients::Client;
use crate::inbox::Limit;

/// Connections that watch. Nothing is locked while there are none.
#[derive(Debug, Default)]
pub struct Monitors {
    count: AtomicUsize,
    all: Mutex<Vec<Arc<Client>>>,
}

impl Monitors {
    /// Whether anybody watches.
    pub fn any(&self) -> bool {
        self.watching() > 0
    }

    /// How many watch.
    pub fn watching(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// This connection watches from now on.
    pub fn add(&self, client: &Arc<Client>) {
        if !client.is_monitor.swap(true, Ordering::SeqCst) {
            self.all.lock().push(Arc::clone(client));
            self.count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// It watches no more.
    pub fn remove(&self, client: &Client) {
        if client.is_monitor.swap(false, Ordering::SeqCst) {
            self.all.lock().retain(|other| other.id != client.id);
            self.count.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Tells of a command at `now`, Unix time.
    pub fn tell(&self, client: &Client, words: &[&[u8]], now: Duration, limit: Limit) {
        let namespace = client.names.lock().namespace.clone();
        let line = line(&namespace, &client.shown_address(), words, now);
        let now_ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        for monitor in &*self.all.lock() {
            monitor.push(&line, limit, now_ms);
        }
    }
}

/// As Redis writes it: time, database, address, words as redis-cli would take them. The database is
/// the name of the namespace, 0 for the default one.
fn line(namespace: &str, address: &str, words: &[&[u8]], now: Duration) -> Vec<u8> {
    let database = if namespace.is_empty() { "0" } else { namespace };
    let mut line = format!("+{}.{:06} [{database} {address}]", now.as_secs(), now.subsec_micros());
    for word in words {
        line.push_str(" \"");
        for byte in *word {
            match byte {
                b'\\' => line.push_str("\\\\"),
                b'"' => line.push_str("\\\""),
                b'\n' => line.push_str("\\n"),
                b'\r' => line.push_str("\\r"),
                b'\t' => line.push_str("\\t"),
                0x07 => line.push_str("\\a"),
                0x08 => line.push_str("\\b"),
                b' '..=b'~' => line.push(char::from(*byte)),
                other => {
                    // Large values are often such bytes, and those who watch make others wait.
                    let digit =
                        |nibble: u8| char::from_digit(u32::from(nibble), 16).unwrap_or_default();
                    line.extend(['\\', 'x', digit(other >> 4), digit(other & 0xf)]);
                }
            }
        }
        line.push('"');
    }
    line.push_str("\r\n");
    line.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_can_be_typed_again() {
        let words: [&[u8]; 2] = [b"SET", b"a\"\\\n\x07 \xff"];
        let line = line("", "10.0.0.1:5", &words, Duration::from_micros(1_000_002));
        let expected = "+1.000002 [0 10.0.0.1:5] \"SET\" \"a\\\"\\\\\\n\\a \\xff\"\r\n";
        assert_eq!(String::from_utf8(line).unwrap(), expected);
    }
}
