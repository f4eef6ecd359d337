//! GEOSEARCH and its kin: what lies in a part of the map.

use super::{Point, Shape};
use crate::types::CommandError;
use crate::types::bounds::Score;
use crate::types::object::Object;
use crate::types::zset::{self, Part, Zset};
use crate::{Direction, Error, Read, budget};

/// What is searched for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Query {
    /// The middle of the shape.
    pub centre: Point,
    /// In which it must lie.
    pub shape: Shape,
    /// Metres of the shape's unit.
    pub unit: f64,
    /// So many are enough, whichever they are; `None`: all of them.
    pub enough: Option<usize>,
    /// Bytes that what is found may take, where it is to be written; `None`: what a read may.
    pub room: Option<usize>,
}

impl Query {
    /// One more is held, and all of them take `bytes`.
    fn hold(&self, more: usize, bytes: usize) -> Result<(), Error> {
        match self.room {
            None => budget::gather(more),
            Some(max) if bytes > max => Err(Error::TooLarge { bytes, max }),
            Some(_) => Ok(()),
        }
    }
}

/// A member that was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// Its name.
    pub member: Vec<u8>,
    /// Its score.
    pub score: f64,
    /// Its place.
    pub point: Point,
    /// From the centre.
    pub distance_m: f64,
}

/// The members that lie in a part of the map, in the order in which cells are searched, and within
/// each by score.
///
/// # Errors
/// Those of the engine; there is more than it may hold.
pub fn search(
    read: &impl Read,
    zset: &Object<Zset>,
    query: &Query,
) -> Result<Vec<Found>, CommandError> {
    let (mut found, mut bytes, mut room) = (Vec::new(), 0, Ok(()));
    let has_enough = |found: &Vec<Found>| query.enough.is_some_and(|enough| found.len() >= enough);
    for cell in query.shape.cells(query.unit, query.centre) {
        if has_enough(&found) {
            break;
        }
        let (least, behind) = cell.scores();
        let part = Part::Scores(
            Score { score: least, is_excluded: false },
            Score { score: behind, is_excluded: true },
        );
        zset::walk(read, zset, &part, Direction::Forward, |member, score| {
            let point = Point::of_score(score);
            if let Some(distance_m) = query.shape.distance_m(query.unit, query.centre, point) {
                found.push(Found { member: member.to_vec(), score, point, distance_m });
                let more = member.len() + size_of::<Found>();
                bytes += more;
                room = query.hold(more, bytes);
            }
            room.is_ok() && !has_enough(&found)
        })?;
        if room.is_err() {
            break;
        }
    }
    room?;
    Ok(found)
}
