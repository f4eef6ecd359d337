//! Health of backends between clients: a PING behind a LOCAL header, which a node answers on the
//! thread that serves clients.
//!
//! It only reports; nothing here closes a frontend or moves a route. A check is no session: it
//! cannot touch keys (`docs/protocol.md` §3).
//!
//! Only PONG is health. A node that does not know this balancer ends the connection without a byte,
//! and a server that takes the header for commands answers something else: what clients would get
//! from either is no answer to what they sent.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use api::balancer::Backend;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::frontend::Reach;
use super::session::{Shared, dial};
use super::sys;
use super::table::Table;

/// How long a connection may take, and then an answer: short beside the outages that this is to
/// notice. A host that is reached takes connections however busy the node is.
const PATIENCE: Duration = Duration::from_millis(400);

const PING: &[u8] = b"*1\r\n$4\r\nPING\r\n";
const PONG: &[u8] = b"+PONG\r\n";
/// Longest answer read, and shown.
const ANSWER_BYTES: usize = 64;

/// After a watch that ended by a fault, before the next one.
const REST: Duration = Duration::from_millis(200);

/// Checks all backends every `interval_ms`, for ever; returns at once if that is 0.
pub(super) async fn watch(table: Arc<Table>, interval_ms: u64) {
    if interval_ms > 0 {
        keep(&table, || rounds(Arc::clone(&table), interval_ms)).await;
    }
}

/// Begins the watch anew whenever it ends by a fault, which `/healthz` tells until a round was
/// made: without it a node that is not reached is the backend for ever.
async fn keep<F: Future<Output = ()> + Send + 'static>(table: &Table, watch: impl Fn() -> F) {
    loop {
        // Ended with this task.
        let mut task = JoinSet::new();
        task.spawn(watch());
        let why = match task.join_next().await {
            Some(Err(error)) => error.to_string(),
            _ => "it ended".to_owned(),
        };
        tracing::error!(why, "the watch over backends ended, and begins anew");
        table.checked(Some(format!(
            "backends are not checked: the watch over them ended by a fault ({why})"
        )));
        tokio::time::sleep(REST).await;
    }
}

async fn rounds(table: Arc<Table>, interval_ms: u64) {
    let mut ticks = interval(Duration::from_millis(interval_ms));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let mut checks = JoinSet::new();
        for frontend in table.frontends() {
            let Some(backend) = frontend.backend() else { continue };
            let shared = Arc::clone(table.shared());
            checks.spawn(async move {
                if let Some((reach, from)) = check(&backend, &shared).await {
                    frontend.set_reach(&backend, reach, from);
                }
            });
        }
        // Each is bounded, so a silent node delays a round by no more than that.
        while let Some(done) = checks.join_next().await {
            if let Err(error) = done
                && error.is_panic()
            {
                std::panic::resume_unwind(error.into_panic());
            }
        }
        table.checked(None);
    }
}

/// What a check tells, and where it dialled from; `None` if the node took the connection and is
/// late with its answer. Then it is reached and busy, as under a bulk load that its disk cannot
/// follow, or it hangs: the controller finds out which, by asking the node itself.
async fn check(backend: &Backend, shared: &Shared) -> Option<(Reach, Option<IpAddr>)> {
    let patience = shared.connect_timeout.min(PATIENCE);
    let mut stream = match timeout(patience, dial(backend, shared)).await {
        Ok(Ok(stream)) => stream,
        // A want of descriptors or ports here says nothing of the node.
        Ok(Err(error)) if limits::is_limit_of_dialling(&error) => return None,
        Ok(Err(error)) => return Some((Reach::Down(error.to_string()), None)),
        Err(_) => return Some((Reach::Down(format!("no connection within {patience:?}")), None)),
    };
    let from = stream.local_addr().ok().map(|from| from.ip().to_canonical());
    let answer = timeout(patience, ask(&mut stream, shared)).await.ok()?;
    Some((judge(answer, from, shared.send_proxy), from))
}

