//! What the record of a cluster takes in a store that bounds it. Pure: sizes go in, a sentence
//! comes out.

/// Bytes of a record as it is stored, and of the largest request that the store takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Weight {
    /// Of the record.
    pub bytes: usize,
    /// Of a request, with which a change must do: record, events, and addresses that change.
    pub limit: usize,
}

impl Weight {
    /// What a person should know well before a change is refused for its size; nothing below half
    /// of the limit.
    pub fn alarm(self) -> Option<String> {
        let Self { bytes, limit } = self;
        if bytes.saturating_mul(2) < limit {
            return None;
        }
        let kib = |bytes: usize| bytes.div_ceil(1 << 10);
        Some(format!(
            "the record of this cluster takes {} KiB, and the largest request that etcd takes is {} KiB, as `etcd_max_request_bytes` says: \
             a larger change is refused, and then nobody fails over here. Raise `--max-request-bytes` of all of etcd's members, then \
             `etcd_max_request_bytes` of all controllers to the same, or make more than one cluster of it",
            kib(bytes),
            kib(limit)
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_is_told_from_half_of_the_limit_on() {
        let limit = 1_536 << 10;
        assert_eq!(Weight { bytes: limit / 2 - 1, limit }.alarm(), None);
        let told = Weight { bytes: limit / 2, limit }.alarm().expect("an alarm");
        for word in ["768 KiB", "1536 KiB", "`--max-request-bytes`", "`etcd_max_request_bytes`"] {
            assert!(told.contains(word), "{word}: {told}");
        }
        assert!(Weight { bytes: usize::MAX, limit }.alarm().is_some());
    }
}
