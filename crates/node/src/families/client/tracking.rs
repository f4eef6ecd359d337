//! CLIENT TRACKING, CACHING, TRACKINGINFO, GETREDIR. Texts are Redis 7's.

use std::sync::Arc;

use super::{is_of, own_namespace};
use crate::clients::Client;
use crate::command::{Args, Error, Reply, Result};
use crate::session::{After, SessionCx};
use crate::tracking::{Mode, Wish};

/// Bytes that the prefixes of one client may take: each change of a key by anybody looks them up.
const PREFIX_BYTES_MAX: usize = 64 << 20;

/// What the options of CLIENT TRACKING say.
#[derive(Default)]
struct Asked {
    wish: Wish,
    is_broadcast: bool,
    opts_in: bool,
    opts_out: bool,
    target: Option<Arc<Client>>,
}

impl Asked {
    fn parse(cx: &SessionCx<'_>, args: &mut Args<'_>) -> Result<Self> {
        let mut asked = Self::default();
        while let Some(word) = args.word() {
            match &*word {
                b"REDIRECT" if !args.is_empty() => {
                    if asked.wish.redirect.is_some() {
                        return Err(Error::err(
                            "A client can only redirect to a single other client",
                        ));
                    }
                    let id: u64 = args.number()?;
                    // As with KILL: one that is sent more than it reads is cut off.
                    let namespace = own_namespace(cx);
                    let target = cx.node.clients.find(id);
                    let target = target.filter(|client| is_of(namespace.as_deref(), client));
                    asked.target = Some(target.ok_or_else(|| {
                        Error::err("The client ID you want redirect to does not exist")
                    })?);
                    asked.wish.redirect = Some(id);
                }
                b"BCAST" => asked.is_broadcast = true,
                b"OPTIN" => asked.opts_in = true,
                b"OPTOUT" => asked.opts_out = true,
                b"NOLOOP" => asked.wish.is_no_loop = true,
                b"PREFIX" if !args.is_empty() => asked.wish.prefixes.push(args.bytes()?.to_vec()),
                _ => return Err(Error::Syntax),
            }
        }
        asked.wish.mode = match (asked.is_broadcast, asked.opts_in, asked.opts_out) {
            (true, ..) => Mode::Broadcast,
            (_, true, _) => Mode::OptIn,
            (_, _, true) => Mode::OptOut,
            _ => Mode::Read,
        };
        Ok(asked)
    }

    /// What cannot be together, and what cannot be changed while it lasts.
    fn check(&self, before: Option<&Wish>) -> Result<()> {
        let is_broadcast = self.is_broadcast;
        if !is_broadcast && !self.wish.prefixes.is_empty() {
            return Err(Error::err("PREFIX option requires BCAST mode to be enabled"));
        }
        if let Some(before) = before {
            let (is, was) = (self.wish.mode, before.mode);
            if is_broadcast != (was == Mode::Broadcast) {
                return Err(Error::err(
                    "You can't switch BCAST mode on/off before disabling tracking for this client, and then re-enabling it with a different mode.",
                ));
            }
            let switches = |one, other| is == one && was == other;
            if switches(Mode::OptIn, Mode::OptOut) || switches(Mode::OptOut, Mode::OptIn) {
                return Err(Error::err(
                    "You can't switch OPTIN/OPTOUT mode before disabling tracking for this client, and then re-enabling it with a different mode.",
                ));
            }
        }
        if is_broadcast && (self.opts_in || self.opts_out) {
            return Err(Error::err("OPTIN and OPTOUT are not compatible with BCAST"));
        }
        if self.opts_in && self.opts_out {
            return Err(Error::err("You can't specify both OPTIN mode and OPTOUT mode"));
        }
        self.check_prefixes(before)
    }

    /// Of two prefixes none begins with the other: a key is told once.
    fn check_prefixes(&self, before: Option<&Wish>) -> Result<()> {
        let own = self.wish.prefixes.as_slice();
        let known: &[Vec<u8>] = before.map_or(&[], |before| before.prefixes.as_slice());
        let Some((shorter, longer)) = meeting(own, known) else { return Ok(()) };
        if own.len() + known.len() > NAMED_MAX {
            return Err(overlaps(longer, "another provided", shorter));
        }
        let meets = |one: &[u8], other: &[u8]| one.starts_with(other) || other.starts_with(one);
        for (index, prefix) in own.iter().enumerate() {
            if let Some(known) = known.iter().find(|known| meets(known, prefix)) {
                return Err(overlaps(prefix, "an existing", known));
            }
            let others = own.get(index + 1..).unwrap_or_default();
            if let Some(other) = others.iter().find(|other| meets(other, prefix)) {
                return Err(overlaps(prefix, "another provided", other));
            }
        }
        Ok(())
    }
}

/// Of more prefixes than that any two that overlap are named, and not those that Redis would name.
const NAMED_MAX: usize = 1_000;

