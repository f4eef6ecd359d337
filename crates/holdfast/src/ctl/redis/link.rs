//! The two ends of a copy: the Redis it reads from, and the nodes it writes to.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use resp::{Value, encode_command};
use topology::{Slot, key_slot};

use super::names::Names;
use super::refused;
use super::values::{Dumped, Put, ask_for, dumped};
use crate::client::Client;

/// For one exchange.
const PATIENCE: Duration = Duration::from_secs(30);
/// For a target that fails over.
const FAILOVER_PATIENCE: Duration = Duration::from_secs(60);
/// Between two tries meanwhile.
const PAUSE: Duration = Duration::from_millis(200);
/// Keys that SCAN looks at.
const PAGE: &str = "200";
/// Values in one exchange.
pub(super) const TOGETHER: usize = 16;

async fn connect(address: &str) -> Result<Client> {
    let found = tokio::net::lookup_host(address).await;
    let mut found = found.with_context(|| format!("look {address} up"))?;
    let socket: SocketAddr = found.next().with_context(|| format!("{address} has no address"))?;
    let client = Client::connect(socket, PATIENCE).await;
    let client = client.with_context(|| format!("connect to {address}"))?;
    Ok(client.with_large_replies())
}

pub(super) async fn ask(client: &mut Client, words: &[&[u8]]) -> Result<Value> {
    let replies = client.pipeline(&encode_command(words), 1).await.context("ask")?;
    let reply = replies.into_iter().next().context("no reply")?;
    match refused(&reply) {
        Some(text) => {
            bail!("{}: {text}", String::from_utf8_lossy(words.first().unwrap_or(&&b""[..])))
        }
        None => Ok(reply),
    }
}

/// Where the Redis is, and who asks.
#[derive(Debug, Clone)]
pub(super) struct Access {
    pub(super) address: String,
    pub(super) user: Option<String>,
    pub(super) password: Option<String>,
}

impl Access {
    /// The command that says who asks, if that is asked for.
    pub(super) fn auth(&self) -> Option<Vec<&str>> {
        let password = self.password.as_deref()?;
        Some(["AUTH"].into_iter().chain(self.user.as_deref()).chain([password]).collect())
    }
}

/// The Redis.
pub(super) struct Source(pub(super) Client);

impl Source {
    pub(super) async fn open(access: &Access, db: u32) -> Result<Self> {
        let mut client = connect(&access.address).await?;
        if let Some(words) = access.auth() {
            let words: Vec<&[u8]> = words.into_iter().map(str::as_bytes).collect();
            ask(&mut client, &words).await.context("authenticate at the Redis")?;
        }
        if db > 0 {
            let db = db.to_string();
            ask(&mut client, &[b"SELECT", db.as_bytes()]).await.context("choose the database")?;
        }
        ask(&mut client, &[b"PING"])
            .await
            .context("greet the Redis (where it wants a password: --from-password-file)")?;
        Ok(Self(client))
    }

    pub(super) async fn run_id(&mut self) -> Result<String> {
        let info = ask(&mut self.0, &[b"INFO", b"server"]).await?;
        let text = info.as_str().unwrap_or_default().to_owned();
        let found = text.lines().find_map(|line| line.strip_prefix("run_id:"));
        Ok(found.context("INFO of the Redis has no run_id")?.trim().to_owned())
    }

    pub(super) async fn size(&mut self) -> Result<i64> {
        match ask(&mut self.0, &[b"DBSIZE"]).await? {
            Value::Integer(keys) => Ok(keys),
            other => bail!("DBSIZE: {other:?}"),
        }
    }

    /// The next cursor, and a page of keys.
    pub(super) async fn scan(&mut self, cursor: &str) -> Result<(String, Vec<Vec<u8>>)> {
        let words: [&[u8]; 4] = [b"SCAN", cursor.as_bytes(), b"COUNT", PAGE.as_bytes()];
        let reply = ask(&mut self.0, &words).await?;
        let Value::Array(parts) = &reply else { bail!("SCAN: {reply:?}") };
        let [next, Value::Array(keys)] = parts.as_slice() else { bail!("SCAN: {reply:?}") };
        let next = next.as_str().context("SCAN without a cursor")?.to_owned();
        let keys = keys.iter().map(|key| key.as_bytes().unwrap_or_default().to_vec());
        Ok((next, keys.collect()))
    }

