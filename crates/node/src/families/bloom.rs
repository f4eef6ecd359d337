//! Bloom filters. Replies are Kvrocks', which are RedisBloom's in all but texts of errors.

use storage::types::bloom::{self, Chain, Inserted, Shape};

use crate::command::keys::KEY;
use crate::command::{Args, Error, Replied, Reply, Result};
use crate::session::{Command, ReadCx, WriteCx};

#[rustfmt::skip]
pub const COMMANDS: &[Command] = &[
    Command::write("bf.reserve", -4, KEY, reserve),
    Command::write("bf.add",      3, KEY, add),
    Command::write("bf.madd",    -3, KEY, madd),
    Command::write("bf.insert",  -4, KEY, insert),
    Command::read ("bf.exists",   3, KEY, exists),
    Command::read ("bf.mexists", -3, KEY, mexists),
    Command::read ("bf.info",    -2, KEY, info),
    Command::read ("bf.card",     2, KEY, card),
];

/// A number of this type in plain digits; how it is refused otherwise.
fn number<T: std::str::FromStr>(args: &mut Args<'_>, refusal: &'static str) -> Result<T> {
    let digits = args.bytes().ok().and_then(|word| std::str::from_utf8(word).ok());
    let digits = digits.filter(|digits| !digits.starts_with('+'));
    digits.and_then(|digits| digits.parse().ok()).ok_or(Error::Text(refusal.into()))
}

fn error_rate(args: &mut Args<'_>) -> Result<f64> {
    let rate = args.float().map_err(|_| Error::text("ERR Bad error rate"))?;
    if rate > 0.0 && rate < 1.0 {
        return Ok(rate);
    }
    Err(Error::text("ERR error rate should be between 0 and 1"))
}

fn capacity(args: &mut Args<'_>) -> Result<u32> {
    match number(args, "ERR Bad capacity")? {
        0 => Err(Error::text("ERR capacity should be larger than 0")),
        capacity => Ok(capacity),
    }
}

fn expansion(args: &mut Args<'_>) -> Result<u16> {
    match number(args, "ERR Bad expansion")? {
        0 => Err(Error::text("ERR expansion should be greater or equal to 1")),
        expansion => Ok(expansion),
    }
}

/// How a chain grows: EXPANSION and NONSCALING say it, and exclude each other.
#[derive(Debug, Clone, Copy, Default)]
struct Growth {
    expansion: Option<u16>,
    is_fixed: bool,
}

impl Growth {
    fn expansion(self) -> Result<u16> {
        match self {
            Self { is_fixed: true, expansion: Some(_) } => {
                Err(Error::text("ERR nonscaling filters cannot expand"))
            }
            Self { is_fixed: true, .. } => Ok(0),
            Self { expansion, .. } => Ok(expansion.unwrap_or(Shape::default().expansion)),
        }
    }
}

fn reserve(cx: &mut WriteCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    let at = cx.scope.at(args.bytes()?);
    let (error_rate, capacity) = (error_rate(args)?, capacity(args)?);
    let mut growth = Growth::default();
    while let Some(word) = args.word() {
        match &*word {
            b"EXPANSION" => growth.expansion = Some(expansion(args)?),
            b"NONSCALING" => growth.is_fixed = true,
            _ => return Err(Error::Syntax),
        }
    }
    let shape = Shape { error_rate, capacity, expansion: growth.expansion()? };
    if !bloom::reserve(&mut cx.txn, &at, &shape)? {
        return Err(Error::text("ERR Invalid argument: the key already exists"));
    }
    Ok(reply.ok())
}

const FULL: &str = "ERR nonscaling filter is full";

/// What became of items, in an array.
fn outcomes(reply: Reply<'_>, outcomes: &[Inserted]) -> Replied {
    reply.with(|writer| {
        writer.array(outcomes.len());
        for outcome in outcomes {
            match outcome {
                Inserted::Added => writer.integer(1),
                Inserted::There => writer.integer(0),
                Inserted::Full => writer.error(FULL),
            }
        }
    })
}

