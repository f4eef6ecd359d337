//! From a seed to a sequence of commands. Pure.

use anyhow::{Context as _, Result};
use rand::Rng as _;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;

use super::form::Form;
use super::grammar::{FAMILIES, LOOKS};
use super::kind::{KEYS, Kind, ODD, text};

/// Commands of a sequence, without the looks at its end.
const LENGTH: std::ops::RangeInclusive<usize> = 5..=50;

/// One thing that happens to both servers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// A command on the connection of this name.
    Ask(char, Vec<Vec<u8>>),
    /// A key gets one more millisecond to live, and both have seen its end.
    Expire(Vec<u8>),
}

impl Step {
    /// The name of the command, in lower case.
    pub fn name(&self) -> String {
        match self {
            Self::Ask(_, words) => words.first().map_or_else(String::new, |word| {
                String::from_utf8_lossy(word).to_ascii_lowercase()
            }),
            Self::Expire(_) => "exists".to_owned(),
        }
    }
}

/// As lines of a `.probe` file.
impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Ask(connection, words) => {
                write!(f, "{connection}: {}", quoted(words))
            }
            Self::Expire(key) => {
                let key = quoted(std::slice::from_ref(key));
                write!(f, "c: PEXPIRE {key} 1\nuntil 0 EXISTS {key}")
            }
        }
    }
}

/// Words as redis-cli takes them.
fn quoted(words: &[Vec<u8>]) -> String {
    let quote = |word: &Vec<u8>| {
        let is_plain = |byte: &u8| byte.is_ascii_graphic() && !b"\"'\\".contains(byte);
        let plain = String::from_utf8_lossy(word);
        if !word.is_empty() && word.iter().all(is_plain) {
            plain.into_owned()
        } else {
            format!("\"{}\"", word.escape_ascii().to_string().replace("\\'", "'"))
        }
    };
    words.iter().map(quote).collect::<Vec<_>>().join(" ")
}

/// The table, read.
#[derive(Debug)]
pub struct Grammar {
    forms: Vec<(u32, Form)>,
    looks: Vec<Vec<Vec<u8>>>,
}

impl Grammar {
    /// Fails only if the table is wrong.
    pub fn read() -> Result<Self> {
        let forms = FAMILIES.iter().copied().flatten();
        let forms = forms.map(|(weight, text)| Ok((*weight, Form::parse(text)?)));
        let words = |look: &str| look.split(' ').map(|word| word.as_bytes().to_vec()).collect();
        Ok(Self {
            forms: forms.collect::<Result<_>>()?,
            looks: LOOKS.iter().map(|look| words(look)).collect(),
        })
    }

    fn command(&self, rng: &mut StdRng) -> Result<Vec<Vec<u8>>> {
        let form = self.forms.choose_weighted(rng, |(weight, _)| *weight);
        let mut words = form.context("draw a form")?.1.draw(rng);
        // Short of a word, a sketch would lie at a key of something else.
        let is_of_sketch = words.iter().any(|word| word.starts_with(b"sketch:"));
        if rng.random_ratio(1, 10) && !is_of_sketch {
            spoil(&mut words, rng);
        }
        if rng.random_ratio(1, 8) {
            words[0].make_ascii_lowercase();
        }
        Ok(words)
    }

    /// The looks at every key.
    fn looks(&self) -> impl Iterator<Item = Step> {
        self.looks.iter().flat_map(|look| {
            let is_of_key = look.iter().any(|word| word == b"key");
            let keys = if is_of_key { &KEYS[..] } else { &KEYS[..1] };
            keys.iter().map(|key| {
                let word =
                    |word: &Vec<u8>| if word == b"key" { key.to_vec() } else { word.clone() };
                Step::Ask('z', look.iter().map(word).collect())
            })
        })
    }
}

/// Makes a command wrong, or at least unusual.
fn spoil(words: &mut Vec<Vec<u8>>, rng: &mut StdRng) {
    let at = rng.random_range(1..=words.len());
    match rng.random_range(0..5) {
        0 if at < words.len() => drop(words.remove(at)),
        1 if at < words.len() => words.insert(at, words[at].clone()),
        2 | 3 if at < words.len() => words[at] = text(&ODD, rng),
        _ => words.insert(at, text(&ODD, rng)),
    }
}

/// The sequence of a seed, with the looks at its end.
pub fn sequence(grammar: &Grammar, seed: u64) -> Result<Vec<Step>> {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut steps = Vec::new();
    for _ in 0..rng.random_range(LENGTH) {
        steps.push(match rng.random_range(0..40) {
            0 => Step::Expire(Kind::Key.draw(&mut rng)),
            1..10 => Step::Ask('b', grammar.command(&mut rng)?),
            _ => Step::Ask('a', grammar.command(&mut rng)?),
        });
    }
    steps.extend(grammar.looks());
    Ok(steps)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_a_sequence() {
        let grammar = Grammar::read().unwrap();
        let [one, same, other] = [7, 7, 8].map(|seed| sequence(&grammar, seed).unwrap());
        assert_eq!(one, same);
        assert_ne!(one, other);
        let looks = 1 + (LOOKS.len() - 1) * KEYS.len();
        assert!(one.iter().rev().take(looks).all(|step| matches!(step, Step::Ask('z', _))));
    }

    #[test]
    fn a_step_is_a_line_of_a_probe() {
        let words = |text: &[&[u8]]| text.iter().map(|word| word.to_vec()).collect::<Vec<_>>();
        let step = Step::Ask('b', words(&[b"SET", b"d\0\xff", b"a 'b\"\\"]));
        assert_eq!(step.to_string(), r#"b: SET "d\x00\xff" "a 'b\"\\""#);
        let read = resp::request::split_words(&step.to_string().as_bytes()[3..]).unwrap();
        assert_eq!(Step::Ask('b', read), step);
        let step = Step::Expire(Vec::new());
        assert_eq!(step.to_string(), "c: PEXPIRE \"\" 1\nuntil 0 EXISTS \"\"");
    }
}
