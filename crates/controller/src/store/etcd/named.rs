//! Keys that are there or are not: namespaces and users. Each comes and goes in one transaction
//! with its event.

use super::wire::{Answer, Compare, Range, Write};
use super::{Changed, Etcd, encode};
use crate::access::User;
use crate::events::Event;
use crate::store::{Outcome, StoreError};

impl Etcd {
    pub(super) async fn add_namespace(&self, name: &str, event: &Event) -> Outcome {
        let key = self.key(&format!("namespaces/{name}"));
        self.add("create a namespace", key, String::new(), event).await
    }

    pub(super) async fn remove_namespace(&self, name: &str, event: &Event) -> Outcome {
        let key = self.key(&format!("namespaces/{name}"));
        let compares = vec![
            Compare::Present(key.clone()),
            Compare::NoneOf(self.key(&format!("clusters/{name}/"))),
        ];
        let why_not = |answer: &Answer| match answer.found(1).pairs.is_empty() {
            true => StoreError::NotFound,
            false => StoreError::NotEmpty,
        };
        let write = Write::Remove(key);
        self.make("delete a namespace", (compares, write), event, why_not).await
    }

    pub(super) async fn all_users(&self) -> Result<Vec<User>, StoreError> {
        let read = self.client.read("read users", &[Range::All(self.key("users/"))]).await?;
        let found = read.found(0);
        Ok(found.pairs.iter().filter_map(|pair| User::read(pair.value.as_bytes())).collect())
    }

    pub(super) async fn put_user(&self, user: &User, event: &Event) -> Outcome {
        match encode(user) {
            Ok(text) => {
                let key = self.key(&format!("users/{}", user.name));
                self.add("add a user", key, text, event).await
            }
            Err(error) => Outcome::NotDone(error),
        }
    }

    pub(super) async fn note_users(&self, seen: &[(String, u64)]) -> Outcome {
        let claim = match self.claimed() {
            Ok(claim) => claim,
            Err(error) => return Outcome::NotDone(error),
        };
        for (name, at_ms) in seen {
            let key = self.key(&format!("users/{name}"));
            let read = self.client.read("read a user", &[Range::Key(key.clone())]).await;
            let found = match read {
                Ok(read) => read.found(0).value().map(str::to_owned),
                Err(error) => return Outcome::NotDone(error),
            };
            let Some(was) = found else { continue };
            let next = User::seen(was.as_bytes(), *at_ms);
            let Some(next) = next.and_then(|next| String::from_utf8(next).ok()) else { continue };
            let (compare, write) = (Compare::Is(key.clone(), was), Write::Put(key, next));
            let what = ("note that a user was seen", &claim);
            match self.change(what, vec![compare], vec![write]).await {
                // One that was removed in between stays removed.
                Outcome::Done(_) => {}
                Outcome::NotDone(error) => return Outcome::NotDone(error),
                Outcome::Unknown(error) => return Outcome::Unknown(error),
            }
        }
        Outcome::Done(())
    }

    pub(super) async fn drop_user(&self, name: &str, event: &Event) -> Outcome {
        let key = self.key(&format!("users/{name}"));
        let compares = vec![Compare::Present(key.clone())];
        let write = Write::Remove(key);
        self.make("remove a user", (compares, write), event, |_| StoreError::NotFound).await
    }

    async fn add(&self, what: &'static str, key: String, value: String, event: &Event) -> Outcome {
        let compares = vec![Compare::Absent(key.clone())];
        let write = Write::Put(key, value);
        self.make(what, (compares, write), event, |_| StoreError::Exists).await
    }

    /// `why_not` tells what was not so.
    async fn make(
        &self,
        what: &'static str,
        (compares, write): (Vec<Compare>, Write),
        event: &Event,
        why_not: fn(&Answer) -> StoreError,
    ) -> Outcome {
        let claim = match self.claimed() {
            Ok(claim) => claim,
            Err(error) => return Outcome::NotDone(error),
        };
        let mut writes = match self.logged(&claim, std::slice::from_ref(event)).await {
            Ok(writes) => writes,
            Err(error) => return Outcome::NotDone(error),
        };
        writes.push(write);
        match self.change((what, &claim), compares, writes).await {
            Outcome::Done(Changed::Made) => Outcome::Done(()),
            Outcome::Done(Changed::Found(answer)) => Outcome::NotDone(why_not(&answer)),
            Outcome::NotDone(error) => Outcome::NotDone(error),
            Outcome::Unknown(error) => Outcome::Unknown(error),
        }
    }
}
