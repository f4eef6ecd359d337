//! Lifetimes of fields, as in Redis 7.4; HSETEXPIRE is Kvrocks'.

use storage::types::hash;
use storage::types::keys::{ExpireCondition, Lifetime};

use crate::command::args::parse_integer;
use crate::command::{Args, Error, Replied, Reply, Result};
use crate::session::{ReadCx, WriteCx};

/// The last end that Redis takes, Unix ms: 46 bits.
const END_MAX_MS: u64 = (1 << 46) - 1;

/// How a command states an end.
#[derive(Clone, Copy)]
pub(super) struct Form {
    pub(super) command: &'static str,
    /// What its number counts.
    pub(super) unit_ms: u64,
    /// Counted from now on, or from 1970.
    pub(super) is_relative: bool,
}

impl Form {
    /// The end, Unix ms.
    pub(super) fn end_ms(self, amount: i64, now_ms: u64) -> Result<u64> {
        let Ok(amount) = u64::try_from(amount) else {
            return Err(Error::text("ERR invalid expire time, must be >= 0"));
        };
        let since = if self.is_relative { now_ms } else { 0 };
        let end_ms = amount.checked_mul(self.unit_ms).and_then(|ms| ms.checked_add(since));
        end_ms
            .filter(|end_ms| *end_ms <= END_MAX_MS)
            .ok_or_else(|| Error::err(format!("invalid expire time in '{}' command", self.command)))
    }
}

/// `FIELDS`, how many, and so many fields, which end the command.
pub(super) fn fields<'a>(args: &mut Args<'a>, no_count: &'static str) -> Result<&'a [&'a [u8]]> {
    if args.word().as_deref() != Some(b"FIELDS") {
        return Err(Error::text(
            "ERR Mandatory argument FIELDS is missing or not at the right position",
        ));
    }
    let count = parse_integer(args.bytes()?).and_then(|count| usize::try_from(count).ok());
    let count = count.filter(|count| *count > 0).ok_or_else(|| Error::text(no_count))?;
    if count != args.len() {
        return Err(Error::text(
            "ERR The `numfields` parameter must match the number of arguments",
        ));
    }
    Ok(args.rest())
}

pub(super) const NO_COUNT: &str = "ERR Number of fields must be a positive integer";

fn expire(
    form: Form,
    cx: &mut WriteCx<'_>,
    args: &mut Args<'_>,
    reply: Reply<'_>,
) -> Result<Replied> {
    let at = cx.scope.at(args.bytes()?);
    // As in Redis, a wrong type comes before wrong words.
    hash::find(&cx.txn, &at)?;
    let end_ms = form.end_ms(args.integer()?, cx.scope.now_ms)?;
    let mut condition = ExpireCondition::default();
    let mut behind = args.clone();
    let is_condition = match behind.word().as_deref() {
        Some(b"NX") => Some(&mut condition.only_endless),
        Some(b"XX") => Some(&mut condition.only_limited),
        Some(b"GT") => Some(&mut condition.only_later),
        Some(b"LT") => Some(&mut condition.only_earlier),
        _ => None,
    };
    if let Some(is_so) = is_condition {
        (*is_so, *args) = (true, behind);
    }
    let fields = fields(args, "ERR Parameter `numFields` should be greater than 0")?;
    let done = hash::expire(&mut cx.txn, &at, fields, (end_ms, condition))?;
    Ok(numbers(reply, done.into_iter().map(|expired| expired as i64)))
}

fn numbers(reply: Reply<'_>, numbers: impl ExactSizeIterator<Item = i64>) -> Replied {
    reply.with(|writer| {
        writer.array(numbers.len());
        numbers.for_each(|number| writer.integer(number));
    })
}

macro_rules! expiring {
    ($($name:ident $unit_ms:literal $is_relative:literal)*) => {$(
        pub(super) fn $name(
            cx: &mut WriteCx<'_>,
            args: &mut Args<'_>,
            reply: Reply<'_>,
        ) -> Result<Replied> {
            let command = stringify!($name);
            expire(Form { command, unit_ms: $unit_ms, is_relative: $is_relative }, cx, args, reply)
        }
    )*};
}

expiring! {
    hexpire    1000 true
    hpexpire   1    true
    hexpireat  1000 false
    hpexpireat 1    false
}

/// When fields end as `tell` puts it; -2 for none, -1 for never.
fn ends(
    cx: &ReadCx<'_>,
    args: &mut Args<'_>,
    reply: Reply<'_>,
    tell: impl Fn(u64) -> u64,
) -> Result<Replied> {
    let at = cx.scope.at(args.bytes()?);
    hash::find(cx.txn, &at)?;
    let lifetimes = hash::lifetimes(cx.txn, &at, fields(args, NO_COUNT)?)?;
    Ok(numbers(
        reply,
        lifetimes.into_iter().map(|lifetime| match lifetime {
            Lifetime::Absent => -2,
            Lifetime::Endless => -1,
            Lifetime::Until(end_ms) => i64::try_from(tell(end_ms)).unwrap_or(i64::MAX),
        }),
    ))
}

pub(super) fn httl(cx: &ReadCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    // Rounded up, unlike TTL.
    ends(cx, args, reply, |end_ms| end_ms.saturating_sub(cx.scope.now_ms).div_ceil(1000))
}

pub(super) fn hpttl(cx: &ReadCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    ends(cx, args, reply, |end_ms| end_ms.saturating_sub(cx.scope.now_ms))
}

pub(super) fn hexpiretime(
    cx: &ReadCx<'_>,
    args: &mut Args<'_>,
    reply: Reply<'_>,
) -> Result<Replied> {
    ends(cx, args, reply, |end_ms| end_ms.div_ceil(1000))
}

pub(super) fn hpexpiretime(
    cx: &ReadCx<'_>,
    args: &mut Args<'_>,
    reply: Reply<'_>,
) -> Result<Replied> {
    ends(cx, args, reply, |end_ms| end_ms)
}

pub(super) fn hpersist(
    cx: &mut WriteCx<'_>,
    args: &mut Args<'_>,
    reply: Reply<'_>,
) -> Result<Replied> {
    let at = cx.scope.at(args.bytes()?);
    hash::find(&cx.txn, &at)?;
    let done = hash::persist(&mut cx.txn, &at, fields(args, NO_COUNT)?)?;
    Ok(numbers(reply, done.into_iter().map(|persisted| persisted as i64)))
}

/// HSET and EXPIRE of the key in one.
pub(super) fn hsetexpire(
    cx: &mut WriteCx<'_>,
    args: &mut Args<'_>,
    reply: Reply<'_>,
) -> Result<Replied> {
    let at = cx.scope.at(args.bytes()?);
    let seconds = args.number::<u64>()?;
    if !args.len().is_multiple_of(2) {
        return Err(Error::text(
            "ERR Invalid number of arguments: field-value pairs must be complete",
        ));
    }
    let ms = seconds.checked_mul(1000).and_then(|ms| ms.checked_add(cx.scope.now_ms));
    let end_ms = ms.filter(|ms| i64::try_from(*ms).is_ok());
    let end_ms =
        end_ms.ok_or_else(|| Error::text("ERR invalid expire time in 'hsetexpire' command"))?;
    hash::set_until(&mut cx.txn, &at, &args.pairs("hsetexpire")?, Some(end_ms))?;
    Ok(reply.ok())
}
