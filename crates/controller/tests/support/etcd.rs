//! A real etcd for tests: on loopback, with folders of its own, ended by its processes.

use std::fs::{self, File};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

/// Port for clients of the first member; those of the others follow.
const CLIENTS: u16 = 2379;
/// Port for the other members of the first one.
const PEERS: u16 = 2479;

/// Members that run until they are dropped.
#[derive(Debug)]
pub struct Etcd {
    folder: tempfile::TempDir,
    /// Where its members listen, each at ports of its own.
    host: String,
    members: Vec<Option<Child>>,
    /// Options of each member beside those of its place.
    options: Vec<String>,
}

/// Hosts that a process has given to its etcds.
static HOSTS: AtomicU8 = AtomicU8::new(1);

/// An address that only this process knows of: no other test listens there, and no outgoing
/// connection is given its ports, as happens to ports that were free a moment ago.
fn host() -> String {
    let [.., high, low] = std::process::id().to_be_bytes();
    // Those of the balancers' tests end with .1.
    let last = HOSTS.fetch_add(1, Ordering::SeqCst).checked_add(1).expect("an address is left");
    format!("127.{}.{low}.{last}", 64 + high % 128)
}

fn encoded(text: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(text)
}

#[allow(dead_code, reason = "not every test that shares this module uses all of it")]
impl Etcd {
    /// Starts so many members, and waits until they take writes.
    pub async fn start(count: usize) -> Self {
        Self::start_with(count, &[]).await
    }

    /// The same with more options.
    pub async fn start_with(count: usize, options: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let members = (0..count).map(|_| None).collect();
        let options = options.iter().map(|option| (*option).to_owned()).collect();
        let mut etcd = Self { folder, host: host(), members, options };
        for member in 0..count {
            etcd.run(member);
        }
        etcd.is_up().await;
        etcd
    }

    /// Where its members are.
    pub fn endpoints(&self) -> Vec<String> {
        (0..self.members.len()).map(|member| self.at(member, CLIENTS)).collect()
    }

    fn at(&self, member: usize, first: u16) -> String {
        let member = u16::try_from(member).expect("a handful of members");
        format!("http://{}:{}", self.host, first + member)
    }

    fn log_of(&self, member: usize) -> std::path::PathBuf {
        self.folder.path().join(format!("m{member}.log"))
    }

    fn run(&mut self, member: usize) {
        let name = |index: usize| format!("m{index}");
        let peers = (0..self.members.len())
            .map(|index| format!("{}={}", name(index), self.at(index, PEERS)))
            .collect::<Vec<_>>();
        let (client, peer) = (self.at(member, CLIENTS), self.at(member, PEERS));
        let child = Command::new("etcd")
            .args(["--name", &name(member), "--data-dir"])
            .arg(self.folder.path().join(name(member)))
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &peers.join(",")])
            .args(["--log-level", "error", "--auto-compaction-retention", "1"])
            .args(["--heartbeat-interval", "50", "--election-timeout", "500"])
            .args(&self.options)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(self.log_of(member)).expect("a file"))
            .spawn();
        let child = child.expect("`etcd` starts: is etcd-server installed (scripts/bootstrap)?");
        self.members[member] = Some(child);
    }

    /// Waits until every member answers with a quorum.
    pub async fn is_up(&self) {
        let http = reqwest::Client::builder().no_proxy().build().expect("a client");
        for (member, endpoint) in self.endpoints().into_iter().enumerate() {
            let up = async {
                loop {
                    let range =
                        http.post(format!("{endpoint}/v3/kv/range")).body(r#"{"key":"eA=="}"#);
                    if range.send().await.is_ok_and(|answer| answer.status().is_success()) {
                        return;
                    }
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            };
            if tokio::time::timeout(Duration::from_secs(60), up).await.is_err() {
                let log = fs::read_to_string(self.log_of(member)).unwrap_or_default();
                panic!("etcd at {endpoint} is not up:\n{log}");
            }
        }
    }

    /// Writes a key, beside whatever uses it.
    pub async fn put(&self, key: &str, value: &str) {
        let body = format!(r#"{{"key":"{}","value":"{}"}}"#, encoded(key), encoded(value));
        self.call("put", body).await;
    }

    /// Removes one.
    pub async fn remove(&self, key: &str) {
        self.call("deleterange", format!(r#"{{"key":"{}"}}"#, encoded(key))).await;
    }

    async fn call(&self, what: &str, body: String) {
        let http = reqwest::Client::builder().no_proxy().build().expect("a client");
        let url = format!("{}/v3/kv/{what}", self.endpoints()[0]);
        let answer = http.post(url).body(body).send().await.expect("an answer");
        assert!(answer.status().is_success(), "{answer:?}");
    }

    /// Process ids of the members that run.
    pub fn pids(&self) -> Vec<u32> {
        self.members.iter().flatten().map(Child::id).collect()
    }

    /// kill -9 of one member; what it has stays.
    pub fn kill(&mut self, member: usize) {
        if let Some(mut child) = self.members[member].take() {
            child.kill().expect("a kill");
            child.wait().expect("its end");
        }
    }

    /// Starts the members that do not run on what they have.
    pub async fn start_again(&mut self) {
        for member in 0..self.members.len() {
            if self.members[member].is_none() {
                self.run(member);
            }
        }
        self.is_up().await;
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        for child in self.members.iter_mut().flatten() {
            // It may have ended.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
