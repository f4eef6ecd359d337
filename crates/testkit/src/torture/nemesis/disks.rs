//! Disks that are full, hang, or are lost.
//!
//! Each that is begun has its end in `undo`.

use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::Value as Json;

use super::{Nemesis, Undo};
use crate::disk::{self, Frozen};
use crate::torture::actions::Target;
use crate::torture::rest;

/// A process stands still meanwhile.
const PATIENCE: Duration = Duration::from_millis(1_500);

impl Nemesis<'_> {
    pub(super) fn fill(&mut self, target: Target, end: u64) -> Result<()> {
        let Some(index) = self.host_of(target) else { return Ok(()) };
        if self.frozen.contains_key(&index) {
            // We would wait, too.
            self.say("not filled, for it hangs: the disk of", index);
            return Ok(());
        }
        self.say("fill the disk of", index);
        disk::fill(&self.site.hosts[index].dir)?;
        self.undo.push((end, Undo::Free(index)));
        Ok(())
    }

    pub(super) fn hang(&mut self, target: Target, end: u64) -> Result<()> {
        let Some(index) = self.host_of(target) else { return Ok(()) };
        let dir = self.site.hosts[index].dir.clone();
        if disk::filling(&dir).exists() || self.frozen.contains_key(&index) {
            self.say("not frozen, for it is full or hangs: the disk of", index);
            return Ok(());
        }
        self.say("freeze the disk of", index);
        self.frozen.insert(index, Frozen::new(&dir)?);
        self.undo.push((end, Undo::Thaw(index)));
        Ok(())
    }

    /// What only one disk had is gone with it, and nobody promises more: a disk is lost only while
    /// another member of the set has what the master could have acknowledged. Whatever that was is
    /// known once the process stands still.
    pub(super) fn lose(&mut self, target: Target, end: u64) -> Result<()> {
        let Some(index) = self.host_of(target) else { return Ok(()) };
        let host = &mut self.site.hosts[index];
        let is_busy = disk::filling(&host.dir).exists() || self.frozen.contains_key(&index);
        if is_busy || host.is_stopped() || !host.runs() {
            self.say("not lost, for it has another fault: the disk of", index);
            return Ok(());
        }
        host.stop()?;
        if !self.is_held_elsewhere(index) {
            self.site.hosts[index].go_on()?;
            self.say("not lost, for nobody else may have what is on it: the disk of", index);
            return Ok(());
        }
        self.say("lose the disk of", index);
        let host = &mut self.site.hosts[index];
        host.kill()?;
        for name in ["db", "db.deposed"] {
            let path = host.dir.join(name);
            match std::fs::remove_dir_all(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(error).with_context(|| format!("remove {}", path.display()));
                }
                _ => {}
            }
        }
        self.undo.push((end, Undo::Start(index)));
        self.undo_due(self.now_ms())
    }

    /// By the store, as it is after the host's process stands still: sets change only by that
    /// process' own requests, and it acknowledged nothing without a member that the store still
    /// holds.
    fn is_held_elsewhere(&self, index: usize) -> bool {
        let Ok(status) = self.site.control().once(PATIENCE, rest::Client::status) else {
            return false;
        };
        let host_of = |id: &str| self.site.member(id).map(|member| member.host);
        let ids = |value: &Json| -> Vec<String> {
            let all = value.as_array().into_iter().flatten();
            all.filter_map(|id| id.as_str().map(str::to_owned)).collect()
        };
        let shards = status["shards"].as_array().cloned().unwrap_or_default();
        shards.iter().map(|shard| ids(&shard["in_sync"])).any(|members| {
            let hosts: Vec<_> = members.iter().filter_map(|id| host_of(id)).collect();
            hosts.contains(&index) && hosts.iter().any(|other| *other != index)
        })
    }
}
