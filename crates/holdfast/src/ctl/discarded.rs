//! Writes that deposed masters had to discard: what there is, what it holds, and putting it back.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use api::rest::{
    Discarded, DiscardedApply, DiscardedChange, DiscardedExport, DiscardedOutcome, DiscardedPage,
};
use api::time::utc;
use clap::Subcommand;
use reqwest::Method;

use super::table::{json, render, text};
use super::{Context, Place};
use crate::out::part;

#[derive(Debug, Subcommand)]
pub(crate) enum DiscardedVerb {
    /// Which nodes hold exports of discarded writes
    List {
        #[command(flatten)]
        place: Place,
    },
    /// What an export holds, as commands, in the order in which it happened
    Show {
        #[command(flatten)]
        which: Which,
    },
    /// Put an export back through the present master, key by key with its last state
    ///
    /// Keys of every type, each as a whole or not at all. A key that was written since the
    /// histories parted is newer: it is kept, and reported as `changed`. Of several exports the
    /// newest comes first: what is put back counts as written. Without --yes nothing is changed: it
    /// says what would become of each key. One that ended half way is to be said again: what was
    /// put back is found to be the `same`.
    Apply {
        #[command(flatten)]
        which: Which,
        /// Do it
        #[arg(long)]
        yes: bool,
        /// Put back keys that do not exist, and only those, without looking at what changed since:
        /// where the master's log no longer goes back that far. Brings back what was removed since
        #[arg(long)]
        if_absent: bool,
    },
}

/// An export is read once for each share of its keys that a controller holds, 128 MiB.
const APPLY_PATIENCE: Duration = Duration::from_secs(3_600);
/// Keys of each outcome that are named in the text.
const NAMED_MAX: usize = 20;

/// Which export is meant.
#[derive(Debug, clap::Args)]
pub(crate) struct Which {
    /// Name of the file, as `list` shows it
    file: String,
    /// The node, by its id, the beginning of it, or its address, where several have a file of that
    /// name
    #[arg(long)]
    node: Option<String>,
    #[command(flatten)]
    place: Place,
}

pub(crate) async fn run(cx: &Context, verb: DiscardedVerb) -> Result<()> {
    match verb {
        DiscardedVerb::List { place } => {
            let path = format!("{}/discarded", cx.cluster(&place).await?);
            let value = cx.http.call(Method::GET, &path, None::<&()>).await?;
            if cx.json {
                return json(&value);
            }
            text(&list_text(cx.width, &serde_json::from_value(value).context("read the list")?))
        }
        DiscardedVerb::Show { which } => show(cx, &path_of(cx, &which).await?, part).await,
        DiscardedVerb::Apply { which, yes, if_absent } => {
            let path = format!("{}/apply", path_of(cx, &which).await?);
            let body = DiscardedApply { confirm: yes, only_absent: if_absent };
            let value = cx.http.call_long(Method::POST, &path, Some(&body), APPLY_PATIENCE).await?;
            if cx.json {
                return json(&value);
            }
            cx.say(&outcome_text(&serde_json::from_value(value).context("read the outcome")?))
        }
    }
}

/// `/…/discarded/<node>/<file>`.
async fn path_of(cx: &Context, which: &Which) -> Result<String> {
    let base = format!("{}/discarded", cx.cluster(&which.place).await?);
    let list: Discarded = cx.http.get(&base).await?;
    let is_meant = |export: &&DiscardedExport| {
        let is_there = |node: &String| export.node.starts_with(node) || export.addr == *node;
        export.file == which.file && which.node.as_ref().is_none_or(is_there)
    };
    let found: Vec<_> = list.exports.iter().filter(is_meant).collect();
    match found.as_slice() {
        [export] => Ok(format!("{base}/{}/{}", export.node, export.file)),
        [] => bail!("no node that answers holds {}; see `ctl discarded list`", which.file),
        many => {
            let nodes: Vec<_> = many.iter().map(|export| export.addr.as_str()).collect();
            bail!("choose one with --node: {}", nodes.join(", "))
        }
    }
}

/// Page by page: an export may be large, and its reader may have seen enough before its end.
async fn show(cx: &Context, path: &str, mut tell: impl FnMut(&str) -> Result<bool>) -> Result<()> {
    let mut offset = 0;
    loop {
        let page: DiscardedPage = cx.http.get(&format!("{path}?offset={offset}")).await?;
        for change in &page.changes {
            let told = match cx.json {
                true => format!("{}\n", serde_json::to_string(change)?),
                false => change_text(change),
            };
            if !tell(&told)? {
                return Ok(());
            }
        }
        match page.next {
            Some(next) if next > offset => offset = next,
            _ => return Ok(()),
        }
    }
}

fn change_text(change: &DiscardedChange) -> String {
    let DiscardedChange { key, value, words, .. } = change;
    let Some((name, arguments)) = words.split_first() else {
        return format!("# {key:?}: {value}\n");
    };
    let mut text = name.clone();
    for argument in arguments {
        text.push_str(&format!(" {argument:?}"));
    }
    text.push('\n');
    text
}

