//! What reads or writes fields and lets them end, of Redis 8.

use storage::types::hash::{self, End, OnlyIf};

use super::lifetimes::{Form, fields};
use crate::command::args::parse_integer;
use crate::command::{Args, Error, Replied, Reply, Result};
use crate::session::WriteCx;

/// How an option states the end of fields; `None` for another word.
fn form(command: &'static str, word: &[u8]) -> Option<Form> {
    let (unit_ms, is_relative) = match word {
        b"EX" => (1000, true),
        b"PX" => (1, true),
        b"EXAT" => (1000, false),
        b"PXAT" => (1, false),
        _ => return None,
    };
    Some(Form { command, unit_ms, is_relative })
}

pub(super) fn hgetdel(
    cx: &mut WriteCx<'_>,
    args: &mut Args<'_>,
    reply: Reply<'_>,
) -> Result<Replied> {
    let at = cx.scope.at(args.bytes()?);
    // As in Redis, a wrong type comes before wrong words.
    hash::find(&cx.txn, &at)?;
    let fields = fields(args, super::lifetimes::NO_COUNT)?;
    Ok(reply.bulks_or_nulls(&hash::get_and_delete(&mut cx.txn, &at, fields)?))
}

pub(super) fn hgetex(
    cx: &mut WriteCx<'_>,
    args: &mut Args<'_>,
    reply: Reply<'_>,
) -> Result<Replied> {
    let at = cx.scope.at(args.bytes()?);
    hash::find(&cx.txn, &at)?;
    let mut behind = args.clone();
    let mut end_ms = None;
    let word = behind.word().unwrap_or_default();
    if let Some(form) = form("hgetex", &word) {
        let amount = behind.bytes()?;
        *args = behind;
        end_ms = Some((form, amount));
    } else if *word == *b"PERSIST" {
        *args = behind;
        let fields = fields(args, super::lifetimes::NO_COUNT)?;
        return Ok(reply.bulks_or_nulls(&hash::get_and_expire(&mut cx.txn, &at, fields, 0)?));
    }
    let fields = fields(args, super::lifetimes::NO_COUNT)?;
    let Some((form, amount)) = end_ms else {
        return reply.elements(fields.len(), |writer| {
            let mut bytes = 0_usize;
            Ok(hash::mget(&cx.txn, &at, fields, |value| {
                // As where an end is set: a field may be named any number of times.
                bytes = bytes.saturating_add(value.map_or(0, <[u8]>::len));
                cx.txn.must_have_room(bytes)?;
                writer.bulk_or_null(value);
                Ok(())
            })?)
        });
    };
    let amount = parse_integer(amount).ok_or(Error::NotInteger)?;
    // A zero that counts from 1970 is long past, and no word for "never".
    let end_ms = form.end_ms(amount, cx.scope.now_ms)?.max(1);
    Ok(reply.bulks_or_nulls(&hash::get_and_expire(&mut cx.txn, &at, fields, end_ms)?))
}

/// What stands before the fields of HSETEX.
#[derive(Default)]
struct Options {
    only_if: Option<OnlyIf>,
    end: Option<End>,
}

impl Options {
    /// Up to FIELDS, which is taken.
    fn parse(args: &mut Args<'_>, now_ms: u64) -> Result<Self> {
        let arity = || Error::Arity("hsetex".to_owned());
        let mut options = Self::default();
        loop {
            let shown = args.clone().bytes().map_err(|_| arity())?;
            let word = args.word().unwrap_or_default();
            let only_if = match &*word {
                b"FIELDS" => return Ok(options),
                b"FNX" => Some(OnlyIf::None),
                b"FXX" => Some(OnlyIf::All),
                _ => None,
            };
            if only_if.is_some() {
                if options.only_if.is_some() {
                    return Err(Error::text(
                        "ERR Only one of FXX or FNX arguments can be specified",
                    ));
                }
                options.only_if = only_if;
                continue;
            }
            let form = form("hsetex", &word);
            if form.is_none() && *word != *b"KEEPTTL" {
                let shown = String::from_utf8_lossy(shown);
                return Err(Error::err(format_args!("unknown argument: {shown}")));
            }
            if options.end.is_some() {
                return Err(Error::text(
                    "ERR Only one of EX, PX, EXAT, PXAT or KEEPTTL arguments can be specified",
                ));
            }
            options.end = Some(match form {
                None => End::Kept,
                Some(_) if args.is_empty() => return Err(Error::text("ERR missing expire time")),
                Some(form) => End::At(form.end_ms(args.integer()?, now_ms)?),
            });
        }
    }
}

pub(super) fn hsetex(
    cx: &mut WriteCx<'_>,
    args: &mut Args<'_>,
    reply: Reply<'_>,
) -> Result<Replied> {
    let at = cx.scope.at(args.bytes()?);
    let options = Options::parse(args, cx.scope.now_ms)?;
    let arity = || Error::Arity("hsetex".to_owned());
    if args.len() < 3 {
        return Err(arity());
    }
    let count = parse_integer(args.bytes()?).and_then(|count| i32::try_from(count).ok());
    let count = count.and_then(|count| usize::try_from(count).ok()).filter(|count| *count > 0);
    let count = count.ok_or_else(|| Error::text("ERR invalid number of fields"))?;
    if args.len() != count.saturating_mul(2) {
        return Err(arity());
    }
    let pairs = args.pairs("hsetex")?;
    let options = (options.only_if.unwrap_or_default(), options.end.unwrap_or_default());
    Ok(reply.flag(hash::set_and_expire(&mut cx.txn, &at, &pairs, options)?))
}
