//! Sorted sets of whole numbers against a model: random commands, time, transactions, restarts; the
//! replica holds the same raw entries.

use std::collections::BTreeSet;

use rand::Rng as _;
use rand::rngs::StdRng;

use super::Shell;
use super::model::{self, KEYS, Keyspace, Said, Value, any};

type Numbers = BTreeSet<u64>;

impl Value for Numbers {
    const TYPE: &'static str = "sortedint";

    fn is_nothing(&self) -> bool {
        self.is_empty()
    }

    fn step(random: &mut StdRng, model: &mut Keyspace<Self>) -> (String, Said<Self>) {
        let (command, reply) = step(random, model);
        (command, reply.into())
    }
}

fn listed(numbers: impl IntoIterator<Item = u64>) -> String {
    let texts: Vec<String> = numbers.into_iter().map(|number| number.to_string()).collect();
    model::array(texts.iter().map(String::as_str))
}

/// Small ones, and those at the end of all numbers.
fn number(random: &mut StdRng) -> u64 {
    match random.random_range(0..8) {
        0 => u64::MAX,
        1 => u64::MAX - 1,
        2 => 1 << 40,
        _ => random.random_range(0..12),
    }
}

/// A random command and what the model says to it.
fn step(random: &mut StdRng, model: &mut Keyspace<Numbers>) -> (String, String) {
    let key = any(&KEYS, random);
    let (one, two) = (number(random), number(random));
    let held = model.value(key).cloned().unwrap_or_default();
    let (offset, count) = (random.random_range(0..3_usize), random.random_range(0..5_usize));
    // None is no limit.
    let most = if count == 0 { usize::MAX } else { count };
    match random.random_range(0..8) {
        0..=2 => {
            let numbers = model.value_mut(key);
            let added = u8::from(numbers.insert(one)) + u8::from(numbers.insert(two));
            (format!("SIADD {key} {one} {two}"), format!(":{added}"))
        }
        3 => {
            let mut removed = 0;
            if let Some((numbers, _)) = model.entries.get_mut(key) {
                removed = u8::from(numbers.remove(&one)) + u8::from(numbers.remove(&two));
            }
            model.sweep();
            (format!("SIREM {key} {one} {two}"), format!(":{removed}"))
        }
        4 => {
            let has = |number| u8::from(held.contains(&number));
            (format!("SIEXISTS {key} {one} {two}"), format!("*2 :{} :{}", has(one), has(two)))
        }
        5 => {
            let page = held.into_iter().filter(|number| *number > one).skip(offset).take(most);
            (format!("SIRANGE {key} {offset} {count} CURSOR {one}"), listed(page))
        }
        6 => {
            let page = held.into_iter().rev().skip(offset).take(most);
            (format!("SIREVRANGE {key} {offset} {count}"), listed(page))
        }
        _ => {
            let within = held.into_iter().rev().filter(|number| (one..two).contains(number));
            let page = within.skip(offset).take(most);
            let command = format!("SIREVRANGEBYVALUE {key} ({two} {one} LIMIT {offset} {count}");
            (command, listed(page))
        }
    }
}

#[test]
fn sorted_sets_of_numbers_are_what_the_model_says() {
    model::runs::<Numbers>();
}

/// What the recordings do not have, by Kvrocks' source.
#[test]
fn pages_and_limits_of_none_are_those_of_the_reference() {
    let mut shell = Shell::new();
    assert_eq!(shell.run("SIADD s 1 2 3"), ":3");
    let all = "*3 $1 3 $1 2 $1 1";
    for (command, reply) in [
        ("SIREVRANGE s 0 10 CURSOR 0", all),
        ("SIREVRANGE s 0 0", all),
        ("SIRANGE s 0 0", "*3 $1 1 $1 2 $1 3"),
        ("SIREVRANGE s 0 2 CURSOR 3", "*2 $1 2 $1 1"),
        ("SIREVRANGE s 0 2 CURSOR 1", "*0"),
        ("SIRANGEBYVALUE s 1 9 LIMIT 0 0", "*3 $1 1 $1 2 $1 3"),
        ("SIRANGEBYVALUE s 1 9 LIMIT -1 2", "*2 $1 1 $1 2"),
        ("SIRANGEBYVALUE s 1 9 LIMIT 1 -1", "*2 $1 2 $1 3"),
        ("SIRANGEBYVALUE s 1 9 FOO 1 2", "-ERR syntax error"),
        ("SIRANGEBYVALUE s +inf -inf", "-ERR min > max"),
        ("SIREVRANGEBYVALUE s -inf +inf", "-ERR min > max"),
        ("SIRANGEBYVALUE s 1 inf", "-ERR the max isn't integer"),
    ] {
        assert_eq!(shell.run(command), reply, "{command}");
    }
}
