//! The log of events: what happens often, and apart from it what is asked for later.
//!
//! Numbers rise over both, so that the two can be shown as one.

use redb::{ReadableTable, ReadableTableMetadata as _, TableDefinition};

use super::{StoreError, engine, failed};
use crate::events::Event;

/// Every day's: alarms, changes of sets and topologies.
const EVENTS: TableDefinition<u64, &[u8]> = TableDefinition::new("events");
/// Failovers, switchovers, losses, acts of operators: no flood of the others drives them out.
const HISTORY: TableDefinition<u64, &[u8]> = TableDefinition::new("history");

/// How many are kept of each; older ones are dropped.
const EVENTS_MAX: usize = 10_000;
const HISTORY_MAX: usize = 50_000;

pub(super) fn create(tx: &redb::WriteTransaction) -> Result<(), StoreError> {
    tx.open_table(EVENTS).map_err(engine("open events"))?;
    tx.open_table(HISTORY).map_err(engine("open history"))?;
    Ok(())
}

pub(super) fn append(tx: &redb::WriteTransaction, event: &Event) -> Result<(), StoreError> {
    let mut events = tx.open_table(EVENTS).map_err(engine("open events"))?;
    let mut history = tx.open_table(HISTORY).map_err(engine("open history"))?;
    let number = last(&events)?.max(last(&history)?) + 1;
    let (table, most) = match event.is_history() {
        true => (&mut history, HISTORY_MAX),
        false => (&mut events, EVENTS_MAX),
    };
    let text = serde_json::to_vec(event).map_err(failed("encode an event"))?;
    table.insert(number, text.as_slice()).map_err(engine("write an event"))?;
    let count = table.len().map_err(engine("count events"))?;
    for _ in 0..count.saturating_sub(u64::try_from(most).unwrap_or(u64::MAX)) {
        table.pop_first().map_err(engine("drop an event"))?;
    }
    Ok(())
}

/// These events in place of all that there are; where there are more than is kept, the newest.
pub(super) fn replace(tx: &redb::WriteTransaction, all: &[Event]) -> Result<(), StoreError> {
    tx.delete_table(EVENTS).map_err(engine("empty the log"))?;
    tx.delete_table(HISTORY).map_err(engine("empty the log"))?;
    create(tx)?;
    for (table, most, is_history) in [(EVENTS, EVENTS_MAX, false), (HISTORY, HISTORY_MAX, true)] {
        let mut table = tx.open_table(table).map_err(engine("open the log"))?;
        let row: Vec<&Event> =
            all.iter().filter(|event| event.is_history() == is_history).collect();
        for event in &row[row.len().saturating_sub(most)..] {
            let text = serde_json::to_vec(event).map_err(failed("encode an event"))?;
            table.insert(event.number, text.as_slice()).map_err(engine("write an event"))?;
        }
    }
    Ok(())
}

fn last(table: &impl ReadableTable<u64, &'static [u8]>) -> Result<u64, StoreError> {
    let last = table.last().map_err(engine("read events"))?;
    Ok(last.map_or(0, |(number, _)| number.value()))
}

pub(super) fn newest(
    tx: &redb::ReadTransaction,
    limit: usize,
    wanted: impl Fn(&Event) -> bool,
) -> Result<Vec<Event>, StoreError> {
    let mut found = Vec::new();
    for table in [EVENTS, HISTORY] {
        let table = tx.open_table(table).map_err(engine("read events"))?;
        let mut of_table = 0;
        for row in table.iter().map_err(engine("read events"))?.rev() {
            let (number, bytes) = row.map_err(engine("read events"))?;
            let mut event: Event =
                serde_json::from_slice(bytes.value()).map_err(failed("read an event"))?;
            event.number = number.value();
            if wanted(&event) {
                found.push(event);
                of_table += 1;
            }
            if of_table >= limit {
                break;
            }
        }
    }
    found.sort_by_key(|event| event.number);
    found.drain(..found.len().saturating_sub(limit));
    Ok(found)
}
