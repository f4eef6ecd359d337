//! A real etcd for tests: on loopback, with folders of its own, ended by its processes.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Members that run until they are dropped.
#[derive(Debug)]
pub struct Etcd {
    folder: tempfile::TempDir,
    /// Ports for clients and for the other members.
    ports: Vec<(u16, u16)>,
    members: Vec<Option<Child>>,
    /// Options of each member beside those of its place.
    options: Vec<String>,
}

/// Ports that were free a moment ago.
fn ports(count: usize) -> Vec<(u16, u16)> {
    let free = || std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let pairs: Vec<_> = (0..count).map(|_| (free(), free())).collect();
    let port = |of: &std::net::TcpListener| of.local_addr().expect("an address").port();
    pairs.iter().map(|(one, other)| (port(one), port(other))).collect()
}

fn at(port: u16) -> String {
    format!("http://127.0.0.1:{port}")
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
        let mut etcd = Self { folder, ports: ports(count), members, options };
        for member in 0..count {
            etcd.run(member);
        }
        etcd.is_up().await;
        etcd
    }

    /// Where its members are.
    pub fn endpoints(&self) -> Vec<String> {
        self.ports.iter().map(|(client, _)| at(*client)).collect()
    }

    fn run(&mut self, member: usize) {
        let name = |index: usize| format!("m{index}");
        let peers = self.ports.iter().enumerate();
        let peers = peers.map(|(index, (_, peer))| format!("{}={}", name(index), at(*peer)));
        let (client, peer) = self.ports[member];
        let child = Command::new("etcd")
            .args(["--name", &name(member), "--data-dir"])
            .arg(self.folder.path().join(name(member)))
            .args(["--listen-client-urls", &at(client), "--advertise-client-urls", &at(client)])
            .args(["--listen-peer-urls", &at(peer), "--initial-advertise-peer-urls", &at(peer)])
            .args(["--initial-cluster", &peers.collect::<Vec<_>>().join(",")])
            .args(["--log-level", "error", "--auto-compaction-retention", "1"])
            .args(["--heartbeat-interval", "50", "--election-timeout", "500"])
            .args(&self.options)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let child = child.expect("`etcd` starts: is etcd-server installed (scripts/bootstrap)?");
        self.members[member] = Some(child);
    }

    /// Waits until every member answers with a quorum.
    pub async fn is_up(&self) {
        let http = reqwest::Client::builder().no_proxy().build().expect("a client");
        for endpoint in self.endpoints() {
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
            tokio::time::timeout(Duration::from_secs(60), up).await.expect("etcd is up");
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
