//! Lua 5.1's patterns, byte for byte, its quirks included: a zero byte ends a pattern, `%f` is
//! there. Lua's own matcher nests without a bound, until the stack of the thread is used up, and
//! looks at nothing until it is done, which with some patterns is never. This one refuses to nest
//! too deeply, and asks from time to time whether the script is to end.
//!
//! It knows nothing of Lua's states, and nothing here needs to be dropped: `text.rs` may leave it
//! by an error of Lua's.

use std::cell::Cell;
use std::ffi::CStr;

mod plain;

pub(crate) use plain::{find_plain, is_plain};

/// Most captures of a pattern.
const CAPTURES_MAX: usize = 32;
/// Deepest nesting of repetitions and captures. Later Luas, on smaller stacks, take 200.
const DEPTH_MAX: u32 = 1_000;
/// Steps between two looks at whether the script is to end.
const STEPS: usize = 10_000;

/// Why there is no answer. It is small: an answer fits into two registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The script is to end.
    Stop,
    TooComplex,
    TooManyCaptures,
    NoSuchCapture,
    UnfinishedCapture,
    NothingToClose,
    EndsWithEscape,
    MissingBracket,
    MissingClass,
    Unbalanced,
}

impl Fault {
    /// In Lua's words, but for what Lua does not know.
    pub(crate) fn text(self) -> &'static CStr {
        match self {
            Self::Stop => c"the script was stopped",
            Self::TooComplex => c"pattern too complex",
            Self::TooManyCaptures => c"too many captures",
            Self::NoSuchCapture => c"invalid capture index",
            Self::UnfinishedCapture => c"unfinished capture",
            Self::NothingToClose => c"invalid pattern capture",
            Self::EndsWithEscape => c"malformed pattern (ends with '%')",
            Self::MissingBracket => c"malformed pattern (missing ']')",
            Self::MissingClass => c"missing '[' after '%f' in pattern",
            Self::Unbalanced => c"unbalanced pattern",
        }
    }
}

type Found<T> = Result<T, Fault>;

thread_local! {
    /// Steps since the last look, of searches that are over: many short ones are a long one.
    static STEPS_BEFORE: Cell<usize> = const { Cell::new(0) };
}

/// Counts steps, and asks every so many of them whether the script is to end.
pub(crate) struct Pace<'p> {
    steps: usize,
    is_over: &'p mut dyn FnMut() -> bool,
}

impl<'p> Pace<'p> {
    pub(crate) fn new(is_over: &'p mut dyn FnMut() -> bool) -> Self {
        Self { steps: STEPS_BEFORE.get(), is_over }
    }

    /// This search is over: the next one of this thread goes on counting.
    pub(crate) fn rest(&self) {
        STEPS_BEFORE.set(self.steps);
    }

    #[inline]
    fn step(&mut self, cost: usize) -> Found<()> {
        self.steps += cost;
        if self.steps < STEPS { Ok(()) } else { self.look() }
    }

    #[cold]
    fn look(&mut self) -> Found<()> {
        self.steps = 0;
        if (self.is_over)() { Err(Fault::Stop) } else { Ok(()) }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Length {
    Open,
    Position,
    Closed(usize),
}

#[derive(Debug, Clone, Copy)]
struct Capture {
    from: usize,
    length: Length,
}

/// What a capture holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Captured {
    /// Bytes of the text: where they begin and end.
    Text(usize, usize),
    /// A position, from 1 on.
    Position(usize),
}

/// One pattern on one text.
pub(crate) struct Matcher<'m, 'p> {
    text: &'m [u8],
    /// Up to its first zero byte.
    pattern: &'m [u8],
    captures: [Capture; CAPTURES_MAX],
    level: usize,
    depth: u32,
    /// Counts its steps.
    pub(crate) pace: Pace<'p>,
}

/// What of a pattern C would see.
fn up_to_zero(pattern: &[u8]) -> &[u8] {
    let end = pattern.iter().position(|byte| *byte == 0);
    end.map_or(pattern, |end| &pattern[..end])
}

fn is_of_class(byte: u8, class: u8) -> bool {
    let is = match class.to_ascii_lowercase() {
        b'a' => byte.is_ascii_alphabetic(),
        b'c' => byte.is_ascii_control(),
        b'd' => byte.is_ascii_digit(),
        b'l' => byte.is_ascii_lowercase(),
        b'p' => byte.is_ascii_punctuation(),
        // C's has the vertical tab, Rust's has not.
        b's' => matches!(byte, b' ' | b'\t'..=b'\r'),
        b'u' => byte.is_ascii_uppercase(),
        b'w' => byte.is_ascii_alphanumeric(),
        b'x' => byte.is_ascii_hexdigit(),
        b'z' => byte == 0,
        _ => return class == byte,
    };
    is == class.is_ascii_lowercase()
}

impl<'m, 'p> Matcher<'m, 'p> {
    pub(crate) fn new(text: &'m [u8], pattern: &'m [u8], pace: Pace<'p>) -> Self {
        let captures = [Capture { from: 0, length: Length::Open }; CAPTURES_MAX];
        let pattern = up_to_zero(pattern);
        Self { text, pattern, captures, level: 0, depth: 0, pace }
    }

