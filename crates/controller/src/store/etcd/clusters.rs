//! Records of clusters: each is written in one transaction with its tag, its events, and the
//! addresses in use where they change.
//!
//! No record is written but against the tag that it was made from, or against there being none.

use planner::Record;

use super::used::{self, Used};
use super::wire::{Compare, Found, Range, Write};
use super::{AGAIN, Changed, Etcd};
use crate::events::Event;
use crate::seal::Keys;
use crate::store::{Outcome, StoreError, failed, sealed};

impl Etcd {
    pub(super) async fn put(
        &self,
        old: Option<&Record>,
        record: &Record,
        events: &[Event],
    ) -> Outcome {
        let claim = match self.claimed() {
            Ok(claim) => claim,
            Err(error) => return Outcome::NotDone(error),
        };
        let (doc, tag) = (key_of("clusters", record), key_of("tags", record));
        let (doc, tag) = (self.key(&doc), self.key(&tag));
        let (namespace, compare) = match old {
            Some(old) => (None, Compare::Is(tag.clone(), show(old.tag))),
            None => {
                let key = self.key(&format!("namespaces/{}", record.namespace));
                (Some(Compare::Present(key)), Compare::Absent(tag.clone()))
            }
        };
        for _ in 0..AGAIN {
            let mut writes = match self.logged(&claim, events).await {
                Ok(writes) => writes,
                Err(error) => return Outcome::NotDone(error),
            };
            let text = match sealed::text(record, &self.keys) {
                Ok(text) => text,
                Err(error) => return Outcome::NotDone(error),
            };
            let bytes = text.len();
            writes.push(Write::Put(doc.clone(), text));
            writes.push(Write::Put(tag.clone(), show(record.tag)));
            let mut compares = vec![compare.clone()];
            compares.extend(namespace.clone());
            if old.is_none_or(|old| used::addresses(old) != used::addresses(record)) {
                match self.reserve(record).await {
                    Ok((write, as_before)) => {
                        writes.push(write);
                        compares.push(as_before);
                    }
                    Err(error) => return Outcome::NotDone(error),
                }
            }
            let what = ("change a cluster", &claim);
            let found = match self.change(what, compares, writes).await {
                Outcome::Done(Changed::Made) => return self.made(record, bytes),
                Outcome::Done(Changed::Found(answer)) => answer,
                Outcome::NotDone(error) => return Outcome::NotDone(error),
                Outcome::Unknown(error) => return Outcome::Unknown(error),
            };
            let is_as_before = match old {
                Some(old) => found.found(1).value() == Some(&show(old.tag)),
                None => found.found(1).value().is_none(),
            };
            if !is_as_before {
                let is_there = found.found(1).value().is_some();
                return Outcome::NotDone(match (old.is_some(), is_there) {
                    (true, false) => StoreError::NotFound,
                    (true, true) => StoreError::Conflict,
                    (false, _) => StoreError::Exists,
                });
            }
            if namespace.is_some() && found.found(2).value().is_none() {
                return Outcome::NotDone(StoreError::NotFound);
            }
            // The addresses in use have changed meanwhile.
        }
        Outcome::NotDone(StoreError::Conflict)
    }

    /// A record of so many bytes was written.
    fn made(&self, record: &Record, bytes: usize) -> Outcome {
        self.sizes.wrote(&record.namespace, &record.name, bytes);
        Outcome::Done(())
    }

    /// The addresses in use, and what shows whether they are still so.
    async fn used(&self) -> Result<(Used, Compare), StoreError> {
        let key = self.key("used");
        let read =
            self.client.read("read the addresses in use", &[Range::Key(key.clone())]).await?;
        match read.found(0).value() {
            None => Ok((Used::default(), Compare::Absent(key))),
            Some(text) => {
                let used = Used::parse(text).map_err(failed("read the addresses in use"))?;
                // Its value has a tag, as a record: it is never the same twice.
                Ok((used, Compare::Is(key, text.to_owned())))
            }
        }
    }

    async fn reserve(&self, record: &Record) -> Result<(Write, Compare), StoreError> {
        let (mut used, as_before) = self.used().await?;
        used.take(record)?;
        Ok((Write::Put(self.key("used"), used.text()?), as_before))
    }

    pub(super) async fn forget(&self, namespace: String, name: String, event: Event) -> Outcome {
        let claim = match self.claimed() {
            Ok(claim) => claim,
            Err(error) => return Outcome::NotDone(error),
        };
        let doc = self.key(&format!("clusters/{namespace}/{name}"));
        let tag = self.key(&format!("tags/{namespace}/{name}"));
        for _ in 0..AGAIN {
            let prepared = async {
                let mut writes = self.logged(&claim, std::slice::from_ref(&event)).await?;
                let (mut used, as_before) = self.used().await?;
                used.release(&format!("{namespace}/{name}"));
                writes.push(Write::Put(self.key("used"), used.text()?));
                writes.extend([Write::Remove(doc.clone()), Write::Remove(tag.clone())]);
                Ok((writes, as_before))
            };
            let (writes, as_before) = match prepared.await {
                Ok(prepared) => prepared,
                Err(error) => return Outcome::NotDone(error),
            };
            let compares = vec![Compare::Present(tag.clone()), as_before];
            match self.change(("delete a cluster", &claim), compares, writes).await {
                Outcome::Done(Changed::Made) => return Outcome::Done(()),
                Outcome::Done(Changed::Found(answer)) if answer.found(1).value().is_none() => {
                    return Outcome::NotDone(StoreError::NotFound);
                }
                Outcome::Done(Changed::Found(_)) => {}
                Outcome::NotDone(error) => return Outcome::NotDone(error),
                Outcome::Unknown(error) => return Outcome::Unknown(error),
            }
        }
        Outcome::NotDone(StoreError::Conflict)
    }
}

pub(super) fn records(found: &Found, keys: &Keys) -> Result<Vec<Record>, StoreError> {
    found.pairs.iter().map(|pair| sealed::record(pair.value.as_bytes(), keys)).collect()
}

pub(super) fn key_of(what: &str, record: &Record) -> String {
    format!("{what}/{}/{}", record.namespace, record.name)
}

/// A tag as its key has it.
pub(super) fn show(tag: u64) -> String {
    format!("{tag:016x}")
}