/// The first line of the answer, or as much as came of it.
async fn ask(stream: &mut TcpStream, shared: &Shared) -> io::Result<Vec<u8>> {
    // No TIME_WAIT for each check.
    sys::reset_on_close(stream);
    let mut request = if shared.send_proxy { api::proxy::encode_local() } else { Vec::new() };
    request.extend_from_slice(PING);
    stream.write_all(&request).await?;
    let mut answer = Vec::with_capacity(ANSWER_BYTES);
    while !answer.ends_with(b"\n") && answer.len() < ANSWER_BYTES {
        if stream.read_buf(&mut answer).await? == 0 {
            break;
        }
    }
    Ok(answer)
}

fn judge(answer: io::Result<Vec<u8>>, from: Option<IpAddr>, send_proxy: bool) -> Reach {
    let whom = from.map_or_else(|| "this balancer".to_owned(), |ip| ip.to_string());
    let ended = || {
        format!(
            "it ends the connection without an answer: does its `balancer-sources` list {whom}, where it is dialled from?"
        )
    };
    match answer {
        Ok(answer) if answer == PONG => Reach::Up,
        // Full of clients, or short of descriptors: it is there, and who replaced it would help
        // nobody.
        Ok(answer) if answer.starts_with(b"-ERR max number of clients reached") => Reach::Up,
        // Another server than a Holdfast node, with a password.
        Ok(answer) if !send_proxy && answer.starts_with(b"-NOAUTH ") => Reach::Up,
        Ok(answer) if answer.is_empty() => Reach::Down(ended()),
        Ok(answer) => {
            let shown = String::from_utf8_lossy(&answer);
            Reach::Down(format!(
                "it answers {:?} to PING: it does not take {whom} for a load balancer",
                shown.trim_end()
            ))
        }
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Reach::Down(ended()),
        Err(error) => Reach::Down(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::server::config::Config;
    use crate::server::workers::Workers;

    #[tokio::test]
    async fn a_watch_that_ends_by_a_fault_is_told_of_and_begins_anew() {
        let table =
            Arc::new(Table::new(&Config::default(), Workers::start(1).unwrap(), Arc::default()));
        let begun = Arc::new(AtomicUsize::new(0));
        let go_on = Arc::new(tokio::sync::Notify::new());
        let watch = {
            let (table, begun, go_on) =
                (Arc::clone(&table), Arc::clone(&begun), Arc::clone(&go_on));
            move || {
                let (table, go_on) = (Arc::clone(&table), Arc::clone(&go_on));
                let number = begun.fetch_add(1, Ordering::SeqCst);
                async move {
                    assert!(number >= 2, "attempt {number}");
                    go_on.notified().await;
                    table.checked(None);
                    std::future::pending().await
                }
            }
        };
        let kept = Arc::clone(&table);
        let task = tokio::spawn(async move { keep(&kept, watch).await });
        let until = async |is_so: &dyn Fn(&str) -> bool| {
            let waiting = async {
                while !is_so(&table.trouble().unwrap_or_default()) {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            };
            tokio::time::timeout(Duration::from_secs(20), waiting).await.unwrap();
        };
        until(&|why| why.contains("backends are not checked")).await;
        while begun.load(Ordering::SeqCst) < 3 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        until(&|why| why.contains("not checked")).await;
        go_on.notify_one();
        until(&|why| why.contains("no controller has told")).await;
        task.abort();
    }

    #[test]
    fn pong_is_health_and_nothing_else() {
        let from = Some("10.0.8.3".parse().unwrap());
        let judged = |answer: &[u8], send_proxy| judge(Ok(answer.to_vec()), from, send_proxy);
        assert_eq!(judged(b"+PONG\r\n", true), Reach::Up);
        // But that a node is full says that it is there.
        assert_eq!(judged(b"-ERR max number of clients reached\r\n", true), Reach::Up);
        let not: [&[u8]; 8] = [
            b"",
            b"+OK\r\n",
            b"+PONG",
            b"+PONG\r\n+OK\r\n",
            b"-NOAUTH Authentication required.\r\n",
            b"-ERR unknown command\r\n",
            b"-LOADING\r\n",
            b"+PONGPONG\r\n",
        ];
        for answer in not {
            let Reach::Down(why) = judged(answer, true) else { panic!("{answer:?}") };
            assert!(why.contains("10.0.8.3"), "{why}");
        }
        assert_eq!(judged(b"-NOAUTH Authentication required.\r\n", false), Reach::Up);
        assert_ne!(judged(b"-ERR x\r\n", false), Reach::Up);
    }
}
