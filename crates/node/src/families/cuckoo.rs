//! Cuckoo filters: the commands of RedisBloom, but those that take a filter apart. Replies of
//! CF.RESERVE and CF.ADD are Kvrocks'; it has the others in pull requests.

use storage::types::cuckoo::{self, Inserted, Inserting, Shape};

use crate::command::keys::KEY;
use crate::command::{Args, Error, Replied, Reply, Result};
use crate::session::{Command, ReadCx, WriteCx};

#[rustfmt::skip]
pub const COMMANDS: &[Command] = &[
    Command::write("cf.reserve", -3, KEY, reserve),
    Command::write("cf.add",      3, KEY, add),
    Command::write("cf.addnx",    3, KEY, add_new),
    Command::write("cf.insert",  -4, KEY, insert),
    Command::write("cf.insertnx", -4, KEY, insert_new),
    Command::write("cf.del",      3, KEY, del).removes(),
    Command::read ("cf.exists",   3, KEY, exists),
    Command::read ("cf.mexists", -3, KEY, mexists),
    Command::read ("cf.count",    3, KEY, count),
    Command::read ("cf.info",     2, KEY, info),
];

/// A number of this type in plain digits; how it is refused otherwise.
fn number<T: std::str::FromStr>(args: &mut Args<'_>, refusal: &'static str) -> Result<T> {
    let digits = args.bytes().ok().and_then(|word| std::str::from_utf8(word).ok());
    let digits = digits.filter(|digits| !digits.starts_with('+'));
    digits.and_then(|digits| digits.parse().ok()).ok_or(Error::Text(refusal.into()))
}

fn capacity(args: &mut Args<'_>) -> Result<u64> {
    match number(args, "ERR invalid capacity")? {
        0 => Err(Error::text("ERR capacity must be larger than 0")),
        capacity => Ok(capacity),
    }
}

fn bucket_size(args: &mut Args<'_>) -> Result<u8> {
    match number(args, "ERR invalid bucket size")? {
        0 => Err(Error::text("ERR bucket size must be between 1 and 255")),
        size => Ok(size),
    }
}

fn iterations(args: &mut Args<'_>) -> Result<u16> {
    match number(args, "ERR invalid max iterations")? {
        0 => Err(Error::text("ERR max iterations must be larger than 0")),
        iterations => Ok(iterations),
    }
}

/// Kvrocks' limit.
const EXPANSION_MAX: u16 = 32_768;

fn expansion(args: &mut Args<'_>) -> Result<u16> {
    match number(args, "ERR invalid expansion factor")? {
        expansion @ 0..=EXPANSION_MAX => Ok(expansion),
        _ => Err(Error::text("ERR expansion must be between 0 and 32768")),
    }
}

/// What a chain cannot be made of, in Kvrocks' words.
fn possible(shape: Shape) -> Result<Shape> {
    if shape.capacity < 2 {
        return Err(Error::text("ERR Invalid argument: capacity must be at least 2"));
    }
    if !shape.is_possible() {
        return Err(Error::text("ERR Invalid argument: capacity is too large"));
    }
    Ok(shape)
}

fn reserve(cx: &mut WriteCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    let at = cx.scope.at(args.bytes()?);
    let mut shape = Shape { capacity: capacity(args)?, ..Shape::default() };
    while let Some(word) = args.word() {
        match &*word {
            b"BUCKETSIZE" => shape.bucket_size = bucket_size(args)?,
            b"MAXITERATIONS" => shape.iterations = iterations(args)?,
            b"EXPANSION" => shape.expansion = expansion(args)?,
            _ => return Err(Error::Syntax),
        }
    }
    if !cuckoo::reserve(&mut cx.txn, &at, &possible(shape)?)? {
        return Err(Error::text("ERR Invalid argument: the key already exists"));
    }
    Ok(reply.ok())
}

fn add(cx: &mut WriteCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    one(cx, args, reply, false)
}

fn add_new(cx: &mut WriteCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    one(cx, args, reply, true)
}

