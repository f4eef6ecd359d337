//! Places in sorted sets: a score of 52 bits, in which the bits of latitude and longitude take
//! turns. All arithmetic is that of Redis, step by step, so that replies are the same digits.
//!
//! The data is a sorted set's and nothing else: see [`super::zset`].

use super::zset::Member;

mod area;
mod search;

pub use area::Shape;
pub use search::{Found, Query, search};

/// Greatest latitude of the projection, degrees.
pub const LATITUDE_MAX: f64 = 85.05112878;
/// Greatest longitude, degrees.
pub const LONGITUDE_MAX: f64 = 180.0;
const EARTH_RADIUS_M: f64 = 6_372_797.560856;
/// Halvings of each coordinate in a score.
const STEPS: u32 = 26;

/// A place on earth, degrees.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// East of Greenwich.
    pub longitude: f64,
    /// North of the equator.
    pub latitude: f64,
}

impl Point {
    /// Whether a score can hold it.
    pub fn is_valid(self) -> bool {
        (-LONGITUDE_MAX..=LONGITUDE_MAX).contains(&self.longitude)
            && (-LATITUDE_MAX..=LATITUDE_MAX).contains(&self.latitude)
    }

    /// The score of a valid place.
    pub fn score(self) -> f64 {
        Cell::around(self, STEPS, LATITUDE_MAX).bits as f64
    }

    /// The middle of what a score stands for. Any score stands for some place.
    pub fn of_score(score: f64) -> Self {
        let area = Cell { bits: bits_of(score), step: STEPS }.area();
        let middle = |(least, most): (f64, f64), max: f64| ((least + most) / 2.0).clamp(-max, max);
        Self {
            longitude: middle(area.longitude, LONGITUDE_MAX),
            latitude: middle(area.latitude, LATITUDE_MAX),
        }
    }

    /// Metres to another place, along the surface of a ball.
    pub fn distance_m(self, other: Self) -> f64 {
        let (from, to) =
            (self.latitude.to_radians_as_redis(), other.latitude.to_radians_as_redis());
        let turn = other.longitude.to_radians_as_redis() - self.longitude.to_radians_as_redis();
        let (u, v) = (((to - from) / 2.0).sin(), (turn / 2.0).sin());
        let a = u * u + from.cos() * to.cos() * v * v;
        2.0 * EARTH_RADIUS_M * a.sqrt().asin()
    }
}

/// Degrees and radians by the constant that Redis uses; the library's may differ in the last bit.
trait Angle {
    fn to_radians_as_redis(self) -> f64;
    fn to_degrees_as_redis(self) -> f64;
}

const RADIAN: f64 = std::f64::consts::PI / 180.0;

impl Angle for f64 {
    fn to_radians_as_redis(self) -> f64 {
        self * RADIAN
    }

    fn to_degrees_as_redis(self) -> f64 {
        self / RADIAN
    }
}

/// A score as bits: what a C program on this kind of machine makes of any double.
fn bits_of(score: f64) -> u64 {
    if score < 0.0 {
        score as i64 as u64
    } else if score < 2f64.powi(64) {
        score as u64
    } else {
        0
    }
}

/// A rectangle of the map, by its number among those of the same size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cell {
    bits: u64,
    /// Halvings of each coordinate: 1 to 26.
    step: u32,
}

/// The sides of a rectangle, degrees: least and greatest.
#[derive(Debug, Clone, Copy)]
struct Sides {
    longitude: (f64, f64),
    latitude: (f64, f64),
}

/// Bits of latitude.
const EVEN: u64 = 0x5555_5555_5555_5555;
/// Bits of longitude.
const ODD: u64 = 0xaaaa_aaaa_aaaa_aaaa;

impl Cell {
    fn around(point: Point, step: u32, latitude_max: f64) -> Self {
        let part = |at: f64, max: f64| {
            let offset = (at + max) / (max + max);
            (offset * (1_u64 << step) as f64) as u32
        };
        let (latitude, longitude) =
            (part(point.latitude, latitude_max), part(point.longitude, LONGITUDE_MAX));
        Self { bits: spread(latitude) | spread(longitude) << 1, step }
    }

    fn area(self) -> Sides {
        let (latitude, longitude) = (gather(self.bits), gather(self.bits >> 1));
        let side = |at: u32, max: f64| {
            let (parts, scale) = ((1_u64 << self.step) as f64, max + max);
            let bound = |at: f64| -max + at / parts * scale;
            (bound(f64::from(at)), bound(f64::from(at.wrapping_add(1))))
        };
        Sides { longitude: side(longitude, LONGITUDE_MAX), latitude: side(latitude, LATITUDE_MAX) }
    }

    /// The cell beside it: so many to the east, and to the north; the map is round.
    fn beside(self, east: i8, north: i8) -> Self {
        let unused = 64 - 2 * self.step;
        let moved = |bits: u64, own: u64, other: u64, by: i8| {
            let (own, other) = (own >> unused, other >> unused);
            let next = match by {
                0 => bits,
                1.. => bits.wrapping_add(other.wrapping_add(1)),
                _ => (bits | other).wrapping_sub(other.wrapping_add(1)),
            };
            if by == 0 { next } else { next & own }
        };
        let longitude = moved(self.bits & ODD, ODD, EVEN, east);
        let latitude = moved(self.bits & EVEN, EVEN, ODD, north);
        Self { bits: longitude | latitude, step: self.step }
    }

