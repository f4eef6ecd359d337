//! What may be done with two stores, from what was found at each. Pure.

use api::store::StoreId;

use crate::store::{Found, Identity};

/// What an import is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Next {
    /// Put the content there, as this generation.
    Fill(u64),
    /// It is there already, as this generation: an earlier attempt has come so far.
    Done,
}

/// Terms of a store that begins are above all that the nodes may have seen by so much at least: the
/// old store's controllers raise theirs by one with each start, or claim.
const JUMP: u64 = 1_000_000;

/// The term below which nobody leads from a store that begins: above the newest known one. `random`
/// keeps two stores that begin from one export apart: with the same term nodes would obey both.
pub(super) fn term(known: u64, random: u64) -> u64 {
    known.saturating_add(JUMP).saturating_add(random % JUMP)
}

/// Above what an import of that store begins with, if its nodes have seen no more than it.
pub(super) fn most(known: u64) -> u64 {
    known.saturating_add(2 * JUMP).saturating_add(1)
}

/// The term that a store begins with which is made of `found`: that of an earlier attempt, which
/// its mark has, where that is high enough.
pub(super) fn begins_with(found: &Found, known: u64, random: u64) -> u64 {
    let marked = found.given_up.as_ref().map(|mark| mark.term).filter(|term| *term > 0);
    // Its leaders have higher ones: an import that has not ended says this very term.
    marked.filter(|marked| *marked >= known).unwrap_or_else(|| term(known, random))
}

/// The highest term that a store which was made of `found` may have begun with, as far as it is
/// known here: 0 where none was.
pub(super) fn begun_elsewhere(found: &Found) -> u64 {
    found.given_up.as_ref().map_or(0, |mark| match mark.term {
        0 => most(found.term),
        term => term,
    })
}

/// Whether `found` can be given up, and what it is called. `goes_on`: if it was already, then for
/// this very place.
pub(super) fn source(found: &Found, place: &str, goes_on: bool) -> Result<Identity, String> {
    if found.is_filling {
        return Err(format!("an import into {place} has not ended: make it once more"));
    }
    let Some(identity) = found.identity.clone().filter(|_| !is_empty(found)) else {
        return Err(format!("{place} holds no cluster and no namespace: there is nothing to move"));
    };
    match &found.given_up {
        Some(mark) if !goes_on => Err(format!(
            "{place} was given up for {} already, as generation {}: go on from there, or take this one up again by `holdfast ctl store adopt`",
            mark.to, mark.generation
        )),
        _ => Ok(identity),
    }
}

/// What becomes of `found` when the content of the store `of` is to go there. `mark`: the
/// generation that store was given up for, if it was. `replace`: an older generation of the same
/// store may be overwritten.
pub(super) fn target(
    of: &Identity,
    mark: Option<u64>,
    found: &Found,
    place: &str,
    replace: bool,
) -> Result<Next, String> {
    let same = found.identity.as_ref().filter(|there| there.name == of.name);
    let there = same.map_or(0, |there| there.generation);
    // What was made of it counts for more than it, too.
    let made = found.given_up.as_ref().filter(|_| same.is_some()).map_or(0, |of| of.generation);
    let next = mark.unwrap_or(0).max(after(of.generation)).max(after(there.max(made)));
    if found.is_filling {
        return goes_on_filling(of, found, place).map(|()| Next::Fill(next));
    }
    if is_empty(found) {
        return Ok(Next::Fill(next));
    }
    if same.is_none() {
        return Err(format!(
            "{place} holds other clusters ({} of them): nothing is imported there. Say another `data` file or `etcd_prefix`, or remove them",
            found.clusters
        ));
    }
    if mark.is_some() && mark == Some(there) && found.given_up.is_none() {
        return Ok(Next::Done);
    }
    if there >= of.generation {
        return Err(format!(
            "{place} is generation {there} of this very store, and what is to be imported is generation {}: it is no older one",
            of.generation
        ));
    }
    if !replace {
        return Err(format!(
            "{place} is generation {there} of this very store, with {} clusters: --replace overwrites it",
            found.clusters
        ));
    }
    Ok(Next::Fill(next))
}

