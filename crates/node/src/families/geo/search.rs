//! GEOSEARCH, and the older commands of which it is the general form.
//!
//! Of several errors in one command the first is told in Redis' order: the type of the value, what
//! stands at the fixed places, the words behind them one by one, what is missing.

use std::cmp::Ordering;

use storage::types::geo::{self, Found, Point, Query, Shape};
use storage::types::keys;
use storage::types::object::Object;
use storage::types::zset::{self, Zset};
use storage::{At, Scope, Snapshot};

use super::{coordinates, distance, point, unit};
use crate::command::{Args, Error, Replied, Reply, Result};
use crate::session::{ReadCx, WriteCx};

/// Which command it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// GEORADIUS.
    Radius,
    /// GEORADIUSBYMEMBER.
    ByMember,
    /// GEOSEARCH.
    Search,
    /// GEOSEARCHSTORE.
    SearchStore,
}

impl Form {
    fn is_search(self) -> bool {
        matches!(self, Self::Search | Self::SearchStore)
    }
}

/// What a search is told.
#[derive(Debug, Default)]
struct Request<'a> {
    /// `None` also for a member of a key that is not there.
    centre: Option<Point>,
    is_from_member: bool,
    is_from_point: bool,
    shape: Option<Shape>,
    unit: f64,
    with_distance: bool,
    with_hash: bool,
    with_coordinates: bool,
    is_any: bool,
    /// 0: all.
    count: usize,
    /// Nearest first, or farthest.
    order: Option<Ordering>,
    stored: Option<&'a [u8]>,
    stores_distance: bool,
}

/// Where results may go: behind STORE and STOREDIST. One that stands for something else is locked
/// for nothing.
pub(super) fn destinations(words: &[&[u8]]) -> Vec<usize> {
    let is_store = |word: &[u8]| {
        word.eq_ignore_ascii_case(b"STORE") || word.eq_ignore_ascii_case(b"STOREDIST")
    };
    let found = words.iter().enumerate().skip(5).filter(|(_, word)| is_store(word));
    found.map(|(at, _)| at + 1).filter(|at| *at < words.len()).collect()
}

fn length(text: &[u8], what: &'static str) -> Result<f64> {
    Args::new(&[text, text]).float().map_err(|_| Error::err(format_args!("need numeric {what}")))
}

impl<'a> Request<'a> {
    fn take_radius(&mut self, args: &mut Args<'a>) -> Result<()> {
        let radius = length(args.bytes()?, "radius")?;
        if radius < 0.0 {
            return Err(Error::text("ERR radius cannot be negative"));
        }
        self.unit = unit(args.bytes()?)?;
        self.shape = Some(Shape::Circle { radius });
        Ok(())
    }

    fn take_box(&mut self, args: &mut Args<'a>) -> Result<()> {
        let (width, height) = (length(args.bytes()?, "width")?, length(args.bytes()?, "height")?);
        if width < 0.0 || height < 0.0 {
            return Err(Error::text("ERR height or width cannot be negative"));
        }
        self.unit = unit(args.bytes()?)?;
        self.shape = Some(Shape::Rectangle { width, height });
        Ok(())
    }

    fn take_point(&mut self, args: &mut Args<'a>) -> Result<()> {
        self.centre = Some(point(args.bytes()?, args.bytes()?)?);
        self.is_from_point = true;
        Ok(())
    }

    /// The place of a member; where there is no key, there is nothing to find either.
    fn take_member(
        &mut self,
        args: &mut Args<'a>,
        at: &At<'_>,
        read: &Snapshot<'_>,
        is_there: bool,
    ) -> Result<()> {
        let member = args.bytes()?;
        self.is_from_member = true;
        if is_there {
            let score = zset::score(read, at, member)?;
            let score =
                score.ok_or_else(|| Error::text("ERR could not decode requested zset member"))?;
            self.centre = Some(Point::of_score(score));
        }
        Ok(())
    }

