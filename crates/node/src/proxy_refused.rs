//! Load balancers that this node does not take for one, and connections that break the contract of
//! the PROXY header (`docs/protocol.md` §3).
//!
//! Nobody is told anything on such a connection: it is ended. So this is where an operator learns
//! of it: a line in the log, at most one a minute for each address; counters in INFO and /metrics;
//! and, for addresses that are not in `balancer-sources`, the heartbeat, from which the controller
//! makes an alarm.
//!
//! What is kept is bounded, whatever comes.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use api::heartbeat::Stranger;
use parking_lot::Mutex;

/// Addresses that are remembered; the one that was quiet longest makes room.
const ADDRESSES: usize = 64;
/// Of these a heartbeat names the latest.
const TOLD: usize = 16;
/// Between two lines about one address.
const LINE_NS: u64 = 60_000_000_000;
/// Lines about all addresses together within [`LINE_NS`].
const LINES: u32 = 30;

/// What was wrong with the beginning of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// A PROXY header from an address that is not in `balancer-sources`.
    Unlisted,
    /// An address in `balancer-sources`, and no PROXY header of version 2.
    NoHeader,
    /// A second header behind the first: two balancers in a row.
    Twice,
}

impl Fault {
    /// Every one, with its word in INFO and /metrics.
    pub const ALL: [(Self, &'static str); 3] =
        [(Self::Unlisted, "unlisted"), (Self::NoHeader, "no_header"), (Self::Twice, "twice")];

    /// What an operator should know and do.
    fn remedy(self) -> &'static str {
        match self {
            Self::Unlisted => {
                "a load balancer dials from an address that is not in `balancer-sources`: what comes through it is ended without an answer. \
                 Add the address to `balancer-sources` and restart this node, or let the balancer dial from one that is listed"
            }
            Self::NoHeader => {
                "a connection from an address in `balancer-sources` does not begin with a PROXY header of version 2, and is ended. \
                 Let the balancer send one (HAProxy: `send-proxy-v2`), or take the address out of `balancer-sources` if it is no balancer's"
            }
            Self::Twice => {
                "a client's bytes begin with a PROXY header behind the one of its balancer: two balancers in a row, and the inner one does not read what \
                 the outer one sends. The connection is ended. Let the inner one accept it (HAProxy: `accept-proxy`), or the outer one send none"
            }
        }
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    connections: u64,
    last_ns: u64,
    told_ns: Option<u64>,
    /// Since the last line.
    untold: u64,
}

#[derive(Debug, Default)]
struct Book {
    seen: BTreeMap<(IpAddr, Fault), Seen>,
    /// When the present minute of lines began, and how many it has had.
    lines: (u64, u32),
}

/// What is remembered of them.
#[derive(Debug, Default)]
pub struct ProxyRefused {
    book: Mutex<Book>,
    totals: [AtomicU64; 3],
}

impl ProxyRefused {
    /// Counts a connection from `address` that is about to be ended, and writes a line unless one
    /// was written lately.
    pub fn note(&self, address: IpAddr, fault: Fault, now_ns: u64) {
        let address = address.to_canonical();
        if let Some(connections) = self.counted(address, fault, now_ns) {
            tracing::warn!(%address, connections, "{}", fault.remedy());
        }
    }

    /// The connections to write a line about, `None` if it is too early for one.
    fn counted(&self, address: IpAddr, fault: Fault, now_ns: u64) -> Option<u64> {
        self.total_of(fault).fetch_add(1, Ordering::Relaxed);
        let mut book = self.book.lock();
        let book = &mut *book;
        if !book.seen.contains_key(&(address, fault)) && book.seen.len() >= ADDRESSES {
            let quietest = book.seen.iter().min_by_key(|(_, seen)| seen.last_ns);
            if let Some(quietest) = quietest.map(|(key, _)| *key) {
                book.seen.remove(&quietest);
            }
        }
        let seen = book.seen.entry((address, fault)).or_default();
        seen.connections += 1;
        seen.untold += 1;
        seen.last_ns = now_ns;
        if seen.told_ns.is_some_and(|told| now_ns < told.saturating_add(LINE_NS)) {
            return None;
        }
        if now_ns >= book.lines.0.saturating_add(LINE_NS) {
            book.lines = (now_ns, 0);
        }
        if book.lines.1 >= LINES {
            return None;
        }
        book.lines.1 += 1;
        seen.told_ns = Some(now_ns);
        Some(std::mem::take(&mut seen.untold))
    }

    /// Connections that were ended so, since the start.
    pub fn total(&self, fault: Fault) -> u64 {
        self.total_of(fault).load(Ordering::Relaxed)
    }

    fn total_of(&self, fault: Fault) -> &AtomicU64 {
        match fault {
            Fault::Unlisted => &self.totals[0],
            Fault::NoHeader => &self.totals[1],
            Fault::Twice => &self.totals[2],
        }
    }

    /// Load balancers that are not listed, the latest first, as a heartbeat tells of them.
    pub fn list(&self, now_ns: u64) -> Vec<Stranger> {
        let book = self.book.lock();
        let mut list: Vec<Stranger> = (book.seen.iter())
            .filter(|((_, fault), _)| *fault == Fault::Unlisted)
            .map(|((address, _), seen)| Stranger {
                address: *address,
                connections: seen.connections,
                age_ms: now_ns.saturating_sub(seen.last_ns) / 1_000_000,
            })
            .collect();
        list.sort_by_key(|stranger| stranger.age_ms);
        list.truncate(TOLD);
        list
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND_NS: u64 = 1_000_000_000;

    fn address(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 8, last])
    }

    #[test]
    fn a_line_a_minute_for_each_address_tells_of_all_since_the_last() {
        let refused = ProxyRefused::default();
        let now = 5 * SECOND_NS;
        assert_eq!(refused.counted(address(1), Fault::Unlisted, now), Some(1));
        assert_eq!(refused.counted(address(1), Fault::Unlisted, now + SECOND_NS), None);
        assert_eq!(refused.counted(address(1), Fault::NoHeader, now + SECOND_NS), Some(1));
        assert_eq!(refused.counted(address(2), Fault::Unlisted, now + SECOND_NS), Some(1));
        assert_eq!(refused.counted(address(1), Fault::Unlisted, now + 60 * SECOND_NS), Some(2));
        assert_eq!((refused.total(Fault::Unlisted), refused.total(Fault::NoHeader)), (4, 1));
    }

    #[test]
    fn many_addresses_fill_neither_the_memory_nor_the_log() {
        let refused = ProxyRefused::default();
        let lines = (0..=255_u8).filter(|last| {
            let now = u64::from(*last) * 1_000_000;
            refused.counted(address(*last), Fault::Unlisted, now).is_some()
        });
        assert_eq!(lines.count(), 30);
        assert_eq!(refused.book.lock().seen.len(), ADDRESSES);
        let told = refused.list(255 * 1_000_000);
        assert_eq!((told.len(), told[0].address, told[0].age_ms), (16, address(255), 0));
        assert_eq!(told[1].age_ms, 1);
        assert!(refused.counted(address(1), Fault::Unlisted, 61 * SECOND_NS).is_some());
    }

    #[test]
    fn a_heartbeat_tells_of_unlisted_balancers_only() {
        let refused = ProxyRefused::default();
        refused.note("::ffff:10.0.8.1".parse().unwrap(), Fault::Unlisted, SECOND_NS);
        refused.note(address(2), Fault::NoHeader, SECOND_NS);
        let told = Stranger { address: address(1), connections: 1, age_ms: 2_000 };
        assert_eq!(refused.list(3 * SECOND_NS), [told]);
    }
}