    /// Where a match ends that begins at `from`.
    pub(crate) fn at(&mut self, from: usize) -> Found<Option<usize>> {
        self.level = 0;
        self.depth = 0;
        self.run(from, 0)
    }

    /// The first match that begins at `from` or behind it: its begin and its end.
    pub(crate) fn search(&mut self, from: usize) -> Found<Option<(usize, usize)>> {
        for at in from..=self.text.len() {
            if let Some(end) = self.at(at)? {
                return Ok(Some((at, end)));
            }
        }
        Ok(None)
    }

    /// How many captures the last match has.
    pub(crate) fn level(&self) -> usize {
        self.level
    }

    /// What a capture of the last match holds; the first one of none is the match itself.
    pub(crate) fn capture(&self, index: usize, whole: (usize, usize)) -> Found<Captured> {
        let Some(capture) = self.captures[..self.level].get(index) else {
            return match index {
                0 => Ok(Captured::Text(whole.0, whole.1)),
                _ => Err(Fault::NoSuchCapture),
            };
        };
        match capture.length {
            Length::Open => Err(Fault::UnfinishedCapture),
            Length::Position => Ok(Captured::Position(capture.from + 1)),
            Length::Closed(length) => Ok(Captured::Text(capture.from, capture.from + length)),
        }
    }

    /// A byte of the pattern; 0 behind its end, as in C.
    #[inline]
    fn byte(&self, at: usize) -> u8 {
        self.pattern.get(at).copied().unwrap_or(0)
    }

    /// The same of the text.
    #[inline]
    fn text_at(&self, at: usize) -> u8 {
        self.text.get(at).copied().unwrap_or(0)
    }

    fn run(&mut self, at: usize, item: usize) -> Found<Option<usize>> {
        if self.depth >= DEPTH_MAX {
            return Err(Fault::TooComplex);
        }
        self.depth += 1;
        let found = self.items(at, item)?;
        self.depth -= 1;
        Ok(found)
    }

    /// The items of a pattern from one on, at a place of the text: where the match ends.
    fn items(&mut self, mut at: usize, mut item: usize) -> Found<Option<usize>> {
        loop {
            self.pace.step(1)?;
            match self.byte(item) {
                b'(' if self.byte(item + 1) == b')' => {
                    return self.open(at, item + 2, Length::Position);
                }
                b'(' => return self.open(at, item + 1, Length::Open),
                b')' => return self.close(at, item + 1),
                b'$' if self.byte(item + 1) == 0 => {
                    return Ok((at == self.text.len()).then_some(at));
                }
                0 => return Ok(Some(at)),
                b'%' => match self.special(at, item)? {
                    Special::Goes((to, next)) => {
                        (at, item) = (to, next);
                        continue;
                    }
                    Special::Fails => return Ok(None),
                    Special::IsClass => {}
                },
                _ => {}
            }
            let end = self.class_end(item)?;
            let is_matched = at < self.text.len() && self.single(self.text[at], item, end);
            match self.byte(end) {
                b'?' => {
                    if is_matched && let Some(found) = self.run(at + 1, end + 1)? {
                        return Ok(Some(found));
                    }
                    item = end + 1;
                }
                b'*' => return self.most(at, item, end),
                b'+' if is_matched => return self.most(at + 1, item, end),
                b'-' => return self.least(at, item, end),
                b'+' => return Ok(None),
                _ if is_matched => (at, item) = (at + 1, end),
                _ => return Ok(None),
            }
        }
    }

    /// `%b`, `%f` and `%1`.
    fn special(&mut self, at: usize, item: usize) -> Found<Special> {
        let goes =
            |to: Option<usize>, next| to.map_or(Special::Fails, |to| Special::Goes((to, next)));
        match self.byte(item + 1) {
            b'b' => Ok(goes(self.balance(at, item + 2)?, item + 4)),
            b'f' => {
                let class = item + 2;
                if self.byte(class) != b'[' {
                    return Err(Fault::MissingClass);
                }
                let end = self.class_end(class)?;
                let before = if at == 0 { 0 } else { self.text_at(at - 1) };
                let is_frontier = !self.bracket(before, class, end - 1)
                    && self.bracket(self.text_at(at), class, end - 1);
                Ok(goes(is_frontier.then_some(at), end))
            }
            digit @ b'0'..=b'9' => Ok(goes(self.again(at, digit)?, item + 2)),
            _ => Ok(Special::IsClass),
        }
    }

    /// Where an item of one character ends.
    fn class_end(&mut self, item: usize) -> Found<usize> {
        match self.byte(item) {
            b'%' => match self.byte(item + 1) {
                0 => Err(Fault::EndsWithEscape),
                _ => Ok(item + 2),
            },
            b'[' => {
                let mut at = item + 1;
                if self.byte(at) == b'^' {
                    at += 1;
                }
                // The first one is of the class, be it `]`.
                loop {
                    let byte = self.byte(at);
                    if byte == 0 {
                        return Err(Fault::MissingBracket);
                    }
                    at += 1;
                    if byte == b'%' && self.byte(at) != 0 {
                        at += 1;
                    }
                    if self.byte(at) == b']' {
                        break;
                    }
                }
                self.pace.step((at - item) / 16)?;
                Ok(at + 1)
            }
            _ => Ok(item + 1),
        }
    }

