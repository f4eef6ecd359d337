//! JSON documents against a model: objects of a few members, changed by name and all at once.

use std::collections::BTreeMap;

use rand::Rng as _;
use rand::rngs::StdRng;

use super::Shell;
use super::model::{self, KEYS, Keyspace, Said, Value, any, bulk};

/// Names of members.
const NAMES: [&str; 4] = ["a", "b", "c", "d"];

/// A member.
#[derive(Clone, Debug)]
enum Item {
    Whole(i64),
    Text(String),
    Flag(bool),
    List(Vec<i64>),
}

impl Item {
    fn random(random: &mut StdRng) -> Self {
        match random.random_range(0..4) {
            0 => Self::Whole(random.random_range(-3..10)),
            1 => Self::Text(any(&["", "x", "yz"], random).to_owned()),
            2 => Self::Flag(random.random()),
            _ => {
                let length = random.random_range(0..4);
                Self::List((0..length).map(|_| random.random_range(0..5)).collect())
            }
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Whole(number) => number.to_string(),
            Self::Text(text) => format!("\"{text}\""),
            Self::Flag(flag) => flag.to_string(),
            Self::List(items) => {
                let items: Vec<String> = items.iter().map(i64::to_string).collect();
                format!("[{}]", items.join(","))
            }
        }
    }

    fn kind(&self) -> &'static str {
        match self {
            Self::Whole(_) => "integer",
            Self::Text(_) => "string",
            Self::Flag(_) => "boolean",
            Self::List(_) => "array",
        }
    }
}

/// `None` is a key that is not there; an object without members is one.
type Members = BTreeMap<&'static str, Item>;
type Document = Option<Members>;

fn text(members: &Members) -> String {
    let each = members.iter().map(|(name, item)| format!("\"{name}\":{}", item.text()));
    format!("{{{}}}", each.collect::<Vec<_>>().join(","))
}

impl Value for Document {
    const TYPE: &'static str = "ReJSON-RL";

    fn is_nothing(&self) -> bool {
        self.is_none()
    }

    fn step(random: &mut StdRng, model: &mut Keyspace<Self>) -> (String, Said<Self>) {
        let (command, reply) = step(random, model);
        model.sweep();
        (command, reply.into())
    }
}

/// Replies to what was said of each of some members.
fn numbers(said: &[Option<i64>]) -> String {
    let each = said.iter().map(|said| said.map_or("$-1".to_owned(), |said| format!(":{said}")));
    [vec![format!("*{}", said.len())], each.collect()].concat().join(" ")
}

fn length(length: usize) -> i64 {
    i64::try_from(length).unwrap()
}

/// The members that a path means: one by its name, or all.
fn meant<'m>(members: &'m mut Members, name: Option<&str>) -> Vec<&'m mut Item> {
    let is_meant = |member: &&'static str| name.is_none_or(|name| name == *member);
    members.iter_mut().filter(|(member, _)| is_meant(member)).map(|(_, item)| item).collect()
}

/// What a command that edits members says.
fn edit(word: &str, members: &mut Members, name: Option<&str>, number: i64) -> (String, String) {
    let mut meant = meant(members, name);
    let said = |reply: String| (word.to_owned(), reply);
    // The last member comes first where Kvrocks says so.
    let mut each = |edit: &dyn Fn(&mut Item) -> Option<i64>| -> Vec<Option<i64>> {
        meant.iter_mut().map(|item| edit(item)).collect()
    };
    match word {
        "JSON.TOGGLE" => said(numbers(&each(&|item| match item {
            Item::Flag(flag) => {
                *flag = !*flag;
                Some(i64::from(*flag))
            }
            _ => None,
        }))),
        "JSON.STRLEN" => said(numbers(&each(&|item| match item {
            Item::Text(text) => Some(length(text.len())),
            _ => None,
        }))),
        "JSON.ARRLEN" => said(numbers(&each(&|item| match item {
            Item::List(items) => Some(length(items.len())),
            _ => None,
        }))),
        "JSON.CLEAR" => {
            let cleared = each(&|item| match item {
                Item::Whole(number) if *number != 0 => {
                    *number = 0;
                    Some(1)
                }
                Item::List(items) if !items.is_empty() => {
                    items.clear();
                    Some(1)
                }
                _ => None,
            });
            said(format!(":{}", cleared.iter().flatten().count()))
        }
        "JSON.NUMINCRBY" => {
            let numbers = each(&|item| match item {
                Item::Whole(whole) => {
                    *whole += number;
                    Some(*whole)
                }
                _ => None,
            });
            let numbers = numbers.iter().rev();
            let texts = numbers.map(|number| number.map_or("null".to_owned(), |n| n.to_string()));
            let text = format!("[{}]", texts.collect::<Vec<_>>().join(","));
            said(bulk(Some(&text)))
        }
        _ => {
            let mut lengths = each(&|item| match item {
                Item::List(items) => {
                    items.push(number);
                    Some(length(items.len()))
                }
                _ => None,
            });
            lengths.reverse();
            said(numbers(&lengths))
        }
    }
}

/// What a command says where there is no document.
fn without(word: &str) -> &'static str {
    match word {
        "JSON.NUMINCRBY" | "JSON.ARRAPPEND" => "-ERR NotFound: ",
        "JSON.STRLEN" => "-ERR could not perform this operation on a key that doesn't exist",
        _ => "$-1",
    }
}

const EDITS: [&str; 6] =
    ["JSON.TOGGLE", "JSON.STRLEN", "JSON.ARRLEN", "JSON.CLEAR", "JSON.NUMINCRBY", "JSON.ARRAPPEND"];