/// Two of these prefixes of which one begins with the other, the shorter one first; `None` where
/// nothing is new. One command may name any number: in the order of bytes what begins with a prefix
/// stands right behind it.
fn meeting<'p>(own: &'p [Vec<u8>], known: &'p [Vec<u8>]) -> Option<(&'p [u8], &'p [u8])> {
    if own.is_empty() {
        return None;
    }
    let mut all: Vec<&[u8]> = own.iter().chain(known).map(Vec::as_slice).collect();
    all.sort_unstable();
    let mut pairs = all.iter().zip(all.iter().skip(1));
    let (one, next) = pairs.find(|(one, next)| next.starts_with(one))?;
    Some((*one, *next))
}

fn overlaps(prefix: &[u8], what: &str, other: &[u8]) -> Error {
    Error::err(format_args!(
        "Prefix '{}' overlaps with {what} prefix '{}'. Prefixes for a single client must not overlap.",
        String::from_utf8_lossy(prefix),
        String::from_utf8_lossy(other)
    ))
}

pub(super) fn tracking(
    cx: &mut SessionCx<'_>,
    args: &mut Args<'_>,
    reply: Reply<'_>,
) -> Result<After> {
    let switch = args.word().ok_or(Error::Syntax)?;
    let mut asked = Asked::parse(cx, args)?;
    let me = cx.session.client.id;
    match &*switch {
        b"ON" => {
            let before = cx.node.tracking.of(me).map(|(wish, _)| wish);
            asked.check(before.as_deref())?;
            // As in Redis all keys are those with the empty prefix, which stays beside others.
            if asked.is_broadcast && asked.wish.prefixes.is_empty() {
                asked.wish.prefixes.push(Vec::new());
            }
            // Prefixes are added to those that there are.
            asked.wish.prefixes.extend(before.iter().flat_map(|before| before.prefixes.clone()));
            asked.wish.prefixes.sort();
            asked.wish.prefixes.dedup();
            if asked.wish.bytes() > PREFIX_BYTES_MAX {
                return Err(Error::err("the prefixes of this client are too many"));
            }
            let mode = asked.wish.mode;
            let session = &mut *cx.session;
            let target = asked.target;
            cx.node.tracking.begin(&session.client, &session.namespace, target, asked.wish);
            (session.tracks, session.caches) = (Some(mode), false);
        }
        b"OFF" => {
            cx.node.tracking.end(me);
            (cx.session.tracks, cx.session.caches) = (None, false);
        }
        _ => return Err(Error::Syntax),
    }
    Ok(reply.ok().into())
}

pub(super) fn caching(
    cx: &mut SessionCx<'_>,
    args: &mut Args<'_>,
    reply: Reply<'_>,
) -> Result<After> {
    let mode = cx.session.tracks;
    if mode.is_none() {
        return Err(Error::err(
            "CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or OPTOUT mode enabled",
        ));
    }
    match args.word().as_deref() {
        Some(b"YES") if mode == Some(Mode::OptIn) => {}
        Some(b"YES") => {
            return Err(Error::err(
                "CLIENT CACHING YES is only valid when tracking is enabled in OPTIN mode.",
            ));
        }
        Some(b"NO") if mode == Some(Mode::OptOut) => {}
        Some(b"NO") => {
            return Err(Error::err(
                "CLIENT CACHING NO is only valid when tracking is enabled in OPTOUT mode.",
            ));
        }
        _ => return Err(Error::Syntax),
    }
    cx.session.caches = true;
    Ok(reply.ok().into())
}

fn redirection(cx: &SessionCx<'_>) -> i64 {
    match cx.node.tracking.of(cx.session.client.id) {
        None => -1,
        Some((wish, _)) => i64::try_from(wish.redirect.unwrap_or(0)).unwrap_or(i64::MAX),
    }
}

pub(super) fn get_redirection(
    cx: &mut SessionCx<'_>,
    _args: &mut Args<'_>,
    reply: Reply<'_>,
) -> Result<After> {
    Ok(reply.integer(redirection(cx)).into())
}

pub(super) fn info(
    cx: &mut SessionCx<'_>,
    _args: &mut Args<'_>,
    reply: Reply<'_>,
) -> Result<After> {
    let found = cx.node.tracking.of(cx.session.client.id);
    let redirect = redirection(cx);
    let caches = cx.session.caches;
    let (wish, is_broken) = found.clone().unwrap_or_default();
    let flags: Vec<&str> = [
        ("off", found.is_none()),
        ("on", found.is_some()),
        ("bcast", wish.mode == Mode::Broadcast),
        ("optin", wish.mode == Mode::OptIn),
        ("caching-yes", wish.mode == Mode::OptIn && caches),
        ("optout", wish.mode == Mode::OptOut),
        ("caching-no", wish.mode == Mode::OptOut && caches),
        ("noloop", wish.is_no_loop),
        ("broken_redirect", is_broken),
    ]
    .into_iter()
    .filter(|(_, is)| *is)
    .map(|(word, _)| word)
    .collect();
    let replied = reply.with(|writer| {
        writer.map(3);
        writer.bulk(b"flags");
        writer.set(flags.len());
        for flag in flags {
            writer.bulk(flag.as_bytes());
        }
        writer.bulk(b"redirect");
        writer.integer(redirect);
        writer.bulk(b"prefixes");
        writer.bulks(&wish.prefixes);
    });
    Ok(replied.into())
}
