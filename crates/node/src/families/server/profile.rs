//! KPROFILE: the profiler of the heap.
//!
//! Words and effects are as Kvrocks describes them; how it answers what, where its descriptions do
//! not say, is our own.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use crate::command::{Args, Error, Reply, Result};
use crate::info::profiler::{self, Refused};
use crate::session::{After, SessionCx, Tells};

pub(super) fn kprofile(
    _cx: &mut SessionCx<'_>,
    args: &mut Args<'_>,
    reply: Reply<'_>,
) -> Result<After> {
    let is_of_memory = matches!(args.word().as_deref(), Some(b"MEMORY"));
    let wanted = args.word();
    match (wanted.as_deref(), args.len()) {
        (Some(b"ENABLE"), 0) if is_of_memory => switched(profiler::activate(), reply),
        (Some(b"DISABLE"), 0) if is_of_memory => switched(profiler::deactivate(), reply),
        (Some(b"STATUS"), 0) if is_of_memory => {
            let status = if profiler::is_active() { "enabled" } else { "disabled" };
            Ok(reply.simple(status).into())
        }
        (Some(b"DUMP"), 1) if is_of_memory => Ok(dump(args.bytes()?)),
        _ => Err(Error::err("KPROFILE takes MEMORY ENABLE|DISABLE|STATUS|DUMP <dir>")),
    }
}

fn switched(outcome: std::result::Result<(), Refused>, reply: Reply<'_>) -> Result<After> {
    outcome.map_err(Error::err)?;
    Ok(reply.ok().into())
}

/// Answers when the file is there. The disk may be slow, so another thread than the worker writes
/// it.
fn dump(folder: &[u8]) -> After {
    let folder = Path::new(OsStr::from_bytes(folder)).to_owned();
    let answer = Box::pin(async move {
        match tokio::task::spawn_blocking(move || profiler::dump(&folder)).await {
            Ok(Ok(path)) => {
                tracing::info!(?path, "a profile of the heap was written");
                b"+OK\r\n".to_vec()
            }
            Ok(Err(refused)) => format!("-ERR {refused}\r\n").into_bytes(),
            Err(error) => format!("-ERR {error}\r\n").into_bytes(),
        }
    });
    After::Later(answer, Tells::Nothing)
}
