//! One line of the grammar, read and drawn from. Pure.

use anyhow::{Context as _, Result, bail, ensure};
use rand::Rng as _;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;

use super::kind::Kind;

/// What a command looks like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Form(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Word(String),
    Kind(Kind),
    Choice { is_optional: bool, of: Vec<Form> },
    Repeated(Box<Part>),
}

const SIGNS: [char; 6] = ['[', ']', '(', ')', '|', '…'];

impl Form {
    /// Reads a line.
    pub fn parse(text: &str) -> Result<Self> {
        let mut rest = text;
        let form = Self::read(&mut rest).with_context(|| format!("read `{text}`"))?;
        ensure!(rest.is_empty(), "`{text}`: `{rest}` closes nothing");
        Ok(form)
    }

    /// As far as the sign that ends it.
    fn read(rest: &mut &str) -> Result<Self> {
        let mut parts = Vec::new();
        loop {
            *rest = rest.trim_start();
            let Some(sign) = rest.chars().next().filter(|sign| !"])|".contains(*sign)) else {
                return Ok(Self(parts));
            };
            match sign {
                '[' => parts.push(choice(rest, ']')?),
                '(' => parts.push(choice(rest, ')')?),
                '…' => {
                    *rest = &rest[sign.len_utf8()..];
                    let repeated = parts.pop().context("nothing before `…`")?;
                    parts.push(Part::Repeated(Box::new(repeated)));
                }
                _ => parts.push(word(rest)?),
            }
        }
    }

    /// One command of this form; what is optional at its end comes in any order.
    pub fn draw(&self, rng: &mut StdRng) -> Vec<Vec<u8>> {
        let is_option = |part: &Part| matches!(part, Part::Choice { is_optional: true, .. });
        let fixed = self.0.iter().rposition(|part| !is_option(part)).map_or(0, |last| last + 1);
        let (fixed, options) = self.0.split_at(fixed);
        let mut options: Vec<&Part> = options.iter().collect();
        options.shuffle(rng);
        let mut words = Vec::new();
        for part in fixed.iter().chain(options) {
            part.draw(rng, &mut words);
        }
        words
    }
}

fn choice(rest: &mut &str, end: char) -> Result<Part> {
    let mut of = Vec::new();
    let mut sign = Some(end);
    while sign.is_some_and(|sign| of.is_empty() || sign == '|') {
        *rest = rest.get(1..).unwrap_or_default();
        of.push(Form::read(rest)?);
        sign = rest.chars().next();
    }
    ensure!(sign == Some(end), "`{end}` is missing");
    *rest = &rest[1..];
    Ok(Part::Choice { is_optional: end == ']', of })
}

fn word(rest: &mut &str) -> Result<Part> {
    let end = rest.find(|c: char| c == ' ' || SIGNS.contains(&c)).unwrap_or(rest.len());
    let (word, after) = rest.split_at(end);
    *rest = after;
    if let Some(kind) = Kind::parse(word) {
        return Ok(Part::Kind(kind));
    }
    if word.contains(|c: char| c.is_ascii_lowercase()) {
        bail!("there is no kind `{word}`");
    }
    Ok(Part::Word(word.to_owned()))
}

impl Part {
    fn draw(&self, rng: &mut StdRng, words: &mut Vec<Vec<u8>>) {
        match self {
            Self::Word(word) => words.push(word.as_bytes().to_vec()),
            Self::Kind(kind) => words.push(kind.draw(rng)),
            Self::Choice { is_optional, of } => {
                if !is_optional || rng.random_ratio(2, 5) {
                    words.extend(of[rng.random_range(0..of.len())].draw(rng));
                }
            }
            Self::Repeated(part) => {
                for _ in 0..rng.random_range(1..=3) {
                    part.draw(rng, words);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use rand::SeedableRng as _;

    use super::*;

    fn all(text: &str) -> BTreeSet<String> {
        let (form, mut rng) = (Form::parse(text).unwrap(), StdRng::seed_from_u64(1));
        let draw = |_| String::from_utf8_lossy(&form.draw(&mut rng).join(&b' ')).into_owned();
        (0..200).map(draw).collect()
    }

    fn set(texts: &[&str]) -> BTreeSet<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn a_form_says_what_is_drawn() {
        assert_eq!(all("A [B|C D]"), set(&["A", "A B", "A C D"]));
        assert_eq!(all("A [B] [C]"), set(&["A", "A B", "A C", "A B C", "A C B"]));
        assert_eq!(all("A [B] C"), set(&["A C", "A B C"]));
        assert_eq!(all("A (B|C (D))…").len(), 2 + 4 + 8);
        assert!(all("DECR key").contains("DECR {a}c"));
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["A [B", "A B]", "A nokind", "…", "A (B]"] {
            assert!(Form::parse(text).is_err(), "{text}");
        }
    }
}