/// A random command and what the model says to it.
fn step(random: &mut StdRng, model: &mut Keyspace<Document>) -> (String, String) {
    let (key, name) = (any(&KEYS, random), any(&NAMES, random));
    let (item, number) = (Item::random(random), random.random_range(-3..10));
    let held = model.value(key).cloned().flatten();
    match random.random_range(0..10) {
        0 => {
            let members: Members = NAMES
                .iter()
                .take(random.random_range(0..5))
                .map(|name| (*name, Item::random(random)))
                .collect();
            let command = format!("JSON.SET {key} $ {}", text(&members));
            *model.value_mut(key) = Some(members);
            (command, "+OK".to_owned())
        }
        1 | 2 => {
            let command = format!("JSON.SET {key} $.{name} {}", item.text());
            let Some(mut members) = held else {
                let refused = "-ERR Invalid argument: new objects must be created at the root";
                return (command, refused.to_owned());
            };
            members.insert(name, item);
            *model.value_mut(key) = Some(members);
            (command, "+OK".to_owned())
        }
        3 => {
            let command = format!("JSON.MERGE {key} $ {{\"{name}\":{},\"a\":null}}", item.text());
            let mut members = held.unwrap_or_default();
            let is_new = model.value(key).is_none();
            members.insert(name, item);
            if name == "a" || is_new {
                // Of two members with one name the first one counts; what is new is kept as it is.
                return (format!("EXISTS {key}"), model::flag(!is_new));
            }
            members.remove("a");
            *model.value_mut(key) = Some(members);
            (command, "+OK".to_owned())
        }
        4 => {
            let command = format!("JSON.DEL {key} $.{name}");
            let Some(mut members) = held else { return (command, ":0".to_owned()) };
            let is_removed = members.remove(name).is_some();
            *model.value_mut(key) = Some(members);
            (command, model::flag(is_removed))
        }
        5 => {
            let members = held.map(|members| text(&members));
            (format!("JSON.GET {key}"), bulk(members.as_deref()))
        }
        6 => {
            let kinds = held.map(|members| members.values().map(Item::kind).collect::<Vec<_>>());
            let reply = kinds.map_or_else(|| "$-1".to_owned(), model::array);
            (format!("JSON.TYPE {key} $.*"), reply)
        }
        _ => {
            let word = any(&EDITS, random);
            let one = random.random_bool(0.5).then_some(name);
            let path = one.map_or("$.*".to_owned(), |name| format!("$.{name}"));
            let more = match word {
                "JSON.NUMINCRBY" | "JSON.ARRAPPEND" => format!(" {number}"),
                _ => String::new(),
            };
            let command = format!("{word} {key} {path}{more}");
            let Some(mut members) = held else { return (command, without(word).to_owned()) };
            let (_, reply) = edit(word, &mut members, one, number);
            *model.value_mut(key) = Some(members);
            (command, reply)
        }
    }
}

#[test]
fn documents_are_what_the_model_says() {
    model::runs::<Document>();
}

#[test]
fn other_types_are_refused_both_ways() {
    const WRONG: &str = "-WRONGTYPE Operation against a key holding the wrong kind of value";
    let mut shell = Shell::new();
    shell.run("SET s v");
    shell.run("HSET h f v");
    shell.run("JSON.SET j $ {\"a\":[1]}");
    for command in [
        "JSON.SET s $ 1",
        "JSON.GET h",
        "JSON.GET s $.a",
        "JSON.DEL h",
        "JSON.DEL s $.a",
        "JSON.MERGE h $ 1",
        "JSON.MSET n $ 1 s $ 1",
        "JSON.INFO s",
        "JSON.DEBUG MEMORY h",
        "JSON.NUMINCRBY s $ 1",
        "JSON.RESP h",
        "GET j",
        "APPEND j x",
        "INCR j",
        "SETBIT j 0 1",
        "HSET j f v",
        "LPUSH j x",
        "SADD j x",
        "ZADD j 1 x",
        "XADD j * f v",
        "SIADD j 1",
        "PFADD j x",
    ] {
        assert_eq!(shell.run(command), WRONG, "{command}");
    }
    assert_eq!(shell.run("EXISTS n"), ":0");
    assert_eq!(shell.run("JSON.MGET s j h $.a"), "*3 $-1 $5 [[1]] $-1");
    assert_eq!(shell.run("TYPE j"), "+ReJSON-RL");
}

/// A document keeps its time, is copied and renamed, and is gone when its time is over.
#[test]
fn documents_live_as_other_values_do() {
    let mut shell = Shell::new();
    shell.run("JSON.SET j $ {\"a\":1}");
    shell.run("PEXPIRE j 1000");
    shell.run("JSON.SET j $ {\"a\":2}");
    shell.run("JSON.NUMINCRBY j $.a 1");
    assert_eq!(shell.run("PTTL j"), ":1000");
    shell.run("COPY j k");
    shell.run("RENAME j l");
    assert_eq!(shell.run("JSON.GET k"), "$7 {\"a\":3}");
    shell.advance(1001);
    assert_eq!(shell.run("JSON.GET l"), "$-1");
    assert_eq!(
        shell.run("JSON.SET l $.a 1"),
        "-ERR Invalid argument: new objects must be created at the root"
    );
    assert_eq!(shell.run("JSON.SET l $ 1"), "+OK");
    assert_eq!(shell.run("PTTL l"), ":-1");
}