    #[inline]
    fn single(&self, byte: u8, item: usize, end: usize) -> bool {
        match self.byte(item) {
            b'.' => true,
            b'%' => is_of_class(byte, self.byte(item + 1)),
            b'[' => self.bracket(byte, item, end - 1),
            other => other == byte,
        }
    }

    /// Whether a byte is of the class in brackets, the second of which is at `end`.
    fn bracket(&self, byte: u8, item: usize, end: usize) -> bool {
        let is_inverted = self.byte(item + 1) == b'^';
        let mut at = item + usize::from(is_inverted) + 1;
        while at < end {
            let first = self.byte(at);
            let is_in = if first == b'%' {
                at += 1;
                is_of_class(byte, self.byte(at))
            } else if self.byte(at + 1) == b'-' && at + 2 < end {
                at += 2;
                first <= byte && byte <= self.byte(at)
            } else {
                first == byte
            };
            if is_in {
                return !is_inverted;
            }
            at += 1;
        }
        is_inverted
    }

    /// `%b()`
    fn balance(&mut self, at: usize, item: usize) -> Found<Option<usize>> {
        let (open, close) = (self.byte(item), self.byte(item + 1));
        if open == 0 || close == 0 {
            return Err(Fault::Unbalanced);
        }
        if self.text_at(at) != open {
            return Ok(None);
        }
        let mut depth = 1_usize;
        let mut end = None;
        for (more, byte) in self.text[at + 1..].iter().enumerate() {
            if *byte == close {
                depth -= 1;
                if depth == 0 {
                    end = Some(at + 1 + more + 1);
                    break;
                }
            } else if *byte == open {
                depth += 1;
            }
        }
        self.pace.step((end.unwrap_or(self.text.len()) - at) / 4)?;
        Ok(end)
    }

    /// As many as there are, then fewer.
    fn most(&mut self, at: usize, item: usize, end: usize) -> Found<Option<usize>> {
        let cost = 1 + (end - item) / 16;
        let mut count = 0;
        while let Some(byte) = self.text.get(at + count)
            && self.single(*byte, item, end)
        {
            count += 1;
            self.pace.step(cost)?;
        }
        for count in (0..=count).rev() {
            if let Some(found) = self.run(at + count, end + 1)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// As few as will do.
    fn least(&mut self, mut at: usize, item: usize, end: usize) -> Found<Option<usize>> {
        let cost = 1 + (end - item) / 16;
        loop {
            if let Some(found) = self.run(at, end + 1)? {
                return Ok(Some(found));
            }
            match self.text.get(at) {
                Some(byte) if self.single(*byte, item, end) => at += 1,
                _ => return Ok(None),
            }
            self.pace.step(cost)?;
        }
    }

    fn open(&mut self, at: usize, item: usize, length: Length) -> Found<Option<usize>> {
        let Some(capture) = self.captures.get_mut(self.level) else {
            return Err(Fault::TooManyCaptures);
        };
        *capture = Capture { from: at, length };
        self.level += 1;
        let found = self.run(at, item)?;
        if found.is_none() {
            self.level -= 1;
        }
        Ok(found)
    }

    fn close(&mut self, at: usize, item: usize) -> Found<Option<usize>> {
        let open = self.captures[..self.level].iter().rposition(|one| one.length == Length::Open);
        let Some(open) = open else { return Err(Fault::NothingToClose) };
        self.captures[open].length = Length::Closed(at - self.captures[open].from);
        let found = self.run(at, item)?;
        if found.is_none() {
            self.captures[open].length = Length::Open;
        }
        Ok(found)
    }

    /// `%1`: what a capture holds, once more.
    fn again(&mut self, at: usize, digit: u8) -> Found<Option<usize>> {
        let index = usize::from(digit).checked_sub(usize::from(b'1'));
        let capture = index.and_then(|index| self.captures[..self.level].get(index)).copied();
        let (from, length) = match capture {
            None | Some(Capture { length: Length::Open, .. }) => {
                return Err(Fault::NoSuchCapture);
            }
            // Its length is none that a text could have.
            Some(Capture { length: Length::Position, .. }) => return Ok(None),
            Some(Capture { from, length: Length::Closed(length) }) => (from, length),
        };
        self.pace.step(length / 16)?;
        let text = &self.text[from..from + length];
        Ok(self.text[at..].starts_with(text).then_some(at + length))
    }
}

/// What came of an item that begins with `%`.
enum Special {
    /// On from that place of the text, with that item.
    Goes((usize, usize)),
    Fails,
    /// It stands for a character, as others do.
    IsClass,
}

#[cfg(test)]
mod tests;
