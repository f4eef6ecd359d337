//! The slots that the shards of a new cluster are given.

use api::moves::Slots;
use planner::Shard;
use topology::SLOT_COUNT;

/// Gives each shard the slots of its text, `-` for none; without any texts they keep what they
/// have.
///
/// # Errors
/// Another number of texts than of shards; what is no slots; slots that are given twice, or to
/// nobody.
pub(super) fn give(shards: &mut [Shard], texts: &[String]) -> Result<(), String> {
    if texts.is_empty() {
        return Ok(());
    }
    if texts.len() != shards.len() {
        return Err(format!(
            "slots are given for {} shards, of which there are {}: one text for each, `-` for none",
            texts.len(),
            shards.len()
        ));
    }
    let mut owners: Vec<Option<usize>> = vec![None; usize::from(SLOT_COUNT)];
    for (index, (shard, text)) in shards.iter_mut().zip(texts).enumerate() {
        shard.slot_ranges = Vec::new();
        if text == "-" {
            continue;
        }
        let slots: Slots = text.parse().map_err(|error| format!("shard {index}: {error}"))?;
        for slot in slots.iter() {
            let Some(owner) = owners.get_mut(usize::from(slot)) else { continue };
            if let Some(other) = owner.replace(index) {
                return Err(format!("slot {slot} is given to the shards {other} and {index}"));
            }
        }
        shard.slot_ranges = slots.ranges().to_vec();
    }
    match owners.iter().position(Option::is_none) {
        Some(slot) => Err(format!("slot {slot} is given to no shard: give all of them")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(texts: &[&str]) -> Result<Vec<Vec<(u16, u16)>>, String> {
        let shard = |_| Shard {
            id: planner::ShardId(1),
            nodes: Vec::new(),
            slot_ranges: vec![(1, 2)],
            intent: None,
            last_intent: None,
            fence: None,
            epoch: planner::Epoch::default(),
            floor: None,
        };
        let mut shards: Vec<Shard> = (0..3).map(shard).collect();
        let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
        give(&mut shards, &texts)?;
        Ok(shards.into_iter().map(|shard| shard.slot_ranges).collect())
    }

    #[test]
    fn each_slot_is_given_once() {
        assert_eq!(given(&[]), Ok(vec![vec![(1, 2)]; 3]), "as they are");
        let texts = ["0-99,8192-16383", "-", "100-8191"];
        let all = vec![vec![(0, 99), (8192, 16_383)], vec![], vec![(100, 8191)]];
        assert_eq!(given(&texts), Ok(all));
        let refused = [
            (&["0-16383"][..], "slots are given for 1 shards, of which there are 3"),
            (&["0-99", "99-16383", "-"], "slot 99 is given to the shards 0 and 1"),
            (&["0-98", "100-16383", "-"], "slot 99 is given to no shard"),
            (&["0-99", "100-16384", "-"], "shard 1: slots `100-16384`"),
        ];
        for (texts, why) in refused {
            let told = given(texts).unwrap_err();
            assert!(told.starts_with(why), "{told}");
        }
    }
}
