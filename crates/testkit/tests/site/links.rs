//! What crosses the wire of a site: of keys, values, passwords and tokens nothing can be read
//! there.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use testkit::process::Process;
use testkit::tap::{Segment, Tap};
use testkit::wait;

use crate::doors;
use crate::host::{HOLDFAST, OPERATOR, Site};

const PATIENCE: Duration = Duration::from_secs(60);
/// In the folder of the operator; so many letters at least, none of them by chance.
const SECRETS: &[&str] = &["client.secret", "peer.secret", "controller.token", "balancer.token"];
const LETTERS: usize = 32;

/// Two kinds of hosts, the dialled one last, and the port there.
pub(crate) type Link = (&'static str, &'static str, u16);

/// What each of these sites has.
const LINKS: &[Link] = &[
    ("operator", "announced", 6379),
    ("operator", "controller", 9379),
    ("operator", "node", 6666),
    ("balancer", "node", 6666),
    ("node", "node", 6666),
    ("controller", "node", 6666),
    ("controller", "controller", 9379),
    ("controller", "controller", 2379),
    ("controller", "controller", 2380),
];

fn kind(address: Ipv4Addr) -> Result<&'static str> {
    Ok(match address.octets() {
        [10, 0, 0, _] => "node",
        [10, 0, 7, 9] => "operator",
        [10, 0, 7, _] => "controller",
        [10, 0, 8, _] => "balancer",
        [10, 0, 9, _] => "announced",
        _ => bail!("whose is {address}?"),
    })
}

/// What is in all keys and in all values that clients write.
#[derive(Debug, Clone)]
pub(crate) struct Marks {
    pub(crate) key: String,
    pub(crate) value: String,
}

impl Marks {
    pub(crate) fn random() -> Self {
        let mark = || format!("{:032x}{:032x}", rand::random::<u128>(), rand::random::<u128>());
        Self { key: mark(), value: mark() }
    }
}

/// What nobody may read on its way, and what it is.
fn secrets(site: &Site, marks: &Marks) -> Result<Vec<(&'static str, String)>> {
    let folder = site.host(OPERATOR)?.place.path("/srv/site");
    let mut all = vec![("a key", marks.key.clone()), ("a value", marks.value.clone())];
    for name in SECRETS {
        let text =
            std::fs::read_to_string(folder.join(name)).with_context(|| (*name).to_owned())?;
        all.push((*name, text.trim().to_owned()));
    }
    for (name, text) in &all {
        ensure!(text.is_ascii() && text.len() >= LETTERS, "{name} may be there by chance");
    }
    Ok(all)
}

/// Where a secret can be read. Each half of it is looked for: if a segment ends within one of them,
/// the other is whole.
fn reads<'f>(frames: &'f [Box<[u8]>], secret: &str) -> Option<&'f [u8]> {
    let (front, back) = secret.split_at(secret.len() / 2);
    let halves = [front.as_bytes(), back.as_bytes()];
    let has = |frame: &[u8], half: &[u8]| {
        // Nearly all differ in the first byte: to compare whole slices takes many times as long.
        frame.windows(half.len()).any(|part| part.first() == half.first() && part == half)
    };
    let mut frames = frames.iter().map(|frame| &**frame);
    frames.find(|frame| halves.iter().any(|half| has(frame, half)))
}

/// The kinds of hosts between which these frames carry something. Of a port that nobody knows there
/// is none.
fn links(frames: &[Box<[u8]>]) -> Result<BTreeSet<Link>> {
    let mut found = BTreeSet::new();
    let segments = frames.iter().filter_map(|frame| Segment::read(frame));
    for segment in segments.filter(|segment| !segment.payload.is_empty()) {
        let (from, to) = (segment.from, segment.to);
        let (client, server) = if doors::is_known(to.port()) { (from, to) } else { (to, from) };
        ensure!(doors::is_known(server.port()), "who speaks between {from} and {to}?");
        found.insert((kind(*client.ip())?, kind(*server.ip())?, server.port()));
    }
    Ok(found)
}

/// All that has crossed the wire: every kind of link was in use, and nothing could be read on any.
pub(crate) fn show_nothing(site: &Site, tap: Tap, marks: &Marks, more: &[Link]) -> Result<()> {
    let frames = tap.close()?;
    let found = links(&frames)?;
    for link in LINKS.iter().chain(more) {
        ensure!(found.contains(link), "nobody has spoken by {link:?}: {found:?}");
    }
    for (name, secret) in secrets(site, marks)? {
        if let Some(frame) = reads(&frames, &secret) {
            let ends = Segment::read(frame).map(|segment| (segment.from, segment.to));
            let text = String::from_utf8_lossy(frame).into_owned();
            bail!("{name} can be read between {ends:?}: {text}");
        }
    }
    Ok(())
}

/// The same words to a node that speaks no TLS: each of them is seen, so the search finds what
/// there is to be found.
pub(crate) fn in_clear_show_all(site: &mut Site, marks: &Marks) -> Result<()> {
    let all = secrets(site, marks)?;
    let secret = |wanted: &'static str| {
        let found = all.iter().find(|(name, _)| *name == wanted);
        found.map(|(_, text)| text.clone()).context(wanted)
    };
    let place = site.host("n1")?.place.clone();
    let (config, log) = ("/tmp/clear.conf", site.log("clear")?);
    let text = format!(
        "bind {0}\nport 7000\ndir /tmp/clear\nrequirepass {1}\npeer-auth {2}\nadmin-bind {0}\n\
         admin-port 7001\n",
        place.address,
        secret("client.secret")?,
        secret("peer.secret")?,
    );
    std::fs::create_dir_all(place.path("/tmp/clear")).context("create a folder")?;
    std::fs::write(place.path(config), text).context("write a configuration")?;
    let tap = Tap::open(site.wire())?;
    let node = Process::start_command(place.command(&[HOLDFAST, "node", "-c", config]), &log)?;
    let script = format!(
        "cd site\n\
         cli() {{ REDISCLI_AUTH=$(cat $1) redis-cli -h {0} -p 7000 \"${{@:2}}\"; }}\n\
         [ \"$(cli client.secret SET {1} {2})\" = OK ]\n\
         [ \"$(cli peer.secret PING)\" = PONG ]\n\
         for token in controller.token balancer.token; do\n\
         curl -sS -o /dev/null -H \"Authorization: Bearer $(cat $token)\" http://{0}:7001/metrics\n\
         done\n",
        place.address, marks.key, marks.value,
    );
    wait::until("a node takes words in clear", PATIENCE, || site.operate(&script).map(drop))
        .with_context(|| node.log())?;
    node.kill()?;
    let frames = tap.close()?;
    for (name, secret) in &all {
        ensure!(reads(&frames, secret).is_some(), "{name} went in clear, and was not found");
    }
    Ok(())
}