    /// Scores of the places in it: the least, and the first one behind.
    fn scores(self) -> (f64, f64) {
        let align = |bits: u64| bits.wrapping_shl(52 - 2 * self.step) as f64;
        (align(self.bits), align(self.bits.wrapping_add(1)))
    }
}

/// Puts a zero in front of each bit.
fn spread(value: u32) -> u64 {
    let mut bits = u64::from(value);
    for (shift, mask) in [
        (16, 0x0000_ffff_0000_ffff),
        (8, 0x00ff_00ff_00ff_00ff),
        (4, 0x0f0f_0f0f_0f0f_0f0f),
        (2, 0x3333_3333_3333_3333),
        (1, EVEN),
    ] {
        bits = (bits | bits << shift) & mask;
    }
    bits
}

/// Takes every second bit out.
fn gather(bits: u64) -> u32 {
    let mut bits = bits & EVEN;
    for (shift, mask) in [
        (1, 0x3333_3333_3333_3333),
        (2, 0x0f0f_0f0f_0f0f_0f0f),
        (4, 0x00ff_00ff_00ff_00ff),
        (8, 0x0000_ffff_0000_ffff),
        (16, 0x0000_0000_ffff_ffff),
    ] {
        bits = (bits | bits >> shift) & mask;
    }
    bits as u32
}

/// GEOHASH: the usual text for a score's place, of eleven characters; the last one says nothing.
pub fn text_of_score(score: f64) -> [u8; 11] {
    const ALPHABET: &[u8; 32] = b"0123456789bcdefghjkmnpqrstuvwxyz";
    let bits = Cell::around(Point::of_score(score), STEPS, 90.0).bits;
    let mut text = [b'0'; 11];
    for (place, character) in text.iter_mut().take(10).enumerate() {
        let index = bits >> (52 - 5 * (place + 1)) & 0x1f;
        *character = ALPHABET.get(index as usize).copied().unwrap_or(b'0');
    }
    text
}

/// What GEOSEARCHSTORE and its kin store of what was found.
pub fn members(found: &[Found], score: impl Fn(&Found) -> f64) -> Vec<Member> {
    found.iter().map(|found| (found.member.clone(), score(found))).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PALERMO: Point = Point { longitude: 13.361389, latitude: 38.115556 };
    const CATANIA: Point = Point { longitude: 15.087269, latitude: 37.502669 };

    #[test]
    fn scores_places_and_texts_are_those_of_redis() {
        assert_eq!(PALERMO.score(), 3_479_099_956_230_698.0);
        assert_eq!(CATANIA.score(), 3_479_447_370_796_909.0);
        let point = Point::of_score(PALERMO.score());
        assert_eq!(format!("{:.17}", point.longitude), "13.36138933897018433");
        assert_eq!(format!("{:.17}", point.latitude), "38.11555639549629859");
        assert_eq!(&text_of_score(PALERMO.score()), b"sqc8b49rny0");
        assert_eq!(&text_of_score(CATANIA.score()), b"sqdtr74hyu0");
        let distance = point.distance_m(Point::of_score(CATANIA.score()));
        assert_eq!(format!("{distance:.4}"), "166274.1516");
    }

    #[test]
    fn cells_lie_beside_each_other_on_a_round_map() {
        let cell = Cell::around(PALERMO, 10, LATITUDE_MAX);
        assert_eq!(cell.beside(1, 0).beside(-1, 0), cell);
        assert_eq!(cell.beside(0, 1).beside(0, -1), cell);
        assert_eq!(cell.beside(1, 1), cell.beside(1, 0).beside(0, 1));
        let (east, own) = (cell.beside(1, 0).area(), cell.area());
        assert_eq!((east.longitude.0, east.latitude), (own.longitude.1, own.latitude));
        let north = cell.beside(0, 1).area();
        assert_eq!((north.latitude.0, north.longitude), (own.latitude.1, own.longitude));
        let edge = Cell::around(Point { longitude: 180.0, latitude: 0.0 }, 1, LATITUDE_MAX);
        assert_eq!(edge.beside(1, 0).beside(1, 0).beside(1, 0).step, 1);
    }

    proptest! {
        #[test]
        fn any_score_is_some_place(score: f64) {
            prop_assert!(Point::of_score(score).is_valid());
            text_of_score(score);
        }

        #[test]
        fn a_place_comes_back_within_a_metre(longitude in -180.0..180.0, latitude in -85.0..85.0) {
            let point = Point { longitude, latitude };
            let back = Point::of_score(point.score());
            prop_assert!(point.distance_m(back) < 1.0);
            prop_assert_eq!(back.score(), point.score());
        }

        #[test]
        fn bits_take_turns(a: u32) {
            prop_assert_eq!(gather(spread(a)), a);
            prop_assert_eq!(spread(a) & ODD, 0);
        }
    }
}