fn one(
    cx: &mut WriteCx<'_>,
    args: &mut Args<'_>,
    reply: Reply<'_>,
    is_new_only: bool,
) -> Result<Replied> {
    let at = cx.scope.at(args.bytes()?);
    let how = Inserting { making: Some(Shape::default()), is_new_only };
    let made = cuckoo::insert(&mut cx.txn, &at, args.rest(), how)?;
    match made.as_deref() {
        Some([Inserted::Full]) => Err(Error::text("ERR Operation aborted: filter is full")),
        Some([Inserted::Longest]) => {
            Err(Error::text("ERR Operation aborted: maximum filter capacity reached"))
        }
        outcomes => Ok(reply.flag(outcomes == Some(&[Inserted::Added]))),
    }
}

fn insert(cx: &mut WriteCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    many(cx, args, reply, false)
}

fn insert_new(cx: &mut WriteCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    many(cx, args, reply, true)
}

fn many(
    cx: &mut WriteCx<'_>,
    args: &mut Args<'_>,
    reply: Reply<'_>,
    is_new_only: bool,
) -> Result<Replied> {
    let at = cx.scope.at(args.bytes()?);
    let (mut shape, mut creates) = (Shape::default(), true);
    let mut items: Option<&[&[u8]]> = None;
    while let Some(word) = args.word() {
        match &*word {
            b"CAPACITY" => shape.capacity = capacity(args)?,
            b"NOCREATE" => creates = false,
            b"ITEMS" => items = Some(args.rest()),
            _ => return Err(Error::Syntax),
        }
    }
    let items = items.ok_or(Error::Syntax)?;
    if items.is_empty() {
        return Err(Error::text("ERR num of items should be greater than 0"));
    }
    let making = Some(possible(shape)?).filter(|_| creates);
    let made = cuckoo::insert(&mut cx.txn, &at, items, Inserting { making, is_new_only })?;
    let outcomes = made.ok_or_else(missing)?;
    Ok(reply.with(|writer| {
        writer.array(outcomes.len());
        for outcome in outcomes {
            writer.integer(match outcome {
                Inserted::Added => 1,
                Inserted::There => 0,
                Inserted::Full | Inserted::Longest => -1,
            });
        }
    }))
}

fn missing() -> Error {
    Error::text("ERR key is not found")
}

fn del(cx: &mut WriteCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    let at = cx.scope.at(args.bytes()?);
    Ok(reply.flag(cuckoo::delete(&mut cx.txn, &at, args.bytes()?)?))
}

fn exists(cx: &ReadCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    let at = cx.scope.at(args.bytes()?);
    let is_there = cuckoo::has(&cx.txn.snapshot(), &at, args.rest())?;
    Ok(reply.flag(is_there.first() == Some(&true)))
}

fn mexists(cx: &ReadCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    let at = cx.scope.at(args.bytes()?);
    let are_there = cuckoo::has(&cx.txn.snapshot(), &at, args.rest())?;
    Ok(reply.with(|writer| {
        writer.array(are_there.len());
        are_there.into_iter().for_each(|is_there| writer.integer(i64::from(is_there)));
    }))
}

fn count(cx: &ReadCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    let at = cx.scope.at(args.bytes()?);
    Ok(reply.number(cuckoo::count(&cx.txn.snapshot(), &at, args.bytes()?)?))
}

fn info(cx: &ReadCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    let object = cuckoo::find(cx.txn, &cx.scope.at(args.bytes()?))?.ok_or_else(missing)?;
    let chain = object.tail;
    let facts = [
        ("Size", chain.bytes()?),
        ("Number of buckets", u64::from(chain.buckets()?)),
        ("Number of filters", u64::from(chain.filters)),
        ("Number of items inserted", object.size),
        ("Number of items deleted", chain.deleted),
        ("Bucket size", u64::from(chain.bucket_size)),
        ("Expansion rate", u64::from(chain.expansion)),
        ("Max iterations", u64::from(chain.iterations)),
    ];
    Ok(reply.with(|writer| {
        writer.array(2 * facts.len());
        for (name, fact) in facts {
            writer.simple(name);
            writer.integer(i64::try_from(fact).unwrap_or(i64::MAX));
        }
    }))
}
