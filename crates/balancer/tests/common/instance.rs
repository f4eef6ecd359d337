//! A real HAProxy in master-worker mode, with a folder of its own.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use balancer::haproxy::{ConfigFile, Listen, RuntimeAddress, render_config};
use balancer::{Driver as _, Haproxy, HaproxyConfig};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use topology::Endpoint;

use super::PATIENCE;

pub const HAPROXY: &str = "/usr/sbin/haproxy";

pub struct Instance {
    process: Child,
    dir: TempDir,
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.signal("-TERM");
        let _ = self.process.wait();
    }
}

impl Instance {
    pub async fn start(frontends: &[Endpoint]) -> Self {
        Self::start_with(frontends, |text| text).await
    }

    pub async fn start_with(frontends: &[Endpoint], edit: impl FnOnce(String) -> String) -> Self {
        assert!(Path::new(HAPROXY).exists(), "{HAPROXY} is missing: run the bootstrap script");
        let dir = tempfile::tempdir().unwrap();
        let runtime = RuntimeAddress::Unix(dir.path().join("run.sock"));
        let listen = |endpoint: &Endpoint| Listen { endpoint: endpoint.clone(), bind: None };
        let frontends: Vec<Listen> = frontends.iter().map(listen).collect();
        let text = render_config(&ConfigFile {
            frontends: &frontends,
            bind_source: Some("127.0.0.3".parse().unwrap()),
            runtime: &runtime,
            master: None,
            maxconn: 2_000,
        })
        .unwrap();
        std::fs::write(dir.path().join("haproxy.cfg"), edit(text)).unwrap();
        let process = Self::spawn(dir.path());
        let instance = Self { process, dir };
        instance.up().await;
        instance
    }

    fn spawn(dir: &Path) -> Child {
        Command::new(HAPROXY)
            .arg("-W")
            .arg("-S")
            .arg(dir.join("master.sock"))
            .arg("-f")
            .arg(dir.join("haproxy.cfg"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    }

    /// Waits until the workers answer.
    pub async fn up(&self) {
        let driver = self.driver();
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            match driver.observe().await {
                Ok(_) => return,
                Err(error) => assert!(tokio::time::Instant::now() < deadline, "{error:?}"),
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub async fn restart(&mut self) {
        self.signal("-TERM");
        self.process.wait().unwrap();
        self.process = Self::spawn(self.dir.path());
        self.up().await;
    }

    /// Reloads, and waits until a new worker answers.
    pub async fn reload(&self) {
        let driver = self.driver();
        let before = driver.observe().await.unwrap().start_id;
        self.signal("-USR2");
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            if driver.observe().await.is_ok_and(|applied| applied.start_id != before) {
                return;
            }
            assert!(tokio::time::Instant::now() < deadline, "no new worker");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub fn signal(&self, signal: &str) {
        let pid = self.process.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }

    pub fn config(&self) -> HaproxyConfig {
        HaproxyConfig {
            name: "ha".to_owned(),
            runtime: RuntimeAddress::Unix(self.dir.path().join("run.sock")),
            master: Some(RuntimeAddress::Unix(self.dir.path().join("master.sock"))),
            timeout: Some(Duration::from_secs(5)),
        }
    }

    pub fn driver(&self) -> Haproxy {
        Haproxy::new(self.config())
    }

    /// A command by hand, as an operator or a former controller would send it.
    pub async fn by_hand(&self, command: &str) -> String {
        let mut stream = UnixStream::connect(self.dir.path().join("run.sock")).await.unwrap();
        stream.write_all(format!("{command}\n").as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }
}
