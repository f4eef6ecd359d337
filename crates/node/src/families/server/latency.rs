//! LATENCY: what took long, and how long commands take.

use crate::command::{Args, Catalog, Error, Reply, Result};
use crate::latency::Series;
use crate::session::table::{self, SessionHandler};
use crate::session::{After, Command, SessionCx};

#[rustfmt::skip]
pub(super) const COMMANDS: &[Command] = &[
    latency("latency|doctor",     2, doctor),
    latency("latency|graph",      3, graph),
    latency("latency|help",       2, help),
    latency("latency|histogram", -2, histogram),
    latency("latency|history",    3, history),
    latency("latency|latest",     2, latest),
    latency("latency|reset",     -2, reset),
];

const fn latency(name: &'static str, arity: i8, handler: SessionHandler) -> Command {
    Command::session(name, arity, handler).admin().loading().stale().no_script()
}

const HELP: &[&str] = &[
    "LATENCY <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "DOCTOR",
    "    Say what was met, and where to look.",
    "GRAPH <event>",
    "    Draw the samples of an event.",
    "HISTOGRAM [<command> ...]",
    "    Show how many calls of commands took how many microseconds.",
    "HISTORY <event>",
    "    Show the samples of an event: Unix time and milliseconds.",
    "LATEST",
    "    Show the newest sample of each event, and its longest.",
    "RESET [<event> ...]",
    "    Forget events; all if none is named.",
    "HELP",
    "    Print this help.",
];

fn help(_cx: &mut SessionCx<'_>, _args: &mut Args<'_>, reply: Reply<'_>) -> Result<After> {
    Ok(reply.help(HELP).into())
}

fn integer(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn latest(cx: &mut SessionCx<'_>, _args: &mut Args<'_>, reply: Reply<'_>) -> Result<After> {
    let all = cx.node.latency.all();
    let replied = reply.with(|writer| {
        writer.array(all.len());
        for (name, series) in &all {
            let last = series.samples.back();
            writer.array(4);
            writer.bulk(name.as_bytes());
            writer.integer(integer(last.map_or(0, |last| last.at)));
            writer.integer(integer(last.map_or(0, |last| last.ms)));
            writer.integer(integer(series.max_ms));
        }
    });
    Ok(replied.into())
}

fn history(cx: &mut SessionCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<After> {
    let series = cx.node.latency.of(args.bytes()?).unwrap_or_default();
    let replied = reply.with(|writer| {
        writer.array(series.samples.len());
        for sample in &series.samples {
            writer.array(2);
            writer.integer(integer(sample.at));
            writer.integer(integer(sample.ms));
        }
    });
    Ok(replied.into())
}

fn reset(cx: &mut SessionCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<After> {
    Ok(reply.count(cx.node.latency.reset(args.rest())).into())
}

fn doctor(cx: &mut SessionCx<'_>, _args: &mut Args<'_>, reply: Reply<'_>) -> Result<After> {
    let threshold = cx.config.latency_monitor_threshold;
    let mut text = match threshold {
        0 => "Nothing is noted: CONFIG SET latency-monitor-threshold <milliseconds>.\n".to_owned(),
        ms => format!("What takes {ms} ms or longer is noted.\n"),
    };
    for (name, series) in cx.node.latency.all() {
        let sum: u64 = series.samples.iter().map(|sample| sample.ms).sum();
        let mean = sum / (series.samples.len().max(1) as u64);
        let (count, max) = (series.samples.len(), series.max_ms);
        text.push_str(&format!("{name}: {count} seconds, {mean} ms on average, {max} at most.\n"));
    }
    text.push_str("SLOWLOG names the commands; INFO rocksdb tells of writes that had to wait.\n");
    Ok(reply.verbatim(&text).into())
}

fn graph(cx: &mut SessionCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<After> {
    let name = args.bytes()?;
    let series = cx.node.latency.of(name).ok_or_else(|| {
        let name = String::from_utf8_lossy(name).into_owned();
        Error::err(format!("No samples available for event '{name}'"))
    })?;
    Ok(reply.verbatim(&draw(&series, &String::from_utf8_lossy(name))).into())
}

/// Columns of a drawing, and its height.
const COLUMNS: usize = 80;
const ROWS: u64 = 4;

/// One column for each sample, the newest at the right; heights between the lowest and the highest.
fn draw(series: &Series, name: &str) -> String {
    let skipped = series.samples.len().saturating_sub(COLUMNS);
    let shown: Vec<u64> = series.samples.iter().skip(skipped).map(|sample| sample.ms).collect();
    let (low, high) =
        shown.iter().fold((u64::MAX, 0), |(low, high), ms| (low.min(*ms), high.max(*ms)));
    let mut text =
        format!("{name} - high {high} ms, low {low} ms (all time high {} ms)\n", series.max_ms);
    for row in (0..ROWS).rev() {
        let line = shown.iter().map(|ms| {
            let level = ms.saturating_sub(low).saturating_mul(ROWS) / (high - low).max(1);
            match level.min(ROWS - 1) {
                level if level == row => '_',
                level if level > row => '|',
                _ => ' ',
            }
        });
        text.push_str(line.collect::<String>().trim_end());
        text.push('\n');
    }
    text
}

/// Calls and, in powers of two, how many took no longer. By its name a container tells of all that
/// is in it.
fn histogram(cx: &mut SessionCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<After> {
    let all = Catalog::get().entries().iter().map(|entry| entry.row.name).enumerate();
    let wanted: Vec<(usize, &str)> = match args.rest() {
        [] => all.collect(),
        names => {
            let found = names.iter().filter_map(|name| table::named(&cx.config.renames, name));
            let whole = found.flat_map(|(place, command)| {
                // In the catalog what is in a container stands behind it.
                (place..).zip(std::iter::once(command).chain(command.leaves))
            });
            whole.map(|(place, command)| (place, command.name)).collect()
        }
    };
    let stats = &cx.node.stats;
    let called = wanted.into_iter().map(|(place, name)| (name, stats.times(place)));
    let called: Vec<_> = called.filter(|(_, times)| times.calls > 0).collect();
    let replied = reply.with(|writer| {
        writer.map(called.len());
        for (name, times) in &called {
            writer.bulk(name.as_bytes());
            writer.map(2);
            writer.bulk(b"calls");
            writer.integer(integer(times.calls));
            writer.bulk(b"histogram_usec");
            writer.map(times.within.len());
            for (bound, count) in &times.within {
                writer.integer(integer(*bound));
                writer.integer(integer(*count));
            }
        }
    });
    Ok(replied.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::latency::Sample;

    #[test]
    fn a_drawing_has_a_column_for_each_sample() {
        let samples = [1, 9, 5].map(|ms| Sample { at: ms, ms }).into_iter().collect();
        let text = draw(&Series { samples, max_ms: 11 }, "command");
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "command - high 9 ms, low 1 ms (all time high 11 ms)");
        assert_eq!(lines[1..], [" _", " |_", " ||", "_||"]);
    }
}
