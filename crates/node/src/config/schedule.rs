//! Options that say when something is done, as cron's files do.

use super::value::Value;

/// A moment of local time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// 0 to 59.
    pub minute: u8,
    /// 0 to 23.
    pub hour: u8,
    /// 1 to 31.
    pub day: u8,
    /// 1 to 12.
    pub month: u8,
    /// 0 to 6, from Sunday on.
    pub weekday: u8,
}

impl Moment {
    /// Local time at these Unix seconds.
    #[expect(unsafe_code, reason = "std knows no time zones")]
    pub fn at(unix_seconds: u64) -> Option<Self> {
        let seconds = libc::time_t::try_from(unix_seconds).ok()?;
        // SAFETY: all-zero bytes are a valid tm: its pointer may be null.
        let mut parts: libc::tm = unsafe { std::mem::zeroed() };
        // SAFETY: both pointers are to live values, and the function keeps none of them.
        let outcome = unsafe { libc::localtime_r(&raw const seconds, &raw mut parts) };
        let part = |number: libc::c_int| u8::try_from(number).ok();
        (!outcome.is_null()).then_some(())?;
        Some(Self {
            minute: part(parts.tm_min)?,
            hour: part(parts.tm_hour)?,
            day: part(parts.tm_mday)?,
            month: part(parts.tm_mon)?.checked_add(1)?,
            weekday: part(parts.tm_wday)?,
        })
    }

    fn parts(self) -> [u8; 5] {
        [self.minute, self.hour, self.day, self.month, self.weekday]
    }
}

/// Least and greatest number of each of the five fields; Sunday may be 7 too.
const BOUNDS: [(u8, u8); 5] = [(0, 59), (0, 23), (1, 31), (1, 12), (0, 7)];

/// Minutes of a day, hours and so on: one bit for each number.
type Field = u64;

/// Times at which something is due: lines of five fields, one behind the other.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Schedule {
    lines: Vec<[Field; 5]>,
    text: String,
}

impl Schedule {
    /// Whether nothing ever is.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Whether something is due in the minute of this moment. As in Kvrocks all five fields count.
    pub fn is_due(&self, at: Moment) -> bool {
        let is_in = |line: &[Field; 5]| {
            line.iter().zip(at.parts()).all(|(field, part)| field & (1 << part) != 0)
        };
        self.lines.iter().any(is_in)
    }
}

fn field(text: &str, (least, most): (u8, u8)) -> Option<Field> {
    let number = |text: &str| text.parse().ok().filter(|number| (least..=most).contains(number));
    let mut bits = 0;
    for part in text.split(',') {
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => (range, step.parse().ok().filter(|step: &u8| *step > 0)?),
            None => (part, 1),
        };
        let (from, to) = match range.split_once('-') {
            _ if range == "*" => (least, most),
            Some((from, to)) => (number(from)?, number(to)?),
            None => (number(range)?, number(range)?),
        };
        if from > to {
            return None;
        }
        for number in (from..=to).step_by(usize::from(step)) {
            bits |= 1 << number;
        }
    }
    // Sunday is the first day and the last.
    if most == 7 && bits & (1 << 7) != 0 {
        bits |= 1;
    }
    Some(bits)
}

impl Value for Schedule {
    fn parse(text: &str) -> Result<Self, String> {
        let error = || {
            "argument must be minute, hour, day, month and weekday, as in `0 3 * * *`".to_owned()
        };
        let words: Vec<&str> = text.split_whitespace().collect();
        let (groups, rest) = words.as_chunks::<5>();
        if !rest.is_empty() {
            return Err(error());
        }
        let mut lines = Vec::with_capacity(groups.len());
        for group in groups {
            let mut line = [0; 5];
            for ((field_of, text), bounds) in line.iter_mut().zip(group).zip(BOUNDS) {
                *field_of = field(text, bounds).ok_or_else(error)?;
            }
            lines.push(line);
        }
        Ok(Self { lines, text: words.join(" ") })
    }

    fn render(&self) -> String {
        self.text.clone()
    }
}

/// Hours of the day, as a cron's file has them: `0-7`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Hours {
    hours: Field,
    text: String,
}

impl Hours {
    /// Whether a moment lies in one of them.
    pub fn has(&self, at: Moment) -> bool {
        self.hours & (1 << at.hour) != 0
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.hours == 0
    }
}

impl Value for Hours {
    fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if text.is_empty() {
            return Ok(Self::default());
        }
        let [_, bounds, ..] = BOUNDS;
        let hours = field(text, bounds);
        let hours = hours.ok_or("argument must be hours of the day, as in `0-7`")?;
        Ok(Self { hours, text: text.to_owned() })
    }

    fn render(&self) -> String {
        self.text.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moment(minute: u8, hour: u8, day: u8, month: u8, weekday: u8) -> Moment {
        Moment { minute, hour, day, month, weekday }
    }

    #[test]
    fn all_fields_count() {
        let due = |text: &str, at| Schedule::parse(text).unwrap().is_due(at);
        let at = moment(30, 3, 29, 11, 0);
        for text in [
            "* * * * *",
            "30 3 * * *",
            "*/15 * * * *",
            "0,30 1-5 * * *",
            "30 3 29 11 0",
            "* * * * 7",
            "0 0 1 1 1 30 3 * * *",
            "10-40/20 * * * *",
        ] {
            assert!(due(text, at), "{text}");
        }
        for text in ["", "31 3 * * *", "*/7 * * * *", "30 3 28 * *", "* * * 12 *", "* * * * 1-6"] {
            assert!(!due(text, at), "{text}");
        }
    }

    #[test]
    fn what_is_no_schedule_is_refused() {
        for text in [
            "x",
            "* * *",
            "60 * * * *",
            "* 24 * * *",
            "* * 0 * *",
            "*/0 * * * *",
            "5-1 * * * *",
            "-1 * * * *",
        ] {
            assert!(Schedule::parse(text).is_err(), "{text}");
        }
        assert_eq!(Schedule::parse(" 0  3 * * * ").unwrap().render(), "0 3 * * *");
        let at = Moment::at(1_795_353_978).unwrap();
        assert!(at.month == 11 && (21..=23).contains(&at.day) && at.minute == 26);
    }

    #[test]
    fn hours_are_those_of_a_crons_file() {
        let has = |text: &str, hour| Hours::parse(text).unwrap().has(moment(59, hour, 1, 1, 1));
        assert!(has("0-7", 0) && has("0-7", 7) && !has("0-7", 8) && has("22,23,0-3", 23));
        assert!(!has("", 0) && Hours::parse(" ").unwrap().is_empty());
        for text in ["7-0", "24", "0-24", "x", "1 2"] {
            assert!(Hours::parse(text).is_err(), "{text}");
        }
        assert_eq!(Hours::parse(" 0-7 ").unwrap().render(), "0-7");
    }
}
