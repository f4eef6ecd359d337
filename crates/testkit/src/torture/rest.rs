//! The controllers' REST interface, asked from within their own namespaces: no cut matters.
//!
//! Of several controllers any is asked: one that stands by passes it on. What may be done already
//! is not asked for once more, unless it changes nothing. A status counts as certain only where the
//! store says afterwards that the controller it is from still leads: one that was stopped for a
//! while goes on to tell what was so before, until it has looked.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use reqwest::Method;
use serde_json::Value as Json;

use super::etcd::Etcd;
use super::http::{Caller, Door, Question, apart};

/// Where the only one listens: loopback of its own namespace.
pub const LISTEN: &str = "127.0.0.1:9379";
/// Where one of several does, at an address of its host.
pub const PORT: u16 = 9379;
/// What those ask for.
pub const TOKEN: &str = "torture-of-several";
/// Path of the cluster of a run.
pub const CLUSTER: &str = "/namespaces/torture/clusters/main";

/// All controllers of a run.
#[derive(Debug, Clone)]
pub struct Control {
    doors: Vec<Door>,
    /// The etcd that they share.
    etcd: Option<Etcd>,
    /// Which one is asked first: the last one that answered.
    first: Arc<AtomicUsize>,
}

impl Control {
    /// One with a file of its own, or several that share an etcd.
    pub fn new(doors: Vec<Door>, etcd: Option<Etcd>) -> Self {
        Self { doors, etcd, first: Arc::default() }
    }

    /// Where each of them is.
    pub fn doors(&self) -> &[Door] {
        &self.doors
    }

    /// The etcd that they share.
    pub fn etcd(&self) -> Option<&Etcd> {
        self.etcd.as_ref()
    }

    /// Another one is asked first.
    fn turn(&self) {
        let next = (self.first.load(Ordering::Relaxed) + 1) % self.doors.len().max(1);
        self.first.store(next, Ordering::Relaxed);
    }

    /// Each of them alone.
    pub fn each(&self) -> impl Iterator<Item = Self> {
        let etcd = &self.etcd;
        self.doors.iter().map(move |door| Self::new(vec![door.clone()], etcd.clone()))
    }

    /// Some requests, from any thread.
    pub fn once<T: Send>(
        &self,
        patience: Duration,
        work: impl FnOnce(&Client) -> Result<T> + Send,
    ) -> Result<T> {
        apart(|| work(&Client::new(self, patience)?))
    }
}

/// Asks controllers; belongs to the thread that made it, as [`Caller`] does.
#[derive(Debug)]
pub struct Client {
    caller: Caller,
    control: Control,
}

impl Client {
    /// Each request may take so long at each controller.
    pub fn new(control: &Control, patience: Duration) -> Result<Self> {
        Ok(Self { caller: Caller::new(patience)?, control: control.clone() })
    }

    /// `GET` and its `data`.
    pub fn get(&self, path: &str) -> Result<Json> {
        self.ask(Method::GET, path, None)
    }

    /// `POST` and its `data`.
    pub fn post(&self, path: &str, body: &Json) -> Result<Json> {
        self.ask(Method::POST, path, Some(body))
    }

    /// `PATCH` and its `data`.
    pub fn patch(&self, path: &str, body: &Json) -> Result<Json> {
        self.ask(Method::PATCH, path, Some(body))
    }

    /// `DELETE` and its `data`.
    pub fn delete(&self, path: &str) -> Result<Json> {
        self.ask(Method::DELETE, path, None)
    }

    /// The cluster's status, as a controller tells that led when it was asked.
    ///
    /// # Errors
    /// Nobody tells it, or it is not certain that whoever did led.
    pub fn status(&self) -> Result<Json> {
        let path = format!("{CLUSTER}/status");
        let Some(etcd) = &self.control.etcd else { return self.get(&path) };
        let mut last = anyhow!("there is no controller");
        for _ in &self.control.doors {
            let status = self.get(&path)?;
            let told = status.get("term").and_then(Json::as_u64);
            let claim = etcd.claim(&self.caller)?.context("nobody ever led")?;
            if told == Some(claim.term) {
                return Ok(status);
            }
            last =
                anyhow!("the controller of term {told:?} answers, and term {} leads", claim.term);
            // It may be cut off, and go on to answer: another one is asked first from now on.
            self.control.turn();
        }
        Err(last)
    }

    fn ask(&self, method: Method, path: &str, body: Option<&Json>) -> Result<Json> {
        let (doors, first) = (self.control.doors.as_slice(), self.control.first.as_ref());
        let (path, is_read) = (format!("/api/v1{path}"), method == Method::GET);
        let question = Question { method, path: &path, body, is_read };
        let mut answer = self.caller.any((doors, first), &question)?;
        Ok(answer.get_mut("data").map(Json::take).unwrap_or_default())
    }
}

/// The first value under a name, however deep.
pub fn find<'a>(value: &'a Json, name: &str) -> Option<&'a Json> {
    match value {
        Json::Object(fields) => {
            fields.get(name).or_else(|| fields.values().find_map(|inner| find(inner, name)))
        }
        Json::Array(elements) => elements.iter().find_map(|inner| find(inner, name)),
        _ => None,
    }
}
