//! Where a search looks: nine cells at most, around the one with the centre in it. Their size, and
//! which of them are left out, decide the order of what is found, so both are Redis'.

use super::{Angle as _, Cell, EARTH_RADIUS_M, LATITUDE_MAX, Point, STEPS};

/// What is searched, in some unit of length.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Shape {
    /// As far as this from the centre.
    Circle {
        /// In the unit.
        radius: f64,
    },
    /// As far as half of each from the centre.
    Rectangle {
        /// East to west, in the unit.
        width: f64,
        /// North to south, in the unit.
        height: f64,
    },
}

/// Half of the way round the earth in the projection.
const MERCATOR_MAX: f64 = 20_037_726.37;

impl Shape {
    /// Metres from the centre to a place in it; `None` if the place is not. `unit` is in metres.
    pub(super) fn distance_m(self, unit: f64, centre: Point, point: Point) -> Option<f64> {
        let distance = centre.distance_m(point);
        let is_in = match self {
            Self::Circle { radius } => distance <= radius * unit,
            Self::Rectangle { width, height } => {
                let east = Point { longitude: centre.longitude, ..point };
                let north = Point { latitude: centre.latitude, ..point };
                point.distance_m(north) <= height * unit / 2.0
                    && point.distance_m(east) <= width * unit / 2.0
            }
        };
        is_in.then_some(distance)
    }

    /// Half of its width and of its height, metres.
    fn halves_m(self, unit: f64) -> (f64, f64) {
        match self {
            Self::Circle { radius } => (unit * radius, unit * radius),
            Self::Rectangle { width, height } => (unit * (width / 2.0), unit * (height / 2.0)),
        }
    }

    /// Metres to its farthest place.
    fn reach_m(self, unit: f64) -> f64 {
        match self {
            Self::Circle { radius } => radius * unit,
            Self::Rectangle { width, height } => {
                ((width / 2.0) * (width / 2.0) + (height / 2.0) * (height / 2.0)).sqrt() * unit
            }
        }
    }

    /// Its least and greatest longitude and latitude. It is widest at its side away from the
    /// equator.
    fn bounds(self, unit: f64, centre: Point) -> ((f64, f64), (f64, f64)) {
        let (width, height) = self.halves_m(unit);
        let north = (height / EARTH_RADIUS_M).to_degrees_as_redis();
        let away = match centre.latitude < 0.0 {
            true => centre.latitude - north,
            false => centre.latitude + north,
        };
        let east =
            (width / EARTH_RADIUS_M / away.to_radians_as_redis().cos()).to_degrees_as_redis();
        let around = |at: f64, by: f64| (at - by, at + by);
        (around(centre.longitude, east), around(centre.latitude, north))
    }

    /// The cells that it may reach into, in the order in which they are searched.
    pub(super) fn cells(self, unit: f64, centre: Point) -> Vec<Cell> {
        let ((west, east), (south, north)) = self.bounds(unit, centre);
        let mut step = steps(self.reach_m(unit), centre.latitude);
        let mut cell = Cell::around(centre, step, LATITUDE_MAX);
        let is_short = cell.beside(0, 1).area().latitude.1 < north
            || cell.beside(0, -1).area().latitude.0 > south
            || cell.beside(1, 0).area().longitude.1 < east
            || cell.beside(-1, 0).area().longitude.0 > west;
        if is_short && step > 1 {
            step -= 1;
            cell = Cell::around(centre, step, LATITUDE_MAX);
        }
        let own = cell.area();
        let is_useless = |(to_east, to_north): (i8, i8)| {
            step >= 2
                && (to_north < 0 && own.latitude.0 < south
                    || to_north > 0 && own.latitude.1 > north
                    || to_east < 0 && own.longitude.0 < west
                    || to_east > 0 && own.longitude.1 > east)
        };
        const SIDES: [(i8, i8); 9] =
            [(0, 0), (0, 1), (0, -1), (1, 0), (-1, 0), (1, 1), (-1, 1), (1, -1), (-1, -1)];
        let mut cells: Vec<Cell> = Vec::with_capacity(SIDES.len());
        for side in SIDES.into_iter().filter(|side| !is_useless(*side)) {
            let next = cell.beside(side.0, side.1);
            // Where cells are large, the map is so small that they come again.
            if !cells.contains(&next) {
                cells.push(next);
            }
        }
        cells
    }
}

/// How small cells may be: nine of them hold everything so near. Near the poles they are narrow.
fn steps(mut reach_m: f64, latitude: f64) -> u32 {
    if reach_m == 0.0 {
        return STEPS;
    }
    let mut step = 1_i32;
    while reach_m < MERCATOR_MAX {
        reach_m *= 2.0;
        step += 1;
    }
    step -= 2;
    if latitude.abs() > 66.0 {
        step -= 1;
    }
    if latitude.abs() > 80.0 {
        step -= 1;
    }
    step.clamp(1, STEPS as i32).unsigned_abs()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn nonsense_ends() {
        let centre = Point { longitude: 180.0, latitude: -LATITUDE_MAX };
        for length in [0.0, 5e-324, f64::MAX, f64::INFINITY] {
            for shape in
                [Shape::Circle { radius: length }, Shape::Rectangle { width: length, height: 0.0 }]
            {
                assert!(!shape.cells(1000.0, centre).is_empty(), "{shape:?}");
            }
        }
    }

    proptest! {
        /// What lies within the shape lies within one of its cells, away from the edges of the map.
        #[test]
        fn no_cell_is_missing(
            (longitude, latitude) in (-150.0..150.0, -60.0..60.0),
            (east, north) in (-5.0..5.0, -5.0..5.0),
            radius in 1.0..800.0,
        ) {
            let centre = Point { longitude, latitude };
            let point = Point { longitude: longitude + east, latitude: latitude + north };
            let shape = Shape::Circle { radius };
            let place = Point::of_score(point.score());
            if shape.distance_m(1000.0, centre, place).is_some() {
                let holds = |cell: &Cell| {
                    let (least, behind) = cell.scores();
                    (least..behind).contains(&point.score())
                };
                prop_assert_eq!(shape.cells(1000.0, centre).iter().filter(|cell| holds(cell)).count(), 1);
            }
        }
    }
}