fn add(cx: &mut WriteCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    let at = cx.scope.at(args.bytes()?);
    let items = args.rest();
    let made = bloom::insert(&mut cx.txn, &at, items, Some(&Shape::default()))?;
    match made.as_deref() {
        Some([Inserted::Full]) => Err(Error::text(FULL)),
        outcomes => Ok(reply.flag(outcomes == Some(&[Inserted::Added]))),
    }
}

fn madd(cx: &mut WriteCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    let at = cx.scope.at(args.bytes()?);
    let items = args.rest();
    let made = bloom::insert(&mut cx.txn, &at, items, Some(&Shape::default()))?;
    Ok(outcomes(reply, &made.unwrap_or_default()))
}

fn insert(cx: &mut WriteCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    let at = cx.scope.at(args.bytes()?);
    let (mut shape, mut growth, mut creates) = (Shape::default(), Growth::default(), true);
    let mut items: &[&[u8]] = &[];
    while let Some(word) = args.word() {
        match &*word {
            b"CAPACITY" => shape.capacity = capacity(args)?,
            b"ERROR" => shape.error_rate = error_rate(args)?,
            b"EXPANSION" => growth.expansion = Some(expansion(args)?),
            b"NONSCALING" => growth.is_fixed = true,
            b"NOCREATE" => creates = false,
            b"ITEMS" => items = args.rest(),
            _ => return Err(Error::Syntax),
        }
    }
    if items.is_empty() {
        return Err(Error::text("ERR num of items should be greater than 0"));
    }
    shape.expansion = growth.expansion()?;
    let shape = Some(&shape).filter(|_| creates);
    let made = bloom::insert(&mut cx.txn, &at, items, shape)?;
    Ok(outcomes(reply, &made.ok_or_else(missing)?))
}

fn missing() -> Error {
    Error::text("ERR key is not found")
}

fn exists(cx: &ReadCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    let at = cx.scope.at(args.bytes()?);
    let is_there = bloom::has(cx.txn, &at, args.rest())?;
    Ok(reply.flag(is_there.first() == Some(&true)))
}

fn mexists(cx: &ReadCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    let at = cx.scope.at(args.bytes()?);
    let are_there = bloom::has(cx.txn, &at, args.rest())?;
    Ok(reply.with(|writer| {
        writer.array(are_there.len());
        are_there.into_iter().for_each(|is_there| writer.integer(i64::from(is_there)));
    }))
}

/// What BF.INFO says: the word that asks for it alone, its name, the number; the last one is
/// nothing for chains that do not grow.
fn facts(size: u64, chain: &Chain) -> [(&'static [u8], &'static str, Option<u64>); 5] {
    let expansion = Some(u64::from(chain.expansion)).filter(|expansion| *expansion > 0);
    [
        (b"CAPACITY", "Capacity", Some(chain.items_max())),
        (b"SIZE", "Size", Some(u64::from(chain.bytes))),
        (b"FILTERS", "Number of filters", Some(u64::from(chain.filters))),
        (b"ITEMS", "Number of items inserted", Some(size)),
        (b"EXPANSION", "Expansion rate", expansion),
    ]
}

fn info(cx: &ReadCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    let at = cx.scope.at(args.bytes()?);
    if args.len() > 1 {
        return Err(Error::Arity("bf.info".into()));
    }
    let wanted = args.word();
    let is_known = |word: &[u8]| facts(0, &Chain::default()).iter().any(|(name, ..)| *name == word);
    if wanted.as_ref().is_some_and(|word| !is_known(word)) {
        return Err(Error::text("ERR Invalid info argument"));
    }
    let object = bloom::find(cx.txn, &at)?.ok_or_else(missing)?;
    let facts = facts(object.size, &object.tail);
    Ok(reply.with(|writer| {
        if wanted.is_none() {
            writer.array(2 * facts.len());
        }
        for (word, name, value) in facts {
            match &wanted {
                None => writer.simple(name),
                Some(wanted) if **wanted != *word => continue,
                Some(_) => {}
            }
            match value.map(|value| i64::try_from(value).unwrap_or(i64::MAX)) {
                Some(value) => writer.integer(value),
                None => writer.null(),
            }
        }
    }))
}

fn card(cx: &ReadCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    let object = bloom::find(cx.txn, &cx.scope.at(args.bytes()?))?;
    Ok(reply.number(object.map_or(0, |object| object.size)))
}
