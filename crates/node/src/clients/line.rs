//! The line of CLIENT LIST.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::subscriptions::Kind as Subscription;
use super::{Client, Kind, Via};

impl Client {
    /// The line of CLIENT LIST, without line end. Fields are Redis', as far as there is something
    /// here to be measured; `via`, `peer` and `tls` are our own. What waits to be sent lies in one
    /// buffer:
    /// `obl` are its bytes and `omem` the memory that they take, so they are not to be added up.
    pub fn line(&self, now_ms: u64) -> String {
        let names = self.names.lock().clone();
        let command = self.command();
        let seconds = |from: u64| now_ms.saturating_sub(from) / 1000;
        let via = match self.via {
            Via::Direct => "direct".to_owned(),
            Via::Balancer { balancer, .. } => format!("balancer:{balancer}"),
            Via::Check { balancer } => format!("check:{balancer}"),
        };
        let shown = &self.shown;
        let count = |counter: &AtomicUsize| counter.load(Ordering::Relaxed);
        let subscribed = |kind| self.subscriptions.lock().of(kind).len();
        format!(
            "id={} addr={} laddr={} fd={} name={} age={} idle={} flags={} db={} sub={} psub={} ssub={} multi={} watch={} qbuf={} multi-mem={} \
             obl={} omem={} cmd={command} user={} redir={} resp={} lib-name={} lib-ver={} via={via} peer={}{}",
            self.id,
            self.shown_address(),
            self.file.as_ref().map_or_else(|| self.local.to_string(), |path| format!("{path}:0")),
            self.descriptor.load(Ordering::Relaxed),
            names.name,
            seconds(self.since_ms),
            seconds(self.last_ms.load(Ordering::Relaxed)),
            self.flags(),
            names.database,
            subscribed(Subscription::Channel),
            subscribed(Subscription::Pattern),
            subscribed(Subscription::Shard),
            shown.queued.load(Ordering::Relaxed),
            count(&shown.watched),
            count(&self.query_bytes),
            count(&shown.queued_bytes),
            count(&self.reply_bytes) + self.inbox.len(),
            count(&self.reply_memory) + self.inbox.len(),
            if names.user.is_empty() { "default" } else { &names.user },
            self.redirect(),
            shown.resp.load(Ordering::Relaxed),
            names.library,
            names.version,
            format_args!(
                "{}{}",
                u8::from(self.is_peer.load(Ordering::Relaxed)),
                self.tls.get().map_or_else(String::new, |version| format!(" tls={version}")),
            ),
            match names.namespace.as_str() {
                "" => String::new(),
                name => format!(" namespace={name}"),
            },
        )
    }

    /// Which connection is told of changes in its place; 0: none is, -1: it does not ask for them.
    fn redirect(&self) -> i64 {
        if !self.tracks.is_on.load(Ordering::Relaxed) {
            return -1;
        }
        i64::try_from(self.tracks.redirect.load(Ordering::Relaxed)).unwrap_or(i64::MAX)
    }

    /// Letters of CLIENT LIST, as Redis has them.
    fn flags(&self) -> String {
        let is = |flag: &AtomicBool| flag.load(Ordering::Relaxed);
        let (shown, tracks) = (&self.shown, &self.tracks);
        let letters = [
            ('S', self.kind() == Kind::Replica),
            ('M', self.kind() == Kind::Master),
            ('P', self.kind() == Kind::Subscriber),
            ('x', shown.queued.load(Ordering::Relaxed) >= 0),
            ('b', is(&shown.is_blocked)),
            ('t', is(&tracks.is_on)),
            ('R', is(&tracks.is_broken)),
            ('B', is(&tracks.is_broadcast)),
            ('d', is(&shown.is_dirty)),
            ('r', is(&shown.is_readonly)),
            ('U', self.file.is_some()),
            ('O', is(&self.is_monitor)),
        ];
        let letters: String =
            letters.into_iter().filter(|(_, has)| *has).map(|(letter, _)| letter).collect();
        if letters.is_empty() { "N".to_owned() } else { letters }
    }
}
