//! Does every slot accept writes? Asked the way a client would: a write to each of them.
//!
//! The write is a DEL of a key that nobody has: it passes every gate that a write must pass and
//! changes nothing.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use resp::{Value, encode_command};

use crate::client::Client;

const PATIENCE: Duration = Duration::from_secs(2);
const SLOTS: u16 = topology::model::SLOT_COUNT;

/// For each slot a key that falls into it.
#[derive(Debug)]
pub(crate) struct Keys(Vec<String>);

impl Keys {
    /// Tries numbers until every slot has one; some 170,000 hashes.
    pub(crate) fn find() -> Self {
        let mut keys = vec![String::new(); usize::from(SLOTS)];
        let mut missing = keys.len();
        for number in 0_u32.. {
            let key = format!("holdfast:probe:{number}");
            let slot = topology::slot::key_slot(key.as_bytes()).number();
            if let Some(place) = keys.get_mut(usize::from(slot)).filter(|place| place.is_empty()) {
                *place = key;
                missing -= 1;
                if missing == 0 {
                    break;
                }
            }
        }
        Self(keys)
    }
}

/// Writes once to every slot: those that `address` answers with MOVED are none of its business.
/// Returns the slots it accepted, or the first other error.
async fn accepted_by(address: SocketAddr, keys: &Keys) -> Result<u16> {
    let mut client = Client::connect(address, PATIENCE).await.context("connect")?;
    let bytes: Vec<u8> = keys.0.iter().flat_map(|key| encode_command(&["DEL", key])).collect();
    let replies = client.pipeline(&bytes, keys.0.len()).await.context("ask")?;
    let mut accepted = 0;
    for reply in replies {
        match reply {
            Value::Integer(_) => accepted += 1,
            Value::Error(text) if text.starts_with("MOVED ") => {}
            Value::Error(text) => bail!("{text}"),
            other => bail!("answered {other:?} to DEL"),
        }
    }
    Ok(accepted)
}

/// Ok if these addresses together accept writes to all slots; else what is in the way.
pub(crate) async fn all_accept(addresses: &[SocketAddr], keys: &Keys) -> Result<()> {
    let mut sum = 0;
    for address in addresses {
        sum += accepted_by(*address, keys).await.with_context(|| format!("{address}"))?;
    }
    if sum == SLOTS { Ok(()) } else { bail!("{sum} of {SLOTS} slots accept writes") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_slot_has_a_key_that_falls_into_it() {
        let keys = Keys::find();
        for slot in 0..SLOTS {
            let key = &keys.0[usize::from(slot)];
            assert_eq!(topology::slot::key_slot(key.as_bytes()).number(), slot);
        }
    }
}