    /// The words that all forms know; `false` if it is none of them.
    fn take_option(&mut self, word: &[u8], args: &mut Args<'a>) -> Result<bool> {
        match word {
            b"WITHDIST" => self.with_distance = true,
            b"WITHHASH" => self.with_hash = true,
            b"WITHCOORD" => self.with_coordinates = true,
            b"ANY" => self.is_any = true,
            b"ASC" => self.order = Some(Ordering::Less),
            b"DESC" => self.order = Some(Ordering::Greater),
            b"COUNT" if !args.is_empty() => {
                let count = args.integer()?;
                self.count = usize::try_from(count)
                    .ok()
                    .filter(|count| *count > 0)
                    .ok_or_else(|| Error::text("ERR COUNT must be > 0"))?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn parse(
        args: &mut Args<'a>,
        (form, stores): (Form, bool),
        (at, read, is_there): (&At<'_>, &Snapshot<'_>, bool),
    ) -> Result<Self> {
        let mut request = Self::default();
        match form {
            Form::Radius => {
                request.take_point(args)?;
                request.take_radius(args)?;
            }
            Form::ByMember if is_there => {
                request.take_member(args, at, read, true)?;
                request.take_radius(args)?;
            }
            // As in Redis, these words do not matter where there is nothing.
            Form::ByMember => drop(args.take(3)?),
            Form::Search | Form::SearchStore => {}
        }
        while let Some(word) = args.word() {
            let is_search = form.is_search();
            match &*word {
                b"STORE" | b"STOREDIST" if stores && !is_search && !args.is_empty() => {
                    request.stores_distance = *word == *b"STOREDIST";
                    request.stored = Some(args.bytes()?);
                }
                b"STOREDIST" if form == Form::SearchStore => request.stores_distance = true,
                b"FROMMEMBER" if is_search && !args.is_empty() && !request.is_from_point => {
                    request.take_member(args, at, read, is_there)?;
                }
                b"FROMLONLAT" if is_search && args.len() >= 2 && !request.is_from_member => {
                    request.take_point(args)?;
                }
                b"BYRADIUS" if is_search && args.len() >= 2 && !request.is_rectangle() => {
                    request.take_radius(args)?;
                }
                b"BYBOX" if is_search && args.len() >= 3 && !request.is_circle() => {
                    request.take_box(args)?;
                }
                other => {
                    if !request.take_option(other, args)? {
                        return Err(Error::Syntax);
                    }
                }
            }
        }
        Ok(request)
    }

    fn is_rectangle(&self) -> bool {
        matches!(self.shape, Some(Shape::Rectangle { .. }))
    }

    fn is_circle(&self) -> bool {
        matches!(self.shape, Some(Shape::Circle { .. }))
    }

    /// What is missing, and what does not go together. As in Redis the command is named as it was
    /// called.
    fn check(&self, form: Form, called: &[u8]) -> Result<()> {
        let called = String::from_utf8_lossy(called);
        let has_more = self.with_distance || self.with_hash || self.with_coordinates;
        if has_more && (self.stored.is_some() || form == Form::SearchStore) {
            let who = if form.is_search() { "GEOSEARCHSTORE" } else { "STORE option in GEORADIUS" };
            return Err(Error::err(format_args!(
                "{who} is not compatible with WITHDIST, WITHHASH and WITHCOORD options"
            )));
        }
        if form.is_search() && !self.is_from_member && !self.is_from_point {
            return Err(Error::err(format_args!(
                "exactly one of FROMMEMBER or FROMLONLAT can be specified for {called}"
            )));
        }
        if form.is_search() && self.shape.is_none() {
            return Err(Error::err(format_args!(
                "exactly one of BYRADIUS and BYBOX can be specified for {called}"
            )));
        }
        if self.is_any && self.count == 0 {
            return Err(Error::text("ERR the ANY argument requires COUNT argument"));
        }
        Ok(())
    }

    /// What is found, in the order asked for. The nearest ones count unless any will do.
    fn run(
        &self,
        read: &Snapshot<'_>,
        zset: &Object<Zset>,
        room: Option<usize>,
    ) -> Result<Vec<Found>> {
        let (Some(centre), Some(shape)) = (self.centre, self.shape) else { return Ok(Vec::new()) };
        let enough = (self.is_any && self.count > 0).then_some(self.count);
        let query = Query { centre, shape, unit: self.unit, enough, room };
        let mut found = geo::search(read, zset, &query)?;
        let is_counted = self.count > 0 && !self.is_any;
        let order = self.order.or(is_counted.then_some(Ordering::Less));
        if let Some(order) = order {
            found.sort_by(|one, other| {
                let nearer = one.distance_m.total_cmp(&other.distance_m);
                if order == Ordering::Less { nearer } else { nearer.reverse() }
            });
        }
        if self.count > 0 {
            found.truncate(self.count);
        }
        Ok(found)
    }

    fn show(&self, found: &[Found], reply: Reply<'_>) -> Replied {
        let more = [self.with_distance, self.with_hash, self.with_coordinates];
        let more = more.into_iter().filter(|is_wanted| *is_wanted).count();
        reply.with(|writer| {
            writer.array(found.len());
            for found in found {
                if more > 0 {
                    writer.array(more + 1);
                }
                writer.bulk(&found.member);
                if self.with_distance {
                    distance(writer, found.distance_m / self.unit);
                }
                if self.with_hash {
                    writer.integer(found.score as i64);
                }
                if self.with_coordinates {
                    coordinates(writer, found.point);
                }
            }
        })
    }

    fn score(&self, found: &Found) -> f64 {
        if self.stores_distance { found.distance_m / self.unit } else { found.score }
    }
}

/// Parses and searches; what was found, and how it is to be told. `room`: bytes that it may take,
/// if it may be stored.
fn search<'a>(
    scope: &Scope<'_>,
    read: &Snapshot<'_>,
    args: &mut Args<'a>,
    (form, room): (Form, Option<usize>),
) -> Result<(Request<'a>, Vec<Found>)> {
    let at = scope.at(args.bytes()?);
    let zset = zset::find(read, &at)?;
    let request = Request::parse(args, (form, room.is_some()), (&at, read, zset.is_some()))?;
    request.check(form, args.all().first().copied().unwrap_or_default())?;
    let found = zset.map_or(Ok(Vec::new()), |zset| request.run(read, &zset, room))?;
    Ok((request, found))
}

fn list(cx: &ReadCx<'_>, args: &mut Args<'_>, reply: Reply<'_>, form: Form) -> Result<Replied> {
    let (request, found) = search(&cx.scope, &cx.txn.snapshot(), args, (form, None))?;
    cx.count(!found.is_empty());
    Ok(request.show(&found, reply))
}

fn list_or_store(
    cx: &mut WriteCx<'_>,
    args: &mut Args<'_>,
    reply: Reply<'_>,
    form: Form,
) -> Result<Replied> {
    let room = Some(cx.txn.store().batch_bytes_max());
    let (request, found) = search(&cx.scope, &cx.txn.snapshot(), args, (form, room))?;
    match request.stored {
        Some(to) => store(cx, to, &request, &found, reply),
        None => Ok(request.show(&found, reply)),
    }
}

fn store(
    cx: &mut WriteCx<'_>,
    to: &[u8],
    request: &Request<'_>,
    found: &[Found],
    reply: Reply<'_>,
) -> Result<Replied> {
    // Where nothing is found and nothing was, nothing is written.
    if found.is_empty() && keys::exists(&cx.txn, &cx.scope, &[to])? == 0 {
        return Ok(reply.integer(0));
    }
    let members = geo::members(found, |found| request.score(found));
    Ok(reply.number(zset::store(&mut cx.txn, &cx.scope.at(to), &members)?))
}

pub(super) fn georadius(
    cx: &mut WriteCx<'_>,
    args: &mut Args<'_>,
    reply: Reply<'_>,
) -> Result<Replied> {
    list_or_store(cx, args, reply, Form::Radius)
}

pub(super) fn georadius_ro(
    cx: &ReadCx<'_>,
    args: &mut Args<'_>,
    reply: Reply<'_>,
) -> Result<Replied> {
    list(cx, args, reply, Form::Radius)
}

pub(super) fn georadiusbymember(
    cx: &mut WriteCx<'_>,
    args: &mut Args<'_>,
    reply: Reply<'_>,
) -> Result<Replied> {
    list_or_store(cx, args, reply, Form::ByMember)
}

pub(super) fn georadiusbymember_ro(
    cx: &ReadCx<'_>,
    args: &mut Args<'_>,
    reply: Reply<'_>,
) -> Result<Replied> {
    list(cx, args, reply, Form::ByMember)
}

pub(super) fn geosearch(cx: &ReadCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    list(cx, args, reply, Form::Search)
}

pub(super) fn geosearchstore(
    cx: &mut WriteCx<'_>,
    args: &mut Args<'_>,
    reply: Reply<'_>,
) -> Result<Replied> {
    let to = args.bytes()?;
    let (read, room) = (cx.txn.snapshot(), Some(cx.txn.store().batch_bytes_max()));
    let (request, found) = search(&cx.scope, &read, args, (Form::SearchStore, room))?;
    store(cx, to, &request, &found, reply)
}
