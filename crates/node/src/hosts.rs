//! Addresses of announced host names, for telling whether a client would be sent where it is
//! (rule R15).
//!
//! Nothing waits for a resolver: what is not known yet, or not for a while, is looked up by a
//! thread of its own, one name at a time, and counts from the next question on. A resolver that
//! fails takes nothing away.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, ToSocketAddrs as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// For how long an answer, good or not, is not asked for again.
const FRESH: Duration = Duration::from_secs(10);
/// Names that are remembered; with one more all are forgotten.
const MOST: usize = 4_096;

/// See the module.
#[derive(Debug, Clone, Default)]
pub struct Hosts(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    known: Mutex<HashMap<String, Known>>,
    is_looking: AtomicBool,
}

/// What is known of a name.
#[derive(Debug)]
struct Known {
    addresses: Vec<IpAddr>,
    at: Instant,
}

impl Hosts {
    /// Whether the address is one of that host's, as far as is known.
    pub fn has(&self, host: &str, ip: IpAddr) -> bool {
        let (is_its, is_fresh) = match self.0.known.lock().get(host) {
            Some(known) => {
                (known.addresses.contains(&ip.to_canonical()), known.at.elapsed() < FRESH)
            }
            None => (false, false),
        };
        if !is_fresh {
            self.look(host);
        }
        is_its
    }

    fn look(&self, host: &str) {
        if self.0.is_looking.swap(true, Ordering::AcqRel) {
            return;
        }
        let (hosts, host) = (self.clone(), host.to_owned());
        let looking = std::thread::Builder::new().name("hosts".into()).spawn(move || {
            let found = (host.as_str(), 0).to_socket_addrs();
            hosts.learn(&host, found.map(|found| found.map(|at| at.ip()).collect()));
            hosts.0.is_looking.store(false, Ordering::Release);
        });
        if let Err(error) = looking {
            tracing::debug!(%error, "no thread to look a name up");
            self.0.is_looking.store(false, Ordering::Release);
        }
    }

    /// What a resolver said.
    pub(crate) fn learn(&self, host: &str, found: io::Result<Vec<IpAddr>>) {
        let mut all = self.0.known.lock();
        if all.len() >= MOST && !all.contains_key(host) {
            all.clear();
        }
        let at = Instant::now();
        let known = all.entry(host.to_owned()).or_insert(Known { addresses: Vec::new(), at });
        known.at = at;
        match found {
            Ok(found) => known.addresses = found.iter().map(IpAddr::to_canonical).collect(),
            Err(error) => tracing::debug!(host, %error, "not looked up"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);

    #[test]
    fn a_name_has_the_addresses_that_were_found_and_keeps_them_while_a_resolver_fails() {
        let hosts = Hosts::default();
        let [one, other, unknown] =
            ["192.0.2.1", "192.0.2.2", "192.0.2.3"].map(|ip| ip.parse().unwrap());
        hosts.learn("lb.invalid", Ok(vec![one, other]));
        assert!(hosts.has("lb.invalid", one) && hosts.has("lb.invalid", other));
        assert!(!hosts.has("lb.invalid", unknown));
        assert!(hosts.has("lb.invalid", "::ffff:192.0.2.1".parse().unwrap()));
        hosts.learn("lb.invalid", Err(io::Error::other("no answer")));
        assert!(hosts.has("lb.invalid", one));
        hosts.learn("lb.invalid", Ok(vec![other]));
        assert!(!hosts.has("lb.invalid", one));
    }

    #[test]
    fn what_is_not_known_is_looked_up_for_the_next_who_asks() {
        let hosts = Hosts::default();
        let ip: IpAddr = "192.0.2.1".parse().unwrap();
        // An address is its own name, without any resolver.
        let deadline = Instant::now() + PATIENCE;
        assert!(!hosts.has("192.0.2.1", ip), "nobody waits for it");
        while !hosts.has("192.0.2.1", ip) {
            assert!(Instant::now() < deadline, "it is not looked up");
            std::thread::yield_now();
        }
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let hosts = Hosts::default();
        for number in 0..=MOST {
            hosts.learn(&format!("lb{number}.invalid"), Ok(Vec::new()));
        }
        assert_eq!(hosts.0.known.lock().len(), 1);
    }
}
