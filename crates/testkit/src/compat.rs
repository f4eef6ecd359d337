//! `COMPAT.md`: every command of Kvrocks and of Redis 7.2, and what becomes of it here.
//!
//! Lists of their commands, a short file of reasons and the deviations that the recordings and
//! probes need go in, the page comes out. A command that is missing without a reason is an error,
//! as is a reason that nothing needs.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use anyhow::{Context as _, Result, bail, ensure};

/// Whose commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum List {
    /// Kvrocks.
    Kvrocks,
    /// Redis 7.2.
    Redis,
}

/// A line of the file of reasons.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Reason {
    list: List,
    pattern: String,
    is_missing: bool,
    why: String,
}

impl Reason {
    fn parse(line: &str) -> Result<Self> {
        let words: Vec<&str> = line.split(" | ").collect();
        let [list, pattern, what, why] = words.as_slice() else { bail!("not a reason: {line}") };
        let list = match *list {
            "kvrocks" => List::Kvrocks,
            "redis" => List::Redis,
            other => bail!("`kvrocks` or `redis`, not {other}: {line}"),
        };
        let is_missing = match *what {
            "missing" => true,
            "different" => false,
            other => bail!("`missing` or `different`, not {other}: {line}"),
        };
        Ok(Self { list, pattern: (*pattern).to_owned(), is_missing, why: (*why).to_owned() })
    }

    fn is_about(&self, list: List, name: &str) -> bool {
        let matches = match self.pattern.strip_suffix('*') {
            Some(begin) => name.starts_with(begin),
            None => name == self.pattern,
        };
        self.list == list && matches
    }
}

/// Everything that goes in.
#[derive(Debug, Clone, Copy)]
pub struct Sources<'a> {
    /// `commands/kvrocks.txt`.
    pub kvrocks: &'a str,
    /// `commands/redis-7.2.txt`.
    pub redis: &'a str,
    /// `commands/reasons.txt`.
    pub reasons: &'a str,
    /// `exceptions.txt`: how recordings of Kvrocks are not met.
    pub exceptions: &'a str,
    /// The probes, which redis-server answers too.
    pub probes: &'a [String],
    /// The commands that the binary has, those in containers as `a|b`.
    pub ours: &'a BTreeSet<String>,
}

/// Groups of names, in their order.
fn groups(text: &str) -> Vec<(String, Vec<String>)> {
    let mut groups: Vec<(String, Vec<String>)> = Vec::new();
    for line in text.lines().skip(1).map(str::trim).filter(|line| !line.is_empty()) {
        match (line.strip_prefix("# "), groups.last_mut()) {
            (Some(title), _) => groups.push((title.to_owned(), Vec::new())),
            (None, Some((_, names))) => names.push(line.to_owned()),
            (None, None) => groups.push((String::new(), vec![line.to_owned()])),
        }
    }
    groups
}

/// The command that a line of words calls, as the lists name it.
fn named(words: &str, known: &BTreeSet<String>) -> Option<String> {
    let mut words = words.split_whitespace();
    let first = words.next()?.to_lowercase();
    let both = words.next().map(|second| format!("{first}|{}", second.to_lowercase()));
    both.filter(|both| known.contains(both)).or(Some(first)).filter(|name| known.contains(name))
}

/// By command: why its answers are not the recorded ones.
fn deviations(text: &str, known: &BTreeSet<String>) -> BTreeMap<String, Vec<String>> {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut last = String::new();
    for line in text.lines().skip(1) {
        let mut parts = line.splitn(3, " | ");
        let (Some(_), Some(command), Some(why)) = (parts.next(), parts.next(), parts.next()) else {
            continue;
        };
        let why = resolved(why, &mut last);
        if let Some(name) = named(command, known).filter(|_| why != OF_ALL) {
            let reasons = found.entry(name).or_default();
            if !reasons.contains(&why) {
                reasons.push(why);
            }
        }
    }
    found
}

