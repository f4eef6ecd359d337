//! `client-output-buffer-limit`: how much may wait for a client that does not read.

use std::time::Duration;

use super::value::{Size, Value};
use crate::inbox::Limit;

/// The limits, by kind of client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutputLimits {
    /// Of clients that ask.
    pub normal: Limit,
    /// Of replicas: taken and shown for the sake of Redis' files, since a replica reads from the
    /// log and nothing waits for it.
    pub replica: Limit,
    /// Of clients that subscribe.
    pub pubsub: Limit,
}

impl Default for OutputLimits {
    /// Redis' defaults.
    fn default() -> Self {
        let limit = |hard, soft| Limit { hard, soft, lasting: Duration::from_secs(60) };
        Self {
            normal: Limit::default(),
            replica: limit(256 << 20, 64 << 20),
            pubsub: limit(32 << 20, 8 << 20),
        }
    }
}

impl Value for OutputLimits {
    fn parse(text: &str) -> Result<Self, String> {
        let mut limits = Self::default();
        limits.change(text)?;
        Ok(limits)
    }

    fn change(&mut self, text: &str) -> Result<(), String> {
        let error = || {
            "argument must be one or more of: normal|slave|pubsub <hard> <soft> <seconds>"
                .to_owned()
        };
        let words: Vec<&str> = text.split_whitespace().collect();
        let (groups, rest) = words.as_chunks::<4>();
        if groups.is_empty() || !rest.is_empty() {
            return Err(error());
        }
        let mut changed = *self;
        for [kind, hard, soft, seconds] in groups {
            let limit = Limit {
                hard: Size::parse(hard)?.0,
                soft: Size::parse(soft)?.0,
                lasting: Duration::from_secs(seconds.parse().map_err(|_| error())?),
            };
            match kind.to_ascii_lowercase().as_str() {
                "normal" => changed.normal = limit,
                "slave" | "replica" => changed.replica = limit,
                "pubsub" => changed.pubsub = limit,
                _ => return Err(error()),
            }
        }
        *self = changed;
        Ok(())
    }

    fn render(&self) -> String {
        let one = |kind, limit: &Limit| {
            format!("{kind} {} {} {}", limit.hard, limit.soft, limit.lasting.as_secs())
        };
        let all = [("normal", &self.normal), ("slave", &self.replica), ("pubsub", &self.pubsub)];
        all.map(|(kind, limit)| one(kind, limit)).join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_named_stays() {
        let mut limits = OutputLimits::default();
        let text = "normal 0 0 0 slave 268435456 67108864 60 pubsub 33554432 8388608 60";
        assert_eq!(limits.render(), text);
        limits.change("pubsub 1mb 512kb 5 normal 1 0 0").unwrap();
        let changed = "normal 1 0 0 slave 268435456 67108864 60 pubsub 1048576 524288 5";
        assert_eq!(limits.render(), changed);
        assert_eq!(OutputLimits::parse(changed), Ok(limits));
    }

    #[test]
    fn a_bad_one_changes_nothing() {
        let mut limits = OutputLimits::default();
        for bad in [
            "",
            "pubsub",
            "pubsub 1 1",
            "pubsub 1 1 x",
            "pubsub 1 1 1 x",
            "all 1 1 1",
            "pubsub 1 -1 1",
        ] {
            assert!(limits.change(bad).is_err(), "{bad}");
        }
        assert!(limits.change("normal 1 1 1 pubsub 1 1 x").is_err());
        assert_eq!(limits, OutputLimits::default());
    }
}