fn list_text(width: usize, list: &Discarded) -> String {
    let rows: Vec<_> = (list.exports.iter())
        .map(|export| {
            vec![
                export.shard.to_string(),
                export.addr.clone(),
                export.file.clone(),
                utc(export.at_ms),
                export.epoch.to_string(),
                export.fork.to_string(),
                export.records.to_string(),
                export.bytes.to_string(),
            ]
        })
        .collect();
    let head = ["SHARD", "NODE", "FILE", "TIME (UTC)", "EPOCH", "FORK", "RECORDS", "BYTES"];
    let mut out = match rows.is_empty() {
        true => "no node that answers holds discarded writes\n".to_owned(),
        false => render(width, &head, &rows),
    };
    for silent in &list.silent {
        out.push_str(&format!("not asked: {}: {}\n", silent.addr, silent.error));
    }
    out
}

fn outcome_text(outcome: &DiscardedOutcome) -> String {
    let told = |word: &str| match word {
        "applied" if !outcome.done => "would be applied",
        "applied" => "applied",
        "same" => "are so already",
        "changed" => "were written since and are kept as they are",
        "exists" => "exist and are kept as they are",
        "expired" => "have expired meanwhile",
        "lapsed" => "have ended at the master since, and only a part of them is in the export",
        "partial" => "are in the export in part only, and the log was not asked for the rest",
        "large" => "are too large to be put back",
        "moved" => "belong to another shard now",
        "unreadable" => "are of a kind that the master does not know",
        "unsupported" => "are ranges that were removed, or of another namespace",
        _ => "have an outcome that this version does not know",
    };
    let mut out = String::new();
    for (word, &count) in &outcome.counts {
        out.push_str(&format!("{count:>8} {} ({word})\n", told(word)));
        let keys = outcome.keys.get(word).map(Vec::as_slice).unwrap_or_default();
        if word != "applied" && word != "same" {
            for key in keys.iter().take(NAMED_MAX) {
                out.push_str(&format!("           {key:?}\n"));
            }
            let more = count.saturating_sub(keys.len().min(NAMED_MAX) as u64);
            if more > 0 {
                let named = keys.len();
                out.push_str(&format!("           and {more} more; --json names {named}\n"));
            }
        }
    }
    let through = &outcome.master;
    out.push_str(&match outcome.done {
        true => format!("done through {through}\n"),
        false => format!("nothing was changed; --yes does it, through {through}\n"),
    });
    out
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::super::http::Http;
    use super::super::tls::TlsArgs;
    use super::*;

    /// `ctl discarded show … | head`: what nobody reads is not asked for.
    #[tokio::test]
    async fn an_export_is_read_as_far_as_somebody_looks() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (at, asked) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
        let count = Arc::clone(&asked);
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                if stream.read(&mut [0; 4096]).unwrap_or(0) == 0 {
                    continue;
                }
                // Three pages of two changes.
                let number = count.fetch_add(1, Ordering::SeqCst) + 1;
                let next = if number < 3 { number.to_string() } else { "null".to_owned() };
                let change = r#"{"what":"command","key":"k","value":"","words":["DEL","k"]}"#;
                let body = format!(r#"{{"data":{{"changes":[{change},{change}],"next":{next}}}}}"#);
                let length = body.len();
                let head = format!("connection: close\r\ncontent-length: {length}\r\n\r\n");
                let _ = write!(stream, "HTTP/1.1 200 OK\r\n{head}{body}");
            }
        });
        let http = Http::new(Some(at.to_string()), None, &TlsArgs::default(), None).unwrap();
        let cx = Context { http, json: false, width: 100 };
        for (wanted, pages) in [(1_usize, 1), (3, 2), (100, 3)] {
            asked.store(0, Ordering::SeqCst);
            let mut told = Vec::new();
            let tell = |text: &str| {
                told.push(text.to_owned());
                Ok(told.len() < wanted)
            };
            show(&cx, "/x", tell).await.unwrap();
            assert_eq!((told.len(), asked.load(Ordering::SeqCst)), (wanted.min(6), pages));
            assert!(told.iter().all(|line| line == "DEL \"k\"\n"), "{told:?}");
        }
    }

    #[test]
    fn outcomes_name_the_keys_that_stay_and_say_whether_it_was_done() {
        let mut outcome = DiscardedOutcome { master: "m:1".into(), ..Default::default() };
        for (word, keys) in [("applied", vec!["a", "b"]), ("changed", vec!["c\n"])] {
            outcome.counts.insert(word.into(), keys.len() as u64);
            outcome.keys.insert(word.into(), keys.into_iter().map(Into::into).collect());
        }
        let said = outcome_text(&outcome);
        assert!(said.contains("2 would be applied") && said.contains("\"c\\n\""), "{said}");
        assert!(said.ends_with("nothing was changed; --yes does it, through m:1\n"), "{said}");
        let many = (0..25).map(|number| number.to_string()).collect();
        outcome.keys.insert("lapsed".into(), many);
        outcome.counts.insert("lapsed".into(), 30);
        let said = outcome_text(&outcome);
        assert!(said.contains("\"19\"\n           and 10 more; --json names 25\n"), "{said}");
        outcome.done = true;
        assert!(outcome_text(&outcome).ends_with("done through m:1\n"));
    }

    #[test]
    fn changes_are_told_with_every_byte_visible() {
        let mut change = DiscardedChange {
            what: "command".into(),
            key: "k".into(),
            value: String::new(),
            words: ["HSET", "k", "f g", "a\0\""].map(String::from).into(),
        };
        assert_eq!(change_text(&change), "HSET \"k\" \"f g\" \"a\\0\\\"\"\n");
        change = DiscardedChange { value: "a hyperloglog".into(), words: Vec::new(), ..change };
        assert_eq!(change_text(&change), "# \"k\": a hyperloglog\n");
    }
}
