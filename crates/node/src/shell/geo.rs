//! Places against a model: random commands, time, transactions, restarts; the replica holds the
//! same raw entries. The model knows no cells: it looks at every place.

use std::collections::BTreeSet;

use rand::Rng as _;
use rand::rngs::StdRng;

use super::Shell;
use super::model::{self, KEYS, Keyspace, Said, Value, any, array};

/// Name, longitude, latitude. No two are equally far from a third one.
const PLACES: [(&str, f64, f64); 10] = [
    ("Palermo", 13.361389, 38.115556),
    ("Catania", 15.087269, 37.502669),
    ("Paris", 2.349014, 48.864716),
    ("Suva", 178.441895, -18.141601),
    ("Apia", -171.766645, -13.833333),
    ("Quito", -78.512327, -0.229498),
    ("Alert", -62.338611, 82.501667),
    ("Longyearbyen", 15.646944, 78.223333),
    ("Ushuaia", -68.3, -54.8),
    ("Null", 0.0, 0.0),
];

/// The names that a key holds.
#[derive(Clone, Default)]
struct Places(BTreeSet<&'static str>);

impl Value for Places {
    const TYPE: &'static str = "zset";

    fn is_nothing(&self) -> bool {
        self.0.is_empty()
    }

    fn step(random: &mut StdRng, model: &mut Keyspace<Self>) -> (String, Said<Self>) {
        let (command, reply) = step(random, model);
        (command, reply.into())
    }
}

fn place(name: &str) -> (f64, f64) {
    let (_, longitude, latitude) =
        PLACES.into_iter().find(|(own, ..)| *own == name).expect("a place of that name");
    (longitude, latitude)
}

/// Kilometres between two places, by the angle between their directions from the earth's centre.
fn distance_km(one: &str, other: &str) -> f64 {
    let direction = |name: &str| {
        let (longitude, latitude) = place(name);
        let (longitude, latitude) = (longitude.to_radians(), latitude.to_radians());
        let flat = latitude.cos();
        [flat * longitude.cos(), flat * longitude.sin(), latitude.sin()]
    };
    let (a, b) = (direction(one), direction(other));
    let cosine: f64 = a.iter().zip(b).map(|(a, b)| a * b).sum();
    6_372.797_560_856 * cosine.clamp(-1.0, 1.0).acos()
}

impl Keyspace<Places> {
    fn names(&self, key: &str) -> Vec<&'static str> {
        self.value(key).into_iter().flat_map(|places| places.0.iter().copied()).collect()
    }

    /// Names within some kilometres of a place, nearest first.
    fn near(&self, key: &str, centre: &str, radius: f64) -> Vec<&'static str> {
        let mut near = self.names(key);
        near.retain(|name| distance_km(centre, name) <= radius);
        near.sort_by(|a, b| distance_km(centre, a).total_cmp(&distance_km(centre, b)));
        near
    }
}

/// A random command and what the model says to it.
fn step(random: &mut StdRng, model: &mut Keyspace<Places>) -> (String, String) {
    let (key, to) = (any(&KEYS, random), any(&KEYS, random));
    let (name, longitude, latitude) = PLACES[random.random_range(0..PLACES.len())];
    let radius = [50, 200, 1_500, 4_000, 12_000, 21_000][random.random_range(0..6)];
    let near = model.near(key, name, f64::from(radius));
    match random.random_range(0..7) {
        0..=2 => {
            let (second, east, north) = PLACES[random.random_range(0..PLACES.len())];
            let places = &mut model.value_mut(key).0;
            let added = u8::from(places.insert(name)) + u8::from(places.insert(second));
            let command =
                format!("GEOADD {key} {longitude} {latitude} {name} {east} {north} {second}");
            (command, format!(":{added}"))
        }
        3 => {
            let command = format!(
                "GEOSEARCH {key} FROMLONLAT {longitude} {latitude} BYRADIUS {radius} km ASC"
            );
            (command, array(near))
        }
        4 => {
            let count = random.random_range(1..4);
            let command =
                format!("GEORADIUS_RO {key} {longitude} {latitude} {radius} km COUNT {count}");
            (command, array(near.into_iter().take(count)))
        }
        5 => {
            let reply = format!(":{}", near.len());
            model.replace(to, Places(near.into_iter().collect()));
            let command = format!("GEORADIUS {key} {longitude} {latitude} {radius} km STORE {to}");
            (command, reply)
        }
        _ => {
            let removed =
                model.entries.get_mut(key).is_some_and(|(places, _)| places.0.remove(name));
            model.sweep();
            (format!("ZREM {key} {name}"), format!(":{}", u8::from(removed)))
        }
    }
}

#[test]
fn places_are_what_the_model_says() {
    model::runs::<Places>();
}

#[test]
fn every_place_is_found_from_every_other_one() {
    let mut shell = Shell::new();
    for (name, longitude, latitude) in PLACES {
        shell.run(&format!("GEOADD g {longitude} {latitude} {name}"));
    }
    for (one, ..) in PLACES {
        for (other, ..) in PLACES {
            let metres = 1000.0 * distance_km(one, other);
            let told = shell.run(&format!("GEODIST g {one} {other}"));
            let told: f64 = told.split(' ').nth(1).and_then(|text| text.parse().ok()).unwrap();
            assert!((told - metres).abs() < 3.0, "{one} {other}: {told}, not {metres}");
            let radius = told + 1.0;
            let found = shell.run(&format!("GEOSEARCH g FROMMEMBER {one} BYRADIUS {radius} m"));
            assert!(found.contains(other), "{one} {other} {radius}: {found}");
        }
    }
}

/// As in Redis.
#[test]
fn a_search_that_lacks_something_is_named_as_it_was_called() {
    let mut shell = Shell::new();
    for name in ["GEOSEARCH", "geoSearch"] {
        for (words, lack) in [
            ("BYRADIUS 1 km ASC ASC", "FROMMEMBER or FROMLONLAT can"),
            ("FROMLONLAT 1 1 ASC ASC", "BYRADIUS and BYBOX can"),
        ] {
            let said = shell.run(&format!("{name} g {words}"));
            assert_eq!(said, format!("-ERR exactly one of {lack} be specified for {name}"));
        }
    }
}
