//! A store of either kind, in the hands of a tool: no controller of ours is to lead from it
//! meanwhile.
//!
//! A file is held for as long as the value lives, so that no controller opens it. An etcd cannot be
//! held: each change compares what [`Idle::found`] read last, and shuts out whoever leads by it.

use std::path::PathBuf;
use std::sync::Arc;

use super::whole::{Beginning, Export, Found, GivenUp};
use super::{Place, StoreError, etcd, file};
use crate::events::Event;
use crate::seal::Keys;

/// Where a store is, or is to be.
#[derive(Debug, Clone)]
pub enum At {
    /// A file, and what secrets are sealed with there.
    File(PathBuf, Arc<Keys>),
    /// An etcd.
    Etcd(Place),
}

/// A store that is moved, or moved to. Calls on a file block on its disk.
#[derive(Debug)]
pub struct Idle {
    /// For people.
    place: String,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    File(PathBuf, Arc<Keys>, Option<file::Idle>),
    Etcd(Box<etcd::Idle>),
}

impl Idle {
    /// Opens a file, or reaches an etcd; nothing is made where there is none.
    ///
    /// # Errors
    /// A controller has the file, nobody answers, or what is there is no store or of a later
    /// format.
    pub async fn open(at: At) -> Result<Self, StoreError> {
        match at {
            At::File(path, keys) => {
                let file = file::Idle::open(&path, &keys)?;
                let place = path.display().to_string();
                Ok(Self { place, kind: Kind::File(path, keys, file) })
            }
            At::Etcd(place) => {
                let text = place.text();
                let etcd = etcd::Idle::open(place).await?;
                Ok(Self { place: text, kind: Kind::Etcd(Box::new(etcd)) })
            }
        }
    }

    /// Its file, or members and prefix of its etcd.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// What is there now.
    ///
    /// # Errors
    /// It cannot be read.
    pub async fn found(&mut self) -> Result<Found, StoreError> {
        match &mut self.kind {
            Kind::File(_, _, None) => Ok(Found::default()),
            Kind::File(_, _, Some(file)) => file.found(),
            Kind::Etcd(etcd) => etcd.found().await,
        }
    }

    /// All of it, of one moment, whether or not it was given up.
    ///
    /// # Errors
    /// It cannot be read, or there is none.
    pub async fn export(&self) -> Result<Export, StoreError> {
        match &self.kind {
            Kind::File(path, _, None) => Err(none(path)),
            Kind::File(_, _, Some(file)) => file.export(self.place.clone()),
            Kind::Etcd(etcd) => etcd.export().await,
        }
    }

    /// Marks it: from here on nobody leads from it, and whoever does ends.
    ///
    /// # Errors
    /// It is not done, or not known to be: look, and do it again.
    pub async fn give_up(&mut self, found: &Found, mark: &GivenUp) -> Result<(), StoreError> {
        match &mut self.kind {
            Kind::File(path, _, None) => Err(none(path)),
            Kind::File(_, _, Some(file)) => file.give_up(mark),
            Kind::Etcd(etcd) => etcd.give_up(found, mark).await,
        }
    }

    /// Takes it up again as it is, under another generation and a higher term; `event` says so in
    /// its log.
    ///
    /// # Errors
    /// As [`Idle::give_up`].
    pub async fn adopt(&mut self, as_: &Beginning, event: &Event) -> Result<(), StoreError> {
        match &mut self.kind {
            Kind::File(path, _, None) => Err(none(path)),
            Kind::File(_, _, Some(file)) => file.adopt(as_, event),
            Kind::Etcd(etcd) => etcd.adopt(as_, event).await,
        }
    }

    /// Shows that it would take all of `export`, and changes nothing: something of the size that is
    /// to come is written there, read back and removed.
    ///
    /// # Errors
    /// It would not, or does not answer; with the remedy, where one is known.
    pub async fn try_out(&self, export: &Export) -> Result<(), StoreError> {
        match &self.kind {
            Kind::File(path, ..) => file::try_out(path, export),
            Kind::Etcd(etcd) => etcd.try_out(export).await,
        }
    }

    /// Replaces what it holds. Until this has succeeded once, it is led from by nobody or as
    /// before.
    ///
    /// # Errors
    /// As [`Idle::give_up`].
    pub async fn fill(
        &mut self,
        found: &Found,
        export: &Export,
        as_: &Beginning,
    ) -> Result<(), StoreError> {
        match &mut self.kind {
            Kind::File(_, _, Some(file)) => file.fill(export, as_),
            Kind::File(path, keys, empty) => {
                empty.insert(file::Idle::make(path, keys)?).fill(export, as_)
            }
            Kind::Etcd(etcd) => etcd.fill(found, export, as_).await,
        }
    }
}

fn none(path: &std::path::Path) -> StoreError {
    StoreError::Unusable(format!("there is no file {}", path.display()))
}
