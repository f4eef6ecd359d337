//! `CLUSTERX DEPOSED …`, for controllers: what lies in `db.deposed`, and putting it back in
//! service.

use std::sync::Arc;

use ::replication::history::Position;
use resp::{Protocol, Writer};

use crate::command::{Args, Error, Reply, Result};
use crate::replication;
use crate::session::{After, SessionCx, Tells};

pub(super) fn run(cx: &mut SessionCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<After> {
    let word = args.word().ok_or(Error::Syntax)?;
    match (&*word, args.len()) {
        (b"SHOW", 0) => {
            let position = cx.node.replication.aside.position();
            let text = position.map_or_else(|| "-".to_owned(), |position| position.to_string());
            Ok(reply.bulk(text.as_bytes()).into())
        }
        (b"RESTORE", 1) => {
            let expected = Position::parse(args.bytes()?).map_err(Error::err)?;
            let node = Arc::clone(cx.node);
            let answer = Box::pin(async move {
                let mut bytes = Vec::new();
                let mut writer = Writer::new(&mut bytes, Protocol::V2);
                match replication::restore(node, expected).await {
                    Ok(()) => writer.simple("OK"),
                    Err(error) => writer.error(&format!("ERR {error}")),
                }
                bytes
            });
            Ok(After::Later(answer, Tells::Nothing))
        }
        _ => Err(Error::Syntax),
    }
}