/// An import that stopped half way is ended by the same store, or by a later generation of it: else
/// two operators would put two stores into one place, and each believe that it holds theirs.
fn goes_on_filling(of: &Identity, found: &Found, place: &str) -> Result<(), String> {
    let whose = match &found.filling_of {
        Some(begun) if begun.name == of.name && begun.generation <= of.generation => return Ok(()),
        Some(begun) => format!("of store {}, generation {}", begun.name, begun.generation),
        None => "by an earlier version".to_owned(),
    };
    Err(format!(
        "an import into {place} {whose} has begun and not ended, and this is store {}, generation {}: make that import once more, or remove all keys of that prefix (`etcdctl del --prefix`), or say another `etcd_prefix`",
        of.name, of.generation
    ))
}

/// `next`, or above every generation of the store `name` that its nodes were led from: they refuse
/// lower ones.
pub(super) fn generation(next: u64, name: &str, stores: &[StoreId]) -> u64 {
    let known = |of: &&StoreId| StoreId::new(name, of.generation) == Some(**of);
    stores.iter().filter(known).map(|of| after(of.generation)).fold(next, u64::max)
}

/// The other stores that its nodes were led from, whose place a store of that name takes.
pub(super) fn takes(name: &str, stores: &[StoreId]) -> Vec<StoreId> {
    let own = StoreId::new(name, 1).map(|own| own.name);
    stores.iter().copied().filter(|of| own.is_some_and(|own| own != of.name)).collect()
}

/// The next generation.
pub(super) fn after(generation: u64) -> u64 {
    generation.saturating_add(1)
}

