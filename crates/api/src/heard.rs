//! The reply of `CLUSTERX CONTROLLER`: who leads a node, asked by a controller that does not want
//! to lead it by asking.

use std::fmt::Write as _;

use crate::store::Heeds;

/// What a node knows of its controller.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Told {
    /// Node id, empty before SETNODEID.
    pub myid: String,
    /// As in a heartbeat's reply.
    pub cluster_id: String,
    /// Highest term of any controller that this process has seen, or an earlier one of this node
    /// has obeyed; 0: none.
    pub term: u64,
    /// How long ago a heartbeat was taken, ms; `None`: never by this process.
    pub heard_ms: Option<u64>,
    /// Term of that heartbeat.
    pub heard_term: u64,
    /// From which store its controllers must lead it. What cannot be read counts as not said.
    pub store: Heeds,
}

impl Told {
    /// The text that goes over the wire.
    pub fn render(&self) -> String {
        let Self { myid, cluster_id, term, heard_ms, heard_term, store } = self;
        let mut text = format!("myid:{myid}\r\ncluster_id:{cluster_id}\r\nterm:{term}\r\n");
        if let Some(heard_ms) = heard_ms {
            // Writing to a String cannot fail.
            let _ = write!(text, "heard_ms:{heard_ms}\r\nheard_term:{heard_term}\r\n");
        }
        if let Some(store) = store.shown() {
            let _ = write!(text, "store:{store}\r\n");
        }
        text
    }

    /// The reply of `CLUSTERX OBSERVE`: that of a heartbeat, and whom the node hears. Both are read
    /// from it.
    pub fn behind(&self, reply: &crate::heartbeat::Reply) -> String {
        let text = self.render();
        // The heartbeat's reply names node, cluster and store itself.
        let is_told = |line: &&str| {
            ["myid:", "cluster_id:", "store:"].iter().any(|name| line.starts_with(name))
        };
        let own = text.split_inclusive('\n').filter(|line| !is_told(line));
        reply.render() + &own.collect::<String>()
    }

    /// Reads a reply; unknown fields are skipped. `None` if it is none.
    pub fn parse(text: &str) -> Option<Self> {
        let mut told = Self::default();
        let mut is_told = false;
        for line in text.lines() {
            let (name, value) = line.trim_end_matches('\r').split_once(':')?;
            match name {
                "myid" => value.clone_into(&mut told.myid),
                "cluster_id" => value.clone_into(&mut told.cluster_id),
                "term" => (told.term, is_told) = (value.parse().ok()?, true),
                "heard_ms" => told.heard_ms = Some(value.parse().ok()?),
                "heard_term" => told.heard_term = value.parse().ok()?,
                "store" => told.store = Heeds::read(Some(value)).unwrap_or_default(),
                _ => {}
            }
        }
        is_told.then_some(told)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::StoreId;

    #[test]
    fn what_is_told_is_read_back() {
        let led = Told {
            myid: "a".repeat(40),
            cluster_id: "-".into(),
            term: 7,
            heard_ms: Some(80),
            heard_term: 6,
            store: Heeds::Store(StoreId { name: 0xab, generation: 2 }),
        };
        let free = Told { heard_ms: None, heard_term: 0, store: Heeds::Nobody, ..led.clone() };
        let older = Told { store: Heeds::Unsaid, ..led.clone() };
        for told in [led, free, older] {
            assert_eq!(Told::parse(&told.render()), Some(told.clone()));
            let newer = format!("{}later:1\r\n", told.render());
            assert_eq!(Told::parse(&newer), Some(told));
        }
        assert_eq!(Told::parse("myid:x\r\n"), None, "no term");
        assert_eq!(Told::parse("term:-1\r\n"), None);
        assert_eq!(Told::parse("OK"), None);
    }
}