/// A reason that says nothing of one command; the head of the page says it of all.
const OF_ALL: &str = "the error of a wrong type is Redis' of every command";

/// By command: why redis-server answers a probe otherwise. The reason stands in the line before.
fn differences(probes: &[String], known: &BTreeSet<String>) -> BTreeMap<String, Vec<String>> {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for text in probes {
        let (mut last, mut why) = (String::new(), None);
        for line in text.lines() {
            if let Some(reason) = line.strip_prefix("! ") {
                why = Some(resolved(reason, &mut last));
                continue;
            }
            let Some(why) = why.take() else { continue };
            let command = line.strip_prefix("~ ").unwrap_or(line);
            let connection = command.split_once(": ").filter(|(name, _)| !name.contains(' '));
            let command = connection.map_or(command, |(_, command)| command);
            if let Some(name) = named(command, known) {
                let reasons = found.entry(name).or_default();
                if !reasons.contains(&why) {
                    reasons.push(why);
                }
            }
        }
    }
    found
}

/// `as above` stands for the reason before.
fn resolved(why: &str, last: &mut String) -> String {
    if let Some(more) = why.strip_prefix("as above") {
        return format!("{last}{more}");
    }
    why.clone_into(last);
    last.clone()
}

/// The page.
///
/// # Errors
/// A command is missing without a reason; a reason is about nothing.
pub fn page(sources: &Sources<'_>) -> Result<String> {
    let reasons: Vec<Reason> =
        lines(sources.reasons).map(Reason::parse).collect::<Result<_>>().context("read reasons")?;
    let mut used = BTreeSet::new();
    let mut tables = String::new();
    let mut sums = String::new();
    for (list, title, text) in
        [(List::Kvrocks, "Kvrocks", sources.kvrocks), (List::Redis, "Redis 7.2", sources.redis)]
    {
        let groups = groups(text);
        let known = groups.iter().flat_map(|(_, names)| names).cloned().collect();
        let different = match list {
            List::Kvrocks => deviations(sources.exceptions, &known),
            List::Redis => differences(sources.probes, &known),
        };
        let mut counts = [0; 3];
        writeln!(tables, "\n## Commands of {title}")?;
        for (group, names) in &groups {
            writeln!(tables, "\n### {group}\n\n| command | here | |\n|---|---|---|")?;
            for name in names {
                let (kind, why) =
                    judged(list, name, sources.ours, &reasons, &mut used, different.get(name))?;
                counts[kind] += 1;
                let word = ["same", "different on purpose", "missing"][kind];
                writeln!(tables, "| {} | {word} | {why} |", shown(name))?;
            }
        }
        let all: i32 = counts.iter().sum();
        let [same, other, missing] = counts;
        writeln!(sums, "| {title} | {all} | {same} | {other} | {missing} |")?;
    }
    let idle: Vec<&str> = reasons
        .iter()
        .enumerate()
        .filter(|(place, _)| !used.contains(place))
        .map(|(_, reason)| reason.pattern.as_str())
        .collect();
    ensure!(idle.is_empty(), "reasons that nothing needs (`make compat` drops them): {idle:?}");
    Ok(format!("{HEAD}{sums}{tables}"))
}

const HEAD: &str = "# Compatibility\n\n\
Made by `make compat` from the table of commands of the binary, the recordings and probes in `tests/compat`, and \
`tests/compat/commands/reasons.txt`; a test fails when it is out of date.\n\n\
*same*: as recorded from Kvrocks, or, where Kvrocks answers Redis' own commands otherwise than Redis 7, as Redis 7. \
*different on purpose*: the page says why. Not counted as a difference: where a key holds another type the error is \
Redis' of every command, without Kvrocks' `ERR Invalid argument:`. Subcommands are written `CONTAINER SUBCOMMAND`.\n\n\
| of | commands | same | different on purpose | missing |\n|---|---|---|---|---|\n";

