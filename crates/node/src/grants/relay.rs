//! `CLUSTERX RELAY`: a controller that cannot reach a master reaches it through one of its replicas
//! (rule R9).
//!
//! The replica passes the heartbeat on over a connection of its own and returns the answer
//! unchanged. The lease counts from a stamp of the master's clock, so the detour makes it shorter
//! and never longer.

use std::sync::Arc;
use std::time::Duration;

use resp::Writer;
use resp::value::{Value, encode_command};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use topology::Endpoint;

use crate::node::Node;
use crate::stream::Stream;

/// Longest time for the whole detour: an older answer would grant the past.
const PATIENCE: Duration = Duration::from_millis(1000);
/// Largest answer taken.
const ANSWER_BYTES_MAX: usize = 1 << 20;

#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("{0}")]
    Malformed(#[from] resp::value::ValueError),
    #[error("the master closed the connection")]
    Closed,
    #[error("the master refused AUTH: {0}")]
    Auth(String),
    #[error("no answer within {} ms", PATIENCE.as_millis())]
    TimedOut,
}

/// Passes `words` (`HEARTBEAT …`) to `master`; the bytes are the reply.
pub async fn pass_on(node: Arc<Node>, master: Endpoint, words: Vec<Vec<u8>>) -> Vec<u8> {
    let answer = tokio::time::timeout(PATIENCE, ask(&node, &master, words)).await;
    let mut bytes = Vec::new();
    let mut writer = Writer::new(&mut bytes, resp::Protocol::V2);
    match answer.unwrap_or(Err(Failed::TimedOut)) {
        Ok(Value::Error(text)) => writer.error(&text),
        Ok(value) => writer.bulk(value.as_bytes().unwrap_or_default()),
        Err(error) => writer.error(&format!("ERR relay to {master}: {error}")),
    }
    bytes
}

async fn ask(node: &Node, master: &Endpoint, words: Vec<Vec<u8>>) -> Result<Value, Failed> {
    let mut stream = node.way_to(master)?.dial().await?;
    let config = node.config.now();
    if let Some(password) = config.link_secret() {
        stream.write_all(&encode_command(&["AUTH", password])).await?;
        match receive(&mut stream).await? {
            value if value.is_ok() => {}
            other => return Err(Failed::Auth(format!("{other:?}"))),
        }
    }
    let command: Vec<Vec<u8>> = std::iter::once(b"CLUSTERX".to_vec()).chain(words).collect();
    stream.write_all(&encode_command(&command)).await?;
    receive(&mut stream).await
}

async fn receive(stream: &mut Stream) -> Result<Value, Failed> {
    let mut buffer = Vec::new();
    loop {
        if let Some((value, _)) = Value::parse(&buffer, ANSWER_BYTES_MAX)? {
            return Ok(value);
        }
        if stream.read_buf(&mut buffer).await? == 0 {
            return Err(Failed::Closed);
        }
    }
}
