//! Whether an etcd would take a store: tried before the store that it is made of is given up.
//!
//! First what writes nothing: a transaction with every kind of write that is to come, behind a
//! compare that cannot be so. etcd looks at rights before it looks at compares, so a role that
//! lacks a key is found. Then a key of the size of the largest request that is to come is put, read
//! back and removed.

use super::client::Client;
use super::wire::{Compare, Range, Write};
use crate::store::{StoreError, fresh_tag};

/// The key that is put.
const KEY: &str = "trial";
/// What a request has beside the values that were counted: events, names, etcd's own words.
const SPARE_BYTES: usize = 16 << 10;

/// What is to come.
#[derive(Debug)]
pub(super) struct Wanted {
    /// The largest request, bytes.
    pub(super) request: usize,
    /// The key that makes it so large.
    pub(super) of: String,
    /// All of it, bytes.
    pub(super) all: usize,
}

/// Tries the keys below `prefix`; `content` are those that are cleared as a whole, `single` those
/// that are put.
///
/// # Errors
/// [`StoreError::Unusable`] with the remedy, where etcd would not take it; or it does not answer.
pub(super) async fn run(
    client: &Client,
    (prefix, place): (&str, &str),
    (content, single): (&[&str], &[&str]),
    wanted: &Wanted,
) -> Result<(), StoreError> {
    let key = |rest: &str| format!("{prefix}{rest}");
    let refused = |error: StoreError| told(place, prefix, wanted, &error);
    if let Some((size, quota)) = client.room().await
        && !fits(size, quota, wanted.all)
    {
        return Err(StoreError::Unusable(format!(
            "{place} has {} KiB of its quota of {} KiB, and the store takes about {} KiB: compact and defragment it, or raise --quota-backend-bytes of its members. Nothing was changed",
            size >> 10,
            quota >> 10,
            needs(wanted.all) >> 10
        )));
    }
    let mut all: Vec<Write> = content.iter().map(|below| Write::Clear(key(below))).collect();
    all.extend(single.iter().map(|rest| Write::Put(key(rest), String::new())));
    all.push(Write::Remove(key(KEY)));
    // Nobody has ever put that.
    let never = Compare::Is(key(KEY), format!("{:016x}", fresh_tag()));
    client.write("ask for the rights", &[never], &all).await.done().map_err(refused)?;

    let value = filling(wanted.request.saturating_add(SPARE_BYTES));
    let put = [Write::Put(key(KEY), value.clone())];
    let put = client.write("write a trial", &[], &put).await.done();
    let read = match &put {
        Ok(_) => {
            let mut ranges = vec![Range::Key(key(KEY))];
            ranges.extend(content.iter().map(|below| Range::Last(key(below), 1, None)));
            ranges.extend(single.iter().map(|rest| Range::Key(key(rest))));
            Some(client.read("read the trial", &ranges).await)
        }
        Err(_) => None,
    };
    // Whatever became of it: a write that was not answered may have been made.
    let removed = client.write("remove the trial", &[], &[Write::Remove(key(KEY))]).await.done();
    put.map_err(refused)?;
    let read = read.transpose().map_err(refused)?.map(|answer| answer.found(0));
    removed.map_err(refused)?;
    match read.as_ref().and_then(|found| found.value()) == Some(value.as_str()) {
        true => Ok(()),
        false => Err(StoreError::Unusable(format!(
            "{place} does not answer what was written to {prefix}{KEY}: do others write there? Nothing was changed"
        ))),
    }
}

/// Of so many bytes, and never the same.
fn filling(bytes: usize) -> String {
    let mut text = format!("{:016x}", fresh_tag()).repeat(bytes.div_ceil(16));
    text.truncate(bytes);
    text
}

/// Bytes that etcd needs for content of so many: keys, versions, pages that are not full.
fn needs(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX).saturating_mul(2)
}

fn fits(size: u64, quota: u64, bytes: usize) -> bool {
    size.saturating_add(needs(bytes)) <= quota
}

/// An error of etcd, with what it is about and what helps.
fn told(place: &str, prefix: &str, wanted: &Wanted, error: &StoreError) -> StoreError {
    let why = error.chain();
    let kib = wanted.request.saturating_add(SPARE_BYTES).div_ceil(1024);
    let remedy = if why.contains("too large") || why.contains("larger than max") {
        format!(
            "it must take requests of {kib} KiB, for {}: raise --max-request-bytes of its members",
            wanted.of
        )
    } else if why.contains("space exceeded") {
        "its quota is used up: compact and defragment it or raise --quota-backend-bytes of its members, and then disarm the alarm (`etcdctl alarm disarm`)".to_owned()
    } else if why.contains("permission denied") {
        format!("give a role of its user (`etcd_user`) readwrite on the prefix {prefix}")
    } else {
        "see that it takes writes".to_owned()
    };
    StoreError::Unusable(format!(
        "{place} would not take the store: {remedy} ({why}). Nothing was changed"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_of_a_quota_must_do_for_keys_and_versions_too() {
        assert!(fits(0, 200, 100) && !fits(1, 200, 100));
        assert!(!fits(u64::MAX, u64::MAX - 1, usize::MAX));
        assert_eq!((filling(33).len(), filling(0).len()), (33, 0));
        assert_ne!(filling(16), filling(16));
    }
}
