//! The log of events in etcd: numbered by the leader, trimmed in the transaction that appends.
//!
//! Several rows of keys, so that no flood drives out what is asked for later: neither every day's
//! events, nor what operators ask for by a script, nor the steps of many moves. Numbers of keys are
//! those of the row, the number that people see rises over all.

use crate::events::Event;
use crate::store::{StoreError, Wanted, failed};

use super::client::Client;
use super::wire::{Found, Range, Write};

/// How many are kept in each row.
const KEPT: u64 = 2_000;
/// Events in one transaction: etcd takes 128 operations.
pub(super) const AT_ONCE: usize = 60;
/// Events read at a time.
const PAGE: usize = 500;

/// Every day's; failovers and the like; what operators asked for; moves of slots. Of earlier
/// versions the history has acts and moves as well.
pub(super) const ROWS: [&str; 4] = ["events/", "history/", "acts/", "moves/"];

/// In which an event is kept.
fn row_of(event: &Event) -> usize {
    match &*event.kind {
        "operator" => 2,
        "move" => 3,
        _ => usize::from(event.is_history()),
    }
}

/// Where the log goes on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Journal {
    /// For which term this was read.
    pub(super) term: u64,
    /// Last key of each row.
    last: [u64; ROWS.len()],
    /// Last number that people see.
    number: u64,
}

fn key(prefix: &str, row: usize, number: u64) -> String {
    format!("{prefix}{}{number:020}", ROWS[row])
}

/// The events that a range found.
pub(super) fn read(found: &Found) -> Result<Vec<Event>, StoreError> {
    let read = |text: &str| serde_json::from_str(text).map_err(failed("read an event"));
    found.pairs.iter().map(|pair| read(&pair.value)).collect()
}

impl Journal {
    pub(super) async fn read(client: &Client, prefix: &str, term: u64) -> Result<Self, StoreError> {
        let ranges = ROWS.map(|row| Range::Last(format!("{prefix}{row}"), 1, None));
        let answer = client.read("read the last events", &ranges).await?;
        let mut journal = Self { term, last: [0; ROWS.len()], number: 0 };
        for row in 0..ROWS.len() {
            let found = answer.found(row);
            let Some(pair) = found.pairs.first() else { continue };
            let number = pair.key.rsplit('/').next().and_then(|number| number.parse().ok());
            journal.last[row] = number.unwrap_or(0);
            for event in read(&found)? {
                journal.number = journal.number.max(event.number);
            }
        }
        Ok(journal)
    }

    /// What appends these. Numbers that are given here are never given again, whatever becomes of
    /// the transaction.
    pub(super) fn writes(
        &mut self,
        prefix: &str,
        events: &[Event],
    ) -> Result<Vec<Write>, StoreError> {
        let mut writes = Vec::new();
        let before = self.last;
        for event in events {
            let row = row_of(event);
            self.last[row] += 1;
            self.number += 1;
            let event = Event { number: self.number, ..event.clone() };
            let text = serde_json::to_string(&event).map_err(failed("encode an event"))?;
            writes.push(Write::Put(key(prefix, row, self.last[row]), text));
        }
        for (row, before) in before.into_iter().enumerate() {
            if self.last[row] > before && self.last[row] > KEPT {
                let first_kept = key(prefix, row, self.last[row] - KEPT + 1);
                writes.push(Write::Trim(key(prefix, row, 0), first_kept));
            }
        }
        Ok(writes)
    }
}

/// Keys and values of a log that has these events and no others: the newest, as many as are kept.
pub(super) fn kept(prefix: &str, all: &[Event]) -> Result<Vec<(String, String)>, StoreError> {
    let most = usize::try_from(KEPT).unwrap_or(usize::MAX);
    let mut pairs = Vec::new();
    for row in 0..ROWS.len() {
        let of_row: Vec<&Event> = all.iter().filter(|event| row_of(event) == row).collect();
        let newest = &of_row[of_row.len().saturating_sub(most)..];
        for (number, event) in (1..).zip(newest) {
            let text = serde_json::to_string(event).map_err(failed("encode an event"))?;
            pairs.push((key(prefix, row, number), text));
        }
    }
    Ok(pairs)
}

/// The newest `limit` events that are wanted, oldest first.
pub(super) async fn newest(
    client: &Client,
    prefix: &str,
    limit: usize,
    wanted: &Wanted,
) -> Result<Vec<Event>, StoreError> {
    let mut found = Vec::new();
    for row in ROWS {
        let (mut before, mut of_row) = (None, 0);
        while of_row < limit {
            let range = [Range::Last(format!("{prefix}{row}"), PAGE, before.clone())];
            let page = client.read("read events", &range).await?.found(0);
            let wanted =
                read(&page)?.into_iter().filter(|event| wanted(event)).take(limit - of_row);
            let all = found.len();
            found.extend(wanted);
            of_row += found.len() - all;
            if page.pairs.len() < PAGE {
                break;
            }
            before = page.pairs.last().map(|pair| pair.key.clone());
        }
    }
    found.sort_by_key(|event| event.number);
    found.drain(..found.len().saturating_sub(limit));
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn events(number: u64) -> [Event; 4] {
        ["alarm", "failover", "operator", "move"]
            .map(|kind| Event::now(1, "n/c".to_owned(), kind, number.to_string()))
    }

    /// As etcd makes them.
    fn make(keys: &mut BTreeMap<String, String>, writes: Vec<Write>) {
        for write in writes {
            match write {
                Write::Put(key, value) => {
                    keys.insert(key, value);
                }
                Write::Trim(from, to) => {
                    let trimmed: Vec<String> =
                        keys.range(from..to).map(|(key, _)| key.clone()).collect();
                    for key in trimmed {
                        keys.remove(&key);
                    }
                }
                other => panic!("{other:?}"),
            }
        }
    }

    /// Texts of the first and the last event of a row, how many there are, and the first key.
    fn row(keys: &BTreeMap<String, String>, row: &str) -> (String, String, usize, String) {
        let of_row: Vec<_> = keys.iter().filter(|(key, _)| key.starts_with(row)).collect();
        let text = |pair: Option<&(&String, &String)>| {
            let event: Event = serde_json::from_str(pair.expect("an event").1).expect("an event");
            event.text
        };
        let key = of_row[0].0.strip_prefix(row).expect("its row").to_owned();
        (text(of_row.first()), text(of_row.last()), of_row.len(), key)
    }

    #[test]
    fn the_newest_two_thousand_of_each_row_are_kept_under_numbers_of_twenty_digits() {
        let mut journal = Journal { term: 1, last: [0; ROWS.len()], number: 0 };
        let mut keys = BTreeMap::new();
        let expected = |first: u64, last: u64, count: usize, key: u64| {
            (first.to_string(), last.to_string(), count, format!("{key:0>20}"))
        };
        for number in 1..=2_050 {
            make(&mut keys, journal.writes("/p/", &events(number)).expect("writes"));
            if number == 2_000 {
                assert_eq!(row(&keys, "/p/events/"), expected(1, 2_000, 2_000, 1));
            }
        }
        let all: Vec<Event> = (1..=2_050).flat_map(events).collect();
        // A store that is imported numbers what it keeps anew.
        let imported = kept("/p/", &all).expect("pairs").into_iter().collect();
        for name in ["/p/events/", "/p/history/", "/p/acts/", "/p/moves/"] {
            assert_eq!(row(&keys, name), expected(51, 2_050, 2_000, 51), "{name}");
            assert_eq!(row(&imported, name), expected(51, 2_050, 2_000, 1), "{name}");
        }
        assert_eq!(keys.len(), 8_000);
    }
}
