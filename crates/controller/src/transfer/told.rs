//! The event that an import, a migration or an adoption leaves in the store that begins with it. A
//! tool that works on a store itself asks no controller: the user and the host that run it stand in
//! the audit.

use std::os::unix::fs::MetadataExt as _;

use api::rest::{Actor, UserRole};

use crate::events::Event;
use crate::store::{Beginning, Export};

/// The same content, whose log ends with what is done.
pub(super) fn imported(export: &Export, beginning: &Beginning) -> Export {
    let mut export = export.clone();
    let number = export.events.iter().map(|event| event.number).max().unwrap_or(0);
    let clusters = export.clusters.len();
    let text = format!(
        "the store begins here as generation {}, with {clusters} clusters of {}{}",
        beginning.identity.generation,
        beginning.origin,
        taken(beginning)
    );
    let event = Event { number: number.saturating_add(1), ..event(beginning, text) };
    export.events.push(event);
    export
}

/// That a store was taken up again.
pub(super) fn adopted(beginning: &Beginning) -> Event {
    let generation = beginning.identity.generation;
    event(
        beginning,
        format!(
            "the store is adopted as generation {generation}: {}{}",
            beginning.origin,
            taken(beginning)
        ),
    )
}

/// Whose place it takes, behind what is done.
fn taken(beginning: &Beginning) -> String {
    let taken = beginning.takes.iter().map(|taken| taken.told());
    let taken: Vec<String> = taken.collect();
    match taken.is_empty() {
        true => String::new(),
        false => format!(", in the place of {}", taken.join(" and of ")),
    }
}

fn event(beginning: &Beginning, text: String) -> Event {
    Event::asked(&actor(), beginning.term, String::new(), text)
}

/// A hand that may write the store is an admin, whatever users it has.
fn actor() -> Actor {
    let who = match std::fs::metadata("/proc/self") {
        Ok(own) => format!("(ctl store, uid {})", own.uid()),
        Err(_) => "(ctl store)".to_owned(),
    };
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = host.trim();
    let from = if host.is_empty() { "this host".to_owned() } else { host.to_owned() };
    Actor { who, role: UserRole::Admin, from }
}

#[cfg(test)]
mod tests {
    use api::store::StoreId;

    use super::*;
    use crate::store::Identity;

    #[test]
    fn what_was_done_is_the_last_entry_of_the_log_and_of_the_audit() {
        let identity = Identity { name: "ab".to_owned(), generation: 3 };
        let old = Event { number: 7, ..Event::now(1, "n/c".to_owned(), "alarm", "x".to_owned()) };
        let export = Export {
            format: 1,
            identity: identity.clone(),
            term: 1,
            from: String::new(),
            made_at_ms: 0,
            namespaces: Vec::new(),
            clusters: Vec::new(),
            users: std::collections::BTreeMap::new(),
            events: vec![old],
        };
        let origin = "a file".to_owned();
        let taken = StoreId { name: 0xcd, generation: 4 };
        let beginning = Beginning { identity, term: 9, origin, takes: vec![taken] };
        let imported = imported(&export, &beginning);
        assert!(imported.has_the_content_of(&export));
        let [_, event] = &imported.events[..] else { panic!("{:?}", imported.events) };
        assert_eq!((event.number, event.term, &*event.cluster), (8, 9, ""));
        assert_eq!(
            event.text,
            "the store begins here as generation 3, with 0 clusters of a file, in the place of store 00000000000000cd, generation 4"
        );
        let by = event.by.as_ref().expect("an actor");
        assert!(by.who.starts_with("(ctl store") && event.is_history(), "{event:?}");
        assert!(adopted(&beginning).by.is_some());
    }
}
