//! Every port that another host reaches: found by what listens, and tried in clear, without a
//! certificate, without a password, and with both.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use testkit::netns;

use crate::host::{Host, OPERATOR, Place, Site};

const PATIENCE: Duration = Duration::from_secs(30);

/// What is spoken behind a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Redis' protocol, and the file of the password that is taken there.
    Redis(&'static str),
    /// HTTP: a page, and whether it takes a token.
    Http(&'static str, bool),
    /// etcd's among its members, who look at each other's addresses too.
    Members,
}

/// What the pages know of ports; one that they do not know is no door that was meant to be there.
fn kind(port: u16) -> Option<Kind> {
    Some(match port {
        6379 => Kind::Redis("client.secret"),
        6666 => Kind::Redis("peer.secret"),
        9379 => Kind::Http("/api/v1/namespaces", true),
        9400 => Kind::Http("/api/v1/state", true),
        9666 => Kind::Http("/metrics", false),
        2379 => Kind::Http("/version", false),
        2380 => Kind::Members,
        _ => return None,
    })
}

/// Whether the pages know what is behind a port.
pub(crate) fn is_known(port: u16) -> bool {
    kind(port).is_some()
}

/// Where a host listens for others.
fn listening(host: &Host) -> Result<BTreeSet<SocketAddrV4>> {
    let table = |script: &str| -> Result<String> {
        let output = host.place.command(&["sh", "-c", script]).output().context("read a table")?;
        ensure!(output.status.success(), "{script}: {}", output.status);
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let listeners = |text: &str| -> Vec<String> {
        let rows = text.lines().skip(1).map(|row| row.split_whitespace().collect::<Vec<_>>());
        let open = rows.filter(|row| row.get(3) == Some(&"0A"));
        open.filter_map(|row| row.get(1).map(|at| (*at).to_owned())).collect()
    };
    // Where the kernel knows no IPv6 there is no such table.
    let others = listeners(&table("[ ! -e /proc/net/tcp6 ] || cat /proc/net/tcp6")?);
    ensure!(others.is_empty(), "{} listens at {others:?}", host.place.name);
    // Each once, however many sockets share it.
    let mut found = BTreeSet::new();
    for at in listeners(&table("cat /proc/net/tcp")?) {
        let (ip, port) = at.split_once(':').context("an address")?;
        let ip = Ipv4Addr::from(u32::from_str_radix(ip, 16)?.swap_bytes());
        let port = u16::from_str_radix(port, 16)?;
        if !ip.is_loopback() {
            found.insert(SocketAddrV4::new(ip, port));
        }
    }
    Ok(found)
}

/// Where certificates and passwords are, and from where a door is tried.
struct Visitor<'a> {
    space: &'a str,
    operator: &'a Place,
}

impl Visitor<'_> {
    fn file(&self, name: &str) -> String {
        self.operator.path("/srv/site").join(name).display().to_string()
    }

    fn secret(&self, name: &str) -> Result<String> {
        let text = std::fs::read_to_string(self.file(name)).context("read a secret")?;
        Ok(text.trim().to_owned())
    }

    /// What comes back to words in clear is no answer.
    fn is_deaf_in_clear(&self, door: SocketAddrV4) -> Result<()> {
        for words in ["PING\r\n", "GET /version HTTP/1.0\r\n\r\n"] {
            let said = netns::inside(self.space, || {
                let mut stream = TcpStream::connect_timeout(&SocketAddr::V4(door), PATIENCE)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.write_all(words.as_bytes())?;
                let mut said = Vec::new();
                match stream.read_to_end(&mut said) {
                    Err(error) if error.kind() != std::io::ErrorKind::ConnectionReset => {
                        Err(error).context("wait for the end of the connection")
                    }
                    _ => Ok(said),
                }
            })?;
            // An alert of TLS, or Go's page that says that TLS is spoken here.
            let is_alert = said.first() == Some(&0x15);
            let text = String::from_utf8_lossy(&said);
            let is_refused = text.starts_with("HTTP/1.0 400 ") && text.contains("HTTPS server");
            ensure!(said.is_empty() || is_alert || is_refused, "in clear: {text}");
        }
        Ok(())
    }

    fn cli(&self, door: SocketAddrV4, shows: bool, password: Option<&str>) -> Result<String> {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", self.space, "timeout", "30", "redis-cli", "--tls"]);
        command.args(["--cacert", &self.file("ca.pem")]);
        if shows {
            command.args(["--cert", &self.file("client.pem"), "--key", &self.file("client.key")]);
        }
        command.env_remove("REDISCLI_AUTH");
        if let Some(password) = password {
            command.env("REDISCLI_AUTH", password);
        }
        let (ip, port) = (door.ip().to_string(), door.port().to_string());
        let output =
            command.args(["-h", &ip, "-p", &port, "PING"]).output().context("redis-cli")?;
        Ok(String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    }

    fn redis(&self, door: SocketAddrV4, secret: &str) -> Result<()> {
        let said = self.cli(door, false, Some(&self.secret(secret)?))?;
        ensure!(!said.contains("PONG") && !said.contains("NOAUTH"), "no certificate: {said}");
        let said = self.cli(door, true, None)?;
        ensure!(said.contains("NOAUTH"), "no password: {said}");
        let said = self.cli(door, true, Some(&self.secret(secret)?))?;
        ensure!(said.contains("PONG"), "with both: {said}");
        Ok(())
    }

    /// The status of the answer; shows a certificate, and says a token.
    fn get(&self, url: &str, shows: bool, token: Option<&str>) -> Result<u16> {
        let root = std::fs::read(self.file("ca.pem"))?;
        let mut builder = reqwest::Client::builder().no_proxy().timeout(PATIENCE);
        builder = builder.add_root_certificate(reqwest::Certificate::from_pem(&root)?);
        if shows {
            let mut pem = std::fs::read(self.file("operator.key"))?;
            pem.extend(std::fs::read(self.file("operator.pem"))?);
            builder = builder.identity(reqwest::Identity::from_pem(&pem)?);
        }
        let client = builder.build()?;
        netns::inside(self.space, || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let mut request = client.get(url);
                if let Some(token) = token {
                    request = request.bearer_auth(token);
                }
                Ok(request.send().await?.status().as_u16())
            })
        })
    }

    fn http(&self, door: SocketAddrV4, page: &str, takes_token: bool) -> Result<()> {
        let url = format!("https://{door}{page}");
        let name = if door.port() == 9379 { "controller.token" } else { "balancer.token" };
        let token = self.secret(name)?;
        if let Ok(status) = self.get(&url, false, Some(&token)) {
            bail!("no certificate: {status}");
        }
        let status = self.get(&url, true, None)?;
        let wanted = if takes_token { 401 } else { 200 };
        ensure!(status == wanted, "no token: {status}");
        let status = self.get(&url, true, Some(&token))?;
        ensure!(status == 200, "with both: {status}");
        Ok(())
    }

    fn try_door(&self, door: SocketAddrV4) -> Result<()> {
        self.is_deaf_in_clear(door)?;
        match kind(door.port()).context("nobody knows what this port is for")? {
            Kind::Redis(secret) => self.redis(door, secret),
            Kind::Http(page, takes_token) => self.http(door, page, takes_token),
            Kind::Members => match self.get(&format!("https://{door}/version"), false, None) {
                Ok(status) => bail!("no certificate: {status}"),
                Err(_) => Ok(()),
            },
        }
    }
}

/// How many there are at the moment.
pub(crate) fn count(site: &Site) -> Result<usize> {
    let mut count = 0;
    for host in &site.hosts {
        count += listening(host)?.len();
    }
    Ok(count)
}

/// Tries all of them; how many there are.
pub(crate) fn all_ask(site: &Site) -> Result<usize> {
    let operator = &site.host(OPERATOR)?.place;
    let mut count = 0;
    for host in &site.hosts {
        for door in listening(host)? {
            // What both balancers have is reached at each of them from itself.
            let is_own = *door.ip() == host.place.address;
            let space = if is_own { &operator.space } else { &host.place.space };
            let visitor = Visitor { space, operator };
            visitor.try_door(door).with_context(|| format!("{} at {door}", host.place.name))?;
            count += 1;
        }
    }
    Ok(count)
}
