//! SORT and SORT_RO. Replies are Redis 7's.

use storage::budget;
use storage::types::CommandError;
use storage::types::sort::{self, Request};

use crate::command::keys::{KEY, Keys};
use crate::command::{Args, Error, Replied, Reply, Result};
use crate::session::table::Reading;
use crate::session::{Command, ReadCx, WriteCx};

#[rustfmt::skip]
pub const COMMANDS: &[Command] = &[
    Command::write("sort",    -2, Keys::FirstAnd(destination), sort_).or_read(&READING),
    Command::read ("sort_ro", -2, KEY, sort_ro),
];

/// SORT without STORE.
const READING: Reading = Reading {
    command: Command::read("sort", -2, Keys::FirstAnd(destination), sort_ro).as_write(),
    is_meant: only_reads,
};

fn only_reads(words: &[&[u8]]) -> bool {
    destination(words).is_empty()
}

/// Where the destination is: behind the last STORE that is no value of another option.
fn destination(words: &[&[u8]]) -> Vec<usize> {
    let (mut at, mut found) = (2, None);
    while let Some(word) = words.get(at) {
        at += match word.to_ascii_uppercase().as_slice() {
            b"LIMIT" => 2,
            b"BY" | b"GET" => 1,
            b"STORE" => {
                found = Some(at + 1);
                1
            }
            _ => 0,
        } + 1;
    }
    found.into_iter().collect()
}

/// What stands behind the key, and the destination.
fn options<'a>(
    args: &mut Args<'a>,
    is_cluster: bool,
    is_writing: bool,
) -> Result<(Request<'a>, Option<&'a [u8]>)> {
    let (mut request, mut stored) = (Request::default(), None);
    while let Some(word) = args.word() {
        match &*word {
            b"ASC" => request.is_descending = false,
            b"DESC" => request.is_descending = true,
            b"ALPHA" => request.is_alpha = true,
            b"LIMIT" if args.len() > 1 => {
                (request.offset, request.count) = (args.integer()?, Some(args.integer()?));
            }
            b"STORE" if is_writing => stored = Some(args.bytes()?),
            b"BY" => {
                let pattern = args.bytes()?;
                if is_cluster && pattern.contains(&b'*') {
                    return Err(Error::text("ERR BY option of SORT denied in Cluster mode."));
                }
                request.by = Some(pattern);
            }
            b"GET" => {
                let pattern = args.bytes()?;
                if is_cluster {
                    return Err(Error::text("ERR GET option of SORT denied in Cluster mode."));
                }
                request.get.push(pattern);
            }
            _ => return Err(Error::Syntax),
        }
    }
    request.is_stored = stored.is_some();
    Ok((request, stored))
}

fn worded(error: CommandError) -> Error {
    match error {
        CommandError::NotAFloat => {
            Error::text("ERR One or more scores can't be converted into double")
        }
        other => other.into(),
    }
}

fn sort_(cx: &mut WriteCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    let at = cx.scope.at(args.bytes()?);
    let (mut request, stored) = options(args, cx.scope.cluster, true)?;
    // What is larger would not be written: each element as often as there are patterns.
    let max = cx.txn.store().batch_bytes_max();
    request.room = stored.is_some().then_some(max);
    let sorted = budget::gathering(max, || sort::sort(&cx.txn.snapshot(), &at, &request));
    let values = sorted.map_err(worded)?;
    let Some(destination) = stored else { return Ok(reply.bulks_or_nulls(&values)) };
    sort::store(&mut cx.txn, &cx.scope.at(destination), &values)?;
    Ok(reply.count(values.len()))
}

fn sort_ro(cx: &ReadCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    let at = cx.scope.at(args.bytes()?);
    let (request, _) = options(args, cx.scope.cluster, false)?;
    let values = sort::sort(&cx.txn.snapshot(), &at, &request).map_err(worded)?;
    cx.count(!values.is_empty());
    Ok(reply.bulks_or_nulls(&values))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_destination_is_behind_the_last_store() {
        for (command, expected) in [
            ("sort l", None),
            ("sort l STORE d", Some(3)),
            ("sort l store d ALPHA STORE e", Some(6)),
            ("sort l BY STORE GET STORE", None),
            ("sort l LIMIT 0 1 STORE d", Some(6)),
            ("sort l LIMIT STORE x STORE d", Some(6)),
        ] {
            let words: Vec<&[u8]> = command.split(' ').map(str::as_bytes).collect();
            assert_eq!(destination(&words), Vec::from_iter(expected), "{command}");
        }
    }
}