    /// The values of keys, in their order; `None` for what is gone.
    pub(super) async fn dump(&mut self, keys: &[Vec<u8>]) -> Result<Vec<Option<Dumped>>> {
        let mut found = Vec::with_capacity(keys.len());
        for part in keys.chunks(TOGETHER) {
            let mut bytes = Vec::new();
            part.iter().for_each(|key| ask_for(key, &mut bytes));
            let replies = self.0.pipeline(&bytes, 2 * part.len()).await.context("DUMP")?;
            for (key, replies) in part.iter().zip(replies.chunks(2)) {
                found.push(dumped(key, replies)?);
            }
        }
        Ok(found)
    }
}

/// The nodes.
pub(super) struct Target {
    first: String,
    password: Option<String>,
    open: BTreeMap<String, Link>,
    /// By address, names of connections that broke: what they brought may yet be run there.
    broken: BTreeMap<String, Vec<String>>,
    /// Where slots are that were asked for elsewhere.
    slots: HashMap<Slot, String>,
    names: Names,
}

/// A connection to a node, and its name there.
struct Link {
    client: Client,
    name: String,
}

/// Ends connections by their names, and returns once the node has none of them any more: what they
/// brought and is not done by then never will be. Else it could be done later than what is written
/// after it.
async fn end(client: &mut Client, is_to_end: impl Fn(&str) -> bool) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let list = ask(client, &[b"CLIENT", b"LIST"]).await?;
        let list = list.as_bytes().map(String::from_utf8_lossy).unwrap_or_default();
        let left = list.lines().filter(|line| {
            let name = line.split(' ').find_map(|field| field.strip_prefix("name="));
            name.is_some_and(&is_to_end)
        });
        let ids: Vec<&str> =
            left.filter_map(|line| line.split(' ').next()?.strip_prefix("id=")).collect();
        if ids.is_empty() {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "the node still runs what it brought");
        for id in ids {
            // It may have ended meanwhile.
            ask(client, &[b"CLIENT", b"KILL", b"ID", id.as_bytes()]).await?;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// A command for the node of these keys.
#[derive(Debug, Clone)]
pub(super) struct Order {
    pub(super) words: Vec<Vec<u8>>,
    /// At least one; all in one slot.
    pub(super) keys: Vec<Vec<u8>>,
}

/// What a node said to a key.
enum Said {
    Done,
    Kept,
    /// It is to be asked again.
    Later(String),
}

impl Target {
    pub(super) fn new(address: &str, password: Option<String>) -> Self {
        Self {
            first: address.to_owned(),
            password,
            open: BTreeMap::new(),
            broken: BTreeMap::new(),
            slots: HashMap::new(),
            names: Names::new(None),
        }
    }

    /// What the names of this copy's connections begin with, in all its runs.
    pub(super) fn copy_name(&self) -> &str {
        self.names.copy()
    }

    /// Goes on with a copy of which there was a run before. What that brought may yet be run: its
    /// connections are ended at each node before anything is written there.
    pub(super) fn succeed(&mut self, copy: &str) {
        self.names = Names::new(Some(copy));
        self.open.clear();
    }

    /// Whether it answers at all, and knows RESTORE.
    pub(super) async fn greet(&mut self) -> Result<()> {
        let first = self.first.clone();
        let client = self.client(&first).await?;
        ask(client, &[b"PING"])
            .await
            .context("greet the target (where it wants a password: --to-password-file)")
            .map(drop)
    }

    async fn client(&mut self, address: &str) -> Result<&mut Client> {
        if !self.open.contains_key(address) {
            let mut client = connect(address).await?;
            if let Some(password) = &self.password {
                let words: [&[u8]; 2] = [b"AUTH", password.as_bytes()];
                ask(&mut client, &words).await.context("authenticate at the target")?;
            }
            let broken = self.broken.get(address).map(Vec::as_slice).unwrap_or_default();
            let names = &self.names;
            let is_cleared = names.is_cleared(address);
            if !broken.is_empty() || !is_cleared {
                let is_to_end = |name: &str| {
                    broken.iter().any(|broken| broken == name)
                        || !is_cleared && names.is_earlier(name)
                };
                end(&mut client, is_to_end).await.context("end a connection that broke")?;
            }
            self.broken.remove(address);
            self.names.note_cleared(address);
            let name = self.names.another();
            let words: [&[u8]; 3] = [b"CLIENT", b"SETNAME", name.as_bytes()];
            ask(&mut client, &words).await.context("name a connection")?;
            self.open.insert(address.to_owned(), Link { client, name });
        }
        let link = self.open.get_mut(address);
        Ok(&mut link.context("a connection that was just made is gone")?.client)
    }

    /// A connection has broken: whether what it brought was done is not known.
    fn lose(&mut self, address: &str) {
        if let Some(link) = self.open.remove(address) {
            self.broken.entry(address.to_owned()).or_default().push(link.name);
        }
    }

    fn address_of(&self, key: &[u8]) -> String {
        self.slots.get(&key_slot(key)).unwrap_or(&self.first).clone()
    }

    /// Puts values, or takes them away. Returns how many keys stay as they were.
    pub(super) async fn put(&mut self, values: &[Put], keeps: bool) -> Result<u64> {
        let (mut left, mut kept): (Vec<&Put>, u64) = (values.iter().collect(), 0);
        let deadline = Instant::now() + FAILOVER_PATIENCE;
        while !left.is_empty() {
            let mut by_node: BTreeMap<String, Vec<&Put>> = BTreeMap::new();
            for value in left.drain(..) {
                by_node.entry(self.address_of(value.key())).or_default().push(value);
            }
            let (mut obstacle, mut is_moved) = (None, true);
            for (address, values) in by_node {
                for part in values.chunks(TOGETHER) {
                    let replies = self.send(&address, part, keeps).await;
                    let replies = replies.unwrap_or_else(|error| {
                        self.lose(&address);
                        let text = format!("-{error:#}");
                        part.iter().map(|_| Value::Error(text.clone())).collect()
                    });
                    for (value, reply) in part.iter().zip(replies) {
                        match self.said(value, &reply)? {
                            Said::Done => {}
                            Said::Kept => kept += 1,
                            Said::Later(why) => {
                                is_moved &= why.starts_with("MOVED");
                                obstacle = Some(why);
                                left.push(value);
                            }
                        }
                    }
                }
            }
            if let (Some(why), true) = (obstacle, Instant::now() > deadline) {
                bail!("the target takes no writes: {why}");
            }
            if !is_moved {
                tokio::time::sleep(PAUSE).await;
            }
        }
        Ok(kept)
    }

    async fn send(&mut self, address: &str, part: &[&Put], keeps: bool) -> Result<Vec<Value>> {
        let bytes: Vec<u8> = part.iter().flat_map(|value| value.bytes(keeps)).collect();
        let client = self.client(address).await?;
        let replies: io::Result<Vec<Value>> = client.pipeline(&bytes, part.len()).await;
        replies.context("RESTORE")
    }

    fn said(&mut self, value: &Put, reply: &Value) -> Result<Said> {
        let Some(text) = refused(reply) else {
            let is_done = reply.is_ok() || matches!(reply, Value::Integer(_));
            ensure!(is_done, "RESTORE {}: {reply:?}", value.key().escape_ascii());
            return Ok(Said::Done);
        };
        let mut words = text.split(' ');
        match words.next().unwrap_or_default() {
            "BUSYKEY" => Ok(Said::Kept),
            "MOVED" => {
                let address = words.nth(1).context("MOVED without an address")?;
                self.slots.insert(key_slot(value.key()), address.to_owned());
                Ok(Said::Later(text.to_owned()))
            }
            // What a failover looks like; a connection that broke begins with a dash here.
            "CLUSTERDOWN" | "TRYAGAIN" | "LOADING" | "READONLY" | "NOREPLICAS" | "MASTERDOWN" => {
                Ok(Said::Later(text.to_owned()))
            }
            word if word.starts_with('-') => {
                self.slots.remove(&key_slot(value.key()));
                Ok(Said::Later(text.trim_start_matches('-').to_owned()))
            }
            _ => bail!("RESTORE {}: {text}", value.key().escape_ascii()),
        }
    }

    /// Sends commands, those of a slot in their order. Returns which were not done, or not for
    /// certain.
    pub(super) async fn order(&mut self, orders: &[Order]) -> Vec<usize> {
        let mut by_node: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for (at, order) in orders.iter().enumerate() {
            let key = order.keys.first().map(Vec::as_slice).unwrap_or_default();
            by_node.entry(self.address_of(key)).or_default().push(at);
        }
        let mut failed = Vec::new();
        for (address, places) in by_node {
            let words = places.iter().filter_map(|at| orders.get(*at)).map(|order| &order.words);
            let bytes: Vec<u8> = words.flat_map(|words| encode_command(words)).collect();
            let replies = match self.client(&address).await {
                Ok(client) => client.pipeline(&bytes, places.len()).await.ok(),
                Err(_) => None,
            };
            let Some(replies) = replies else {
                self.lose(&address);
                failed.extend(places);
                continue;
            };
            let refusals =
                places.iter().zip(&replies).filter(|(_, reply)| refused(reply).is_some());
            failed.extend(refusals.map(|(at, _)| *at));
        }
        failed
    }

    /// Sends a command to each master.
    pub(super) async fn everywhere(&mut self, words: &[Vec<u8>]) -> Result<()> {
        let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
        for address in self.masters().await? {
            let sent = ask(self.client(&address).await?, &words).await;
            sent.with_context(|| format!("at {address}"))?;
        }
        Ok(())
    }

    async fn masters(&mut self) -> Result<Vec<String>> {
        let first = self.first.clone();
        let bytes = encode_command(&["CLUSTER", "SLOTS"]);
        let replies = self.client(&first).await?.pipeline(&bytes, 1).await;
        let Some(Value::Array(ranges)) = replies.context("CLUSTER SLOTS")?.pop() else {
            // It is no cluster.
            return Ok(vec![first]);
        };
        let mut masters = BTreeSet::new();
        for range in &ranges {
            let Value::Array(parts) = range else { bail!("CLUSTER SLOTS: {range:?}") };
            let Some(Value::Array(master)) = parts.get(2) else {
                bail!("CLUSTER SLOTS: {range:?}")
            };
            let [host, Value::Integer(port), ..] = master.as_slice() else {
                bail!("CLUSTER SLOTS: {range:?}")
            };
            let host = host.as_str().context("CLUSTER SLOTS without a host")?;
            let is_v6 = host.contains(':');
            masters.insert(if is_v6 {
                format!("[{host}]:{port}")
            } else {
                format!("{host}:{port}")
            });
        }
        Ok(masters.into_iter().collect())
    }

    /// The payloads of keys, in their order; `None` for what is not there.
    pub(super) async fn dump(&mut self, keys: &[&[u8]]) -> Result<Vec<Option<Vec<u8>>>> {
        let mut found = vec![None; keys.len()];
        let mut left: Vec<usize> = (0..keys.len()).collect();
        let deadline = Instant::now() + FAILOVER_PATIENCE;
        while !left.is_empty() {
            ensure!(Instant::now() < deadline, "DUMP is sent round in a circle");
            let mut by_node: BTreeMap<String, Vec<(usize, &[u8])>> = BTreeMap::new();
            for at in left.drain(..) {
                let key = keys.get(at).copied().unwrap_or_default();
                by_node.entry(self.address_of(key)).or_default().push((at, key));
            }
            for (address, asked) in by_node {
                for part in asked.chunks(TOGETHER) {
                    let bytes: Vec<u8> = part
                        .iter()
                        .flat_map(|(_, key)| encode_command(&[&b"DUMP"[..], key]))
                        .collect();
                    let replies = self.client(&address).await?.pipeline(&bytes, part.len()).await;
                    for ((at, key), reply) in part.iter().zip(replies.context("DUMP")?) {
                        match reply {
                            Value::Null => {}
                            Value::Bulk(payload) => found[*at] = Some(payload),
                            Value::Error(text) => {
                                self.moved(key, &text).with_context(|| format!("DUMP: {text}"))?;
                                left.push(*at);
                            }
                            other => bail!("DUMP: {other:?}"),
                        }
                    }
                }
            }
        }
        Ok(found)
    }

    /// Notes where a slot is, if that is what an error says.
    fn moved(&mut self, key: &[u8], text: &str) -> Option<()> {
        let address = text.strip_prefix("MOVED ")?.split(' ').nth(1)?;
        self.slots.insert(key_slot(key), address.to_owned());
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    /// The next command of a connection; `None` at its end.
    async fn heard(stream: &mut TcpStream) -> Option<String> {
        let mut bytes = Vec::new();
        loop {
            if let Ok(Some((Value::Array(words), _))) = Value::parse(&bytes, 1 << 20) {
                let words = words.iter().map(|word| word.as_str().unwrap().to_owned());
                return Some(words.collect::<Vec<_>>().join(" "));
            }
            if stream.read_buf(&mut bytes).await.unwrap() == 0 {
                return None;
            }
        }
    }

    /// What it brought may lie in the node's buffers, as behind a disk that hangs.
    #[tokio::test]
    async fn a_connection_that_broke_is_ended_at_the_node_before_anything_else_is_written_there() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let node = tokio::spawn(async move {
            let (mut first, _) = listener.accept().await.unwrap();
            let named = heard(&mut first).await.unwrap();
            let name = named.strip_prefix("CLIENT SETNAME ").unwrap().to_owned();
            first.write_all(b"+OK\r\n").await.unwrap();
            assert_eq!(heard(&mut first).await.unwrap(), "SET k old");
            drop(first);

            let (mut second, _) = listener.accept().await.unwrap();
            let others = "id=6 addr=127.0.0.1:1 name=x-1 age=1\n";
            let broken = format!("id=7 addr=127.0.0.1:2 name={name} age=1\n");
            let list = |text: String| format!("${}\r\n{text}\r\n", text.len());
            let here = list(format!("{others}{broken}"));
            let expected = [
                ("CLIENT LIST", here.clone()),
                ("CLIENT KILL ID 7", ":1\r\n".into()),
                // Its last command is not over yet.
                ("CLIENT LIST", here),
                ("CLIENT KILL ID 7", ":0\r\n".into()),
                ("CLIENT LIST", list(others.to_owned())),
            ];
            for (command, reply) in expected {
                assert_eq!(heard(&mut second).await.unwrap(), command);
                second.write_all(reply.as_bytes()).await.unwrap();
            }
            let again = heard(&mut second).await.unwrap();
            assert!(again.starts_with("CLIENT SETNAME ") && !again.ends_with(&name), "{again}");
            second.write_all(b"+OK\r\n").await.unwrap();
            assert_eq!(heard(&mut second).await.unwrap(), "DEL k");
            second.write_all(b":1\r\n").await.unwrap();
        });
        let mut target = Target::new(&address, None);
        let words = ["SET", "k", "old"].map(|word| word.as_bytes().to_vec()).to_vec();
        let order = Order { words, keys: vec![b"k".to_vec()] };
        assert_eq!(target.order(&[order]).await, [0]);
        assert_eq!(target.put(&[Put::Gone(b"k".to_vec())], false).await.unwrap(), 0);
        node.await.unwrap();
    }

    #[tokio::test]
    async fn connections_of_an_earlier_run_are_ended_before_anything_is_written() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let node = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let list = |text: &str| format!("${}\r\n{text}\r\n", text.len());
            let others = "id=6 name=copyof-7 age=1\nid=8 name=cop age=1\n";
            let expected = [
                ("CLIENT LIST", list(&format!("{others}id=7 name=copy-1-1 age=1\n"))),
                ("CLIENT KILL ID 7", ":1\r\n".into()),
                ("CLIENT LIST", list(others)),
            ];
            for (command, reply) in expected {
                assert_eq!(heard(&mut stream).await.unwrap(), command);
                stream.write_all(reply.as_bytes()).await.unwrap();
            }
            let named = heard(&mut stream).await.unwrap();
            assert!(named.starts_with("CLIENT SETNAME copy-"), "{named}");
            stream.write_all(b"+OK\r\n").await.unwrap();
            assert_eq!(heard(&mut stream).await.unwrap(), "DEL k");
            stream.write_all(b":1\r\n").await.unwrap();
        });
        let mut target = Target::new(&address, None);
        target.succeed("copy");
        assert_eq!(target.put(&[Put::Gone(b"k".to_vec())], false).await.unwrap(), 0);
        node.await.unwrap();
    }
}