/// Nothing is lost with it.
pub(super) fn is_empty(found: &Found) -> bool {
    found.clusters == 0 && found.namespaces == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::GivenUp;

    fn named(name: &str, generation: u64) -> Identity {
        Identity { name: name.to_owned(), generation }
    }

    fn found(name: &str, generation: u64) -> Found {
        let identity = Some(named(name, generation));
        Found { identity, term: 9, namespaces: 1, clusters: 2, ..Found::default() }
    }

    fn marked(to: &str, generation: u64, found: Found) -> Found {
        let mark = GivenUp { to: to.to_owned(), generation, term: 70, at_ms: 1 };
        Found { given_up: Some(mark), ..found }
    }

    #[test]
    fn a_store_is_given_up_once_and_for_one_place() {
        assert_eq!(source(&found("a", 1), "here", true), Ok(named("a", 1)));
        let again = marked("there", 2, found("a", 1));
        assert_eq!(source(&again, "here", true), Ok(named("a", 1)), "the same once more");
        let other = source(&again, "here", false).expect_err("another place");
        assert!(other.contains("for there already"), "{other}");
        assert!(source(&Found::default(), "here", true).is_err());
        let nothing = Found { namespaces: 0, clusters: 0, ..found("a", 1) };
        assert!(source(&nothing, "here", true).is_err());
        let half = Found { is_filling: true, ..found("a", 1) };
        assert!(source(&half, "here", true).is_err());
    }

    #[test]
    fn an_empty_place_takes_any_store_under_a_higher_generation() {
        let of = named("a", 3);
        let go = |mark, found: &Found| target(&of, mark, found, "there", false);
        assert_eq!(go(None, &Found::default()), Ok(Next::Fill(4)));
        let used = Found { namespaces: 0, clusters: 0, ..found("b", 8) };
        assert_eq!(go(None, &used), Ok(Next::Fill(4)), "a controller has begun there");
        let filling_of = Some(named("a", 3));
        let half = Found { is_filling: true, filling_of, ..found("a", 7) };
        assert_eq!(go(Some(4), &half), Ok(Next::Fill(8)), "an attempt that did not end");
    }

    #[test]
    fn an_import_that_stopped_half_way_is_gone_on_with_by_the_same_store_alone() {
        let half = |filling_of: Option<Identity>| {
            // It may hold anything by then, or nothing yet.
            let found = Found { is_filling: true, filling_of, clusters: 0, ..found("x", 1) };
            target(&named("a", 3), None, &found, "there", true)
        };
        assert_eq!(half(Some(named("a", 3))), Ok(Next::Fill(4)));
        assert_eq!(half(Some(named("a", 2))), Ok(Next::Fill(4)), "a later life of it");
        let other = half(Some(named("b", 1))).expect_err("another store");
        assert!(other.contains("of store b, generation 1 has begun"), "{other}");
        assert!(other.contains("etcdctl del --prefix"), "{other}");
        assert!(half(Some(named("a", 4))).is_err(), "an older life of it");
        assert!(half(None).expect_err("nobody says").contains("by an earlier version"));
    }

    #[test]
    fn what_holds_clusters_is_overwritten_only_where_it_is_an_older_life_of_the_same_store() {
        let of = named("a", 3);
        let go = |found: &Found, replace| target(&of, None, found, "there", replace);
        for replace in [false, true] {
            assert!(go(&found("b", 1), replace).is_err(), "another store");
            assert!(go(&found("a", 3), replace).is_err(), "this very one");
            assert!(go(&found("a", 4), replace).is_err(), "a newer one");
        }
        assert!(go(&found("a", 2), false).expect_err("not said").contains("--replace"));
        let old = marked("elsewhere", 3, found("a", 2));
        assert_eq!(go(&old, true), Ok(Next::Fill(4)), "the way back");
        let made = marked("elsewhere", 9, found("a", 2));
        assert_eq!(go(&made, true), Ok(Next::Fill(10)), "above what was made of it");
    }

    #[test]
    fn a_migration_that_ended_without_saying_so_is_seen_to_be_done() {
        let of = named("a", 3);
        let go = |found: &Found| target(&of, Some(4), found, "there", false);
        assert_eq!(go(&found("a", 4)), Ok(Next::Done));
        // It has gone on from there since.
        assert!(go(&marked("elsewhere", 5, found("a", 4))).is_err());
        assert!(go(&found("a", 5)).is_err());
    }

    #[test]
    fn a_store_that_was_given_up_knows_what_terms_the_other_began_with() {
        let (plain, marked) = (found("a", 1), marked("there", 2, found("a", 1)));
        assert_eq!((begun_elsewhere(&plain), begun_elsewhere(&marked)), (0, 70));
        // An earlier version's mark has none: above whatever was made of it then.
        let mut old = marked.clone();
        old.given_up.as_mut().expect("a mark").term = 0;
        assert!(begun_elsewhere(&old) > term(old.term, JUMP - 1));
        // Made once more, a command goes on with the term that is in the mark.
        assert_eq!(begins_with(&marked, 9, 5), 70);
        assert_eq!((begins_with(&marked, 70, 5), begins_with(&marked, 71, 5)), (70, term(71, 5)));
        assert_eq!(begins_with(&plain, 9, 5), term(9, 5));
        assert_eq!(begins_with(&Found::default(), 0, 5), term(0, 5));
    }

    #[test]
    fn a_store_that_begins_is_obeyed_by_nodes_that_were_led_from_a_later_life_or_another_one() {
        let of = |name, generation| StoreId { name, generation };
        let stores = [of(0xa, 4), of(0xb, 7), of(0xc, 1)];
        assert_eq!(generation(3, "a", &stores), 5, "they refuse the fourth and lower ones");
        assert_eq!(generation(3, "000000000000000a", &stores), 5);
        assert_eq!(generation(9, "a", &stores), 9);
        assert_eq!(generation(3, "d", &stores), 3);
        assert_eq!(generation(3, "no name", &stores), 3);
        assert_eq!(takes("a", &stores), stores[1..]);
        assert_eq!(takes("d", &stores), stores);
        assert_eq!(takes("no name", &stores), [], "it says nothing to nodes");
    }

    #[test]
    fn terms_of_a_store_that_begins_are_out_of_reach_of_the_old_one_and_of_each_other() {
        assert_eq!(term(7, 0), 1_000_007);
        assert_eq!(term(7, JUMP + 5), 1_000_012);
        assert_eq!(term(u64::MAX, 5), u64::MAX);
    }
}