fn shown(name: &str) -> String {
    format!("`{}`", name.replace('|', " ").to_uppercase())
}

/// What becomes of a command: 0 the same, 1 different, 2 missing; and why.
fn judged(
    list: List,
    name: &str,
    ours: &BTreeSet<String>,
    reasons: &[Reason],
    used: &mut BTreeSet<usize>,
    different: Option<&Vec<String>>,
) -> Result<(usize, String)> {
    let is_missing = !ours.contains(name);
    let mut why: Vec<String> = Vec::new();
    for (place, reason) in reasons.iter().enumerate() {
        if reason.is_missing == is_missing && reason.is_about(list, name) {
            used.insert(place);
            why.push(reason.why.clone());
        }
    }
    if is_missing {
        ensure!(!why.is_empty(), "{name} is missing: say why in reasons.txt");
        return Ok((2, why.join("; ")));
    }
    why.extend(different.into_iter().flatten().cloned());
    Ok((usize::from(!why.is_empty()), why.join("; ")))
}

fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'))
}

/// The file of reasons without those for commands that are not missing any more.
///
/// # Errors
/// A line is no reason.
pub fn without_idle_reasons(sources: &Sources<'_>) -> Result<String> {
    let mut kept = String::new();
    for line in sources.reasons.lines() {
        if line.is_empty() || line.starts_with('#') {
            writeln!(kept, "{line}")?;
            continue;
        }
        let reason = Reason::parse(line)?;
        let text = if reason.list == List::Kvrocks { sources.kvrocks } else { sources.redis };
        let is_needed = groups(text).iter().flat_map(|(_, names)| names).any(|name| {
            reason.is_about(reason.list, name) && reason.is_missing != sources.ours.contains(name)
        });
        if is_needed {
            writeln!(kept, "{line}")?;
        }
    }
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources<'a>(reasons: &'a str, ours: &'a BTreeSet<String>) -> Sources<'a> {
        Sources {
            kvrocks: "# x\n\n# Keys\nget\nconfig|get\nold\n",
            redis: "# x\n\n# Keys\nget\nset\n",
            reasons,
            exceptions: "# x\nf.resp | GET k | because\nf.resp | CONFIG GET a | as above\n",
            probes: &[],
            ours,
        }
    }

    fn ours(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn every_command_is_the_same_or_has_a_reason() -> Result<()> {
        let have = ours(&["get", "set", "config|get"]);
        let page = page(&sources("kvrocks | ol* | missing | too old\n", &have))?;
        for line in [
            "| `GET` | different on purpose | because |",
            "| `CONFIG GET` | different on purpose | because |",
            "| `OLD` | missing | too old |",
            "| `SET` | same |  |",
            "| Kvrocks | 3 | 0 | 2 | 1 |",
            "| Redis 7.2 | 2 | 2 | 0 | 0 |",
        ] {
            assert!(page.contains(line), "{line}: {page}");
        }
        Ok(())
    }

    #[test]
    fn reasons_are_needed_and_only_those() -> Result<()> {
        let have = ours(&["get", "set", "config|get"]);
        assert!(page(&sources("", &have)).is_err());
        let stale = "kvrocks | old | missing | too old\nredis | set | missing | not yet\n";
        assert!(page(&sources(stale, &have)).is_err());
        let kept = without_idle_reasons(&sources(stale, &have))?;
        assert_eq!(kept, "kvrocks | old | missing | too old\n");
        assert!(page(&sources(&kept, &have)).is_ok());
        assert!(page(&sources("kvrocks | old | gone | x\n", &have)).is_err());
        Ok(())
    }

    #[test]
    fn a_reason_of_a_probe_stands_before_its_command() {
        let probes = ["GET a\n! other\nb: SET k v\n! as above, too\nGET k\n".to_owned()];
        let found = differences(&probes, &ours(&["get", "set"]));
        assert_eq!(found.get("get"), Some(&vec!["other, too".to_owned()]));
    }
}
