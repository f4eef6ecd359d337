//! What adds and removes entries.

use storage::types::stream::{self, Addition, Id, NewId, SetId, Strategy, Trim};

use super::{id, ids, text};
use crate::command::{Args, Error, Replied, Reply, Result};
use crate::session::WriteCx;

/// So many entries a rough trim removes at most, if LIMIT does not say so.
const ROUGH_LIMIT: u64 = 10_000;

/// What stands before the identifier of XADD, and behind the key of XTRIM.
#[derive(Debug, Default)]
struct Options {
    strategy: Option<Strategy>,
    is_rough: bool,
    limit: Option<u64>,
    keeps_missing: bool,
    id: Option<NewId>,
}

impl Options {
    /// Reads them, for XADD as far as the identifier.
    fn read(args: &mut Args<'_>, is_xadd: bool) -> Result<Self> {
        let mut options = Self::default();
        while options.id.is_none() {
            let mut ahead = args.clone();
            let Some(word) = ahead.word() else { break };
            match &*word {
                b"*" if is_xadd => options.id = Some(NewId::Auto),
                b"MAXLEN" | b"MINID" if !ahead.is_empty() => {
                    options.read_strategy(&word, &mut ahead)?;
                }
                b"LIMIT" if !ahead.is_empty() => {
                    let wrong = || Error::text("ERR The LIMIT argument must be >= 0.");
                    options.limit = Some(u64::try_from(ahead.integer()?).map_err(|_| wrong())?);
                }
                b"NOMKSTREAM" if is_xadd => options.keeps_missing = true,
                _ if is_xadd => options.id = Some(new_id(args.clone().bytes()?)?),
                _ => return Err(Error::Syntax),
            }
            *args = ahead;
        }
        Ok(options)
    }

    fn read_strategy(&mut self, word: &[u8], args: &mut Args<'_>) -> Result<()> {
        if self.strategy.is_some() {
            return Err(Error::text(
                "ERR syntax error, MAXLEN and MINID options at the same time are not compatible",
            ));
        }
        let mut ahead = args.clone();
        let sign = ahead.bytes()?;
        self.is_rough = sign == b"~" && !ahead.is_empty();
        if self.is_rough || sign == b"=" && !ahead.is_empty() {
            *args = ahead;
        }
        self.strategy = Some(if *word == *b"MINID" {
            Strategy::MinId(id(args.bytes()?, 0)?)
        } else {
            let wrong = || Error::text("ERR The MAXLEN argument must be >= 0.");
            Strategy::MaxLen(u64::try_from(args.integer()?).map_err(|_| wrong())?)
        });
        Ok(())
    }

    /// What goes, if the options say so.
    fn trim(&self) -> Result<Option<Trim>> {
        let Some(strategy) = self.strategy else {
            const WRONG: &str =
                "ERR syntax error, LIMIT cannot be used without specifying a trimming strategy";
            return self.limit.map_or(Ok(None), |_| Err(Error::text(WRONG)));
        };
        let limit = match (self.limit, self.is_rough) {
            (Some(limit), true) => limit,
            (None, true) => ROUGH_LIMIT,
            (None, false) => 0,
            (Some(_), false) => {
                return Err(Error::text(
                    "ERR syntax error, LIMIT cannot be used without the special ~ option",
                ));
            }
        };
        Ok(Some(Trim { strategy, is_rough: self.is_rough, limit }))
    }
}

/// The identifier of a new entry, which may leave its number to us.
fn new_id(word: &[u8]) -> Result<NewId> {
    Ok(match word.strip_suffix(b"-*") {
        Some(ms) if !ms.contains(&b'-') => NewId::Within(id(ms, 0)?.ms),
        _ => NewId::Given(id(word, 0)?),
    })
}

pub(super) fn xadd(cx: &mut WriteCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    let at = cx.scope.at(args.bytes()?);
    let options = Options::read(args, true)?;
    let trim = options.trim()?;
    let fields = args.rest();
    let id = options.id.filter(|_| !fields.is_empty() && fields.len().is_multiple_of(2));
    let Some(id) = id else { return Err(Error::Arity("xadd".into())) };
    if id == NewId::Given(Id::MIN) {
        return Err(Error::text("ERR The ID specified in XADD must be greater than 0-0"));
    }
    let makes_stream = !options.keeps_missing;
    let id = stream::add(&mut cx.txn, &at, &Addition { id, fields, trim, makes_stream })?;
    Ok(match id {
        Some(id) => reply.bulk(&text(id)),
        None => reply.null(),
    })
}

pub(super) fn xtrim(
    cx: &mut WriteCx<'_>,
    args: &mut Args<'_>,
    reply: Reply<'_>,
) -> Result<Replied> {
    let at = cx.scope.at(args.bytes()?);
    let trim = Options::read(args, false)?.trim()?.ok_or(Error::Syntax)?;
    Ok(reply.number(stream::trim(&mut cx.txn, &at, &trim)?))
}

pub(super) fn xdel(cx: &mut WriteCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    let at = cx.scope.at(args.bytes()?);
    // As in Redis, identifiers do not matter where there is no stream.
    if stream::find(&cx.txn, &at)?.is_none() {
        return Ok(reply.integer(0));
    }
    Ok(reply.number(stream::del(&mut cx.txn, &at, &ids(args.rest())?)?))
}

pub(super) fn xsetid(
    cx: &mut WriteCx<'_>,
    args: &mut Args<'_>,
    reply: Reply<'_>,
) -> Result<Replied> {
    let at = cx.scope.at(args.bytes()?);
    let last_generated = id(args.bytes()?, 0)?;
    let mut set = SetId { last_generated, entries_added: None, max_deleted: None };
    while let Some(word) = args.word() {
        match &*word {
            b"ENTRIESADDED" if !args.is_empty() => {
                let wrong = || Error::text("ERR entries_added must be positive");
                set.entries_added = Some(u64::try_from(args.integer()?).map_err(|_| wrong())?);
            }
            b"MAXDELETEDID" if !args.is_empty() => {
                let deleted = id(args.bytes()?, 0)?;
                if deleted > last_generated {
                    return Err(Error::text(
                        "ERR The ID specified in XSETID is smaller than the provided \
                         max_deleted_entry_id",
                    ));
                }
                set.max_deleted = Some(deleted);
            }
            _ => return Err(Error::Syntax),
        }
    }
    stream::set_id(&mut cx.txn, &at, &set)?;
    Ok(reply.ok())
}
