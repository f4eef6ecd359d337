//! Paths and edits against a reference that goes one step at a time through lists of places.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use json::{DEPTH_MAX, Path, Value, edit, from_text, to_text};
use proptest::prelude::*;

/// A step into a value.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    At(usize),
    Of(String),
}

type Place = Vec<Key>;

/// A step of a path.
#[derive(Debug, Clone)]
enum Step {
    Name(&'static str),
    Index(i64),
    Every,
    Slice(Option<i64>, Option<i64>),
    Names(Vec<&'static str>),
    Deep(Box<Step>),
}

fn text(step: &Step) -> String {
    let number = |index: &Option<i64>| index.map_or(String::new(), |index| index.to_string());
    match step {
        Step::Name(name) => format!(".{name}"),
        Step::Index(index) => format!("[{index}]"),
        Step::Every => "[*]".to_owned(),
        Step::Slice(start, stop) => format!("[{}:{}]", number(start), number(stop)),
        Step::Names(names) => format!("['{}']", names.join("','")),
        Step::Deep(step) => match &**step {
            Step::Name(name) => format!("..{name}"),
            other => format!("..{}", text(other)),
        },
    }
}

fn at<'v>(document: &'v Value, place: &[Key]) -> &'v Value {
    place.iter().fold(document, |value, key| match (value, key) {
        (Value::Array(items), Key::At(index)) => &items[*index],
        (Value::Object(members), Key::Of(name)) => &members[name],
        _ => panic!("{place:?}"),
    })
}

fn children(document: &Value, place: &Place) -> Vec<Place> {
    let behind = |key| [place.as_slice(), &[key]].concat();
    match at(document, place) {
        Value::Array(items) => (0..items.len()).map(|index| behind(Key::At(index))).collect(),
        Value::Object(members) => {
            members.keys().map(|name| behind(Key::Of(name.clone()))).collect()
        }
        _ => Vec::new(),
    }
}

/// The containers at and below a place.
fn containers(document: &Value, place: &Place) -> Vec<Place> {
    match at(document, place) {
        Value::Array(_) | Value::Object(_) => {
            let below = children(document, place);
            let below = below.iter().flat_map(|place| containers(document, place));
            [place.clone()].into_iter().chain(below).collect()
        }
        _ => Vec::new(),
    }
}

/// Where a step leads from a place.
fn led(document: &Value, place: &Place, step: &Step) -> Vec<Place> {
    let children = children(document, place);
    let is_array = matches!(at(document, place), Value::Array(_));
    let from_end = |index: i64| {
        let length = i64::try_from(children.len()).unwrap();
        if index < 0 { index + length } else { index }
    };
    let named = |name: &str| {
        let is_it = |place: &&Place| place.last() == Some(&Key::Of(name.to_owned()));
        children.iter().find(is_it).cloned()
    };
    match step {
        Step::Name(name) => named(name).into_iter().collect(),
        Step::Names(names) => names.iter().filter_map(|name| named(name)).collect(),
        Step::Every => children,
        Step::Index(_) | Step::Slice(..) if !is_array => Vec::new(),
        Step::Index(index) => {
            let index = usize::try_from(from_end(*index)).ok();
            index.and_then(|index| children.get(index)).cloned().into_iter().collect()
        }
        Step::Slice(start, stop) => {
            let start = start.map_or(0, from_end).max(0);
            let stop = stop.map_or(i64::MAX, from_end);
            let within = |place: &i64| start <= *place && *place < stop;
            let numbered = (0_i64..).zip(&children).filter(|(place, _)| within(place));
            numbered.map(|(_, place)| place.clone()).collect()
        }
        Step::Deep(step) => {
            let containers = containers(document, place);
            containers.iter().flat_map(|place| led(document, place, step)).collect()
        }
    }
}

fn reached(document: &Value, steps: &[Step]) -> Vec<Place> {
    steps.iter().fold(vec![Vec::new()], |places, step| {
        places.iter().flat_map(|place| led(document, place, step)).collect()
    })
}

fn document() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        (-9_i32..99).prop_map(|number| number.to_string()),
        Just("null".to_owned()),
        Just("\"x\"".to_owned()),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        let member = (prop_oneof![Just("a"), Just("b"), Just("c")], inner.clone());
        prop_oneof![
            prop::collection::vec(inner, 0..4).prop_map(|items| format!("[{}]", items.join(","))),
            prop::collection::vec(member, 0..4).prop_map(|members| {
                let members = members.iter().map(|(name, value)| format!("\"{name}\":{value}"));
                format!("{{{}}}", members.collect::<Vec<_>>().join(","))
            }),
        ]
    })
}

fn step() -> impl Strategy<Value = Step> {
    let index = || prop::option::of(-3_i64..4);
    let simple = prop_oneof![
        prop_oneof![Just("a"), Just("b")].prop_map(Step::Name),
        (-3_i64..3).prop_map(Step::Index),
        Just(Step::Every),
        (index(), index()).prop_map(|(start, stop)| Step::Slice(start, stop)),
        Just(Step::Names(vec!["b", "a"])),
    ];
    (simple, prop::bool::weighted(0.3))
        .prop_map(|(step, is_deep)| if is_deep { Step::Deep(Box::new(step)) } else { step })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_path_leads_where_its_steps_lead(
        document in document(),
        steps in prop::collection::vec(step(), 0..4),
    ) {
        let path = format!("${}", steps.iter().map(text).collect::<String>());
        let document = from_text(document.as_bytes(), DEPTH_MAX).unwrap();
        let reached = reached(&document, &steps);
        let mut found = Vec::new();
        Path::parse(path.as_bytes()).unwrap().each(&document, |value| {
            found.push(value.clone());
            Ok(())
        }).unwrap();
        let expected: Vec<Value> = reached.iter().map(|place| at(&document, place).clone()).collect();
        prop_assert_eq!(&found, &expected, "{}", path);

        // What a value was set to is found again, unless it was within another one.
        let mut edited = document.clone();
        let is_nowhere = reached.is_empty();
        let value = Value::String("new".to_owned());
        let set = edit::set(&mut edited, path.as_bytes(), &value, 3);
        prop_assert!(set.is_ok() || is_nowhere);
        for place in &reached {
            let outermost = reached.iter().filter(|other| place.starts_with(other)).min().unwrap();
            prop_assert_eq!(at(&edited, outermost), &value);
        }

        // Each place is removed once, the root never.
        let mut removed = document.clone();
        let mut places: Vec<&Place> = reached.iter().filter(|place| !place.is_empty()).collect();
        places.sort();
        places.dedup();
        let count = edit::remove(&mut removed, path.as_bytes()).unwrap();
        prop_assert_eq!(count, places.len(), "{}", path);
        let left = to_text(&removed, DEPTH_MAX).unwrap();
        if count == 0 {
            prop_assert_eq!(left, to_text(&document, DEPTH_MAX).unwrap());
        }
    }

    #[test]
    fn a_double_is_read_as_it_was_written(bits in any::<u64>()) {
        let value = f64::from_bits(bits);
        let text = json::number_text(&json::Number::Double(value));
        match from_text(text.as_bytes(), 0).unwrap() {
            Value::Number(json::Number::Double(read)) => prop_assert!(read == value),
            other => prop_assert!(!value.is_finite() && other == Value::Null),
        }
    }
}
