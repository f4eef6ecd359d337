//! Sites for real users, built as the pages say it: the blocks of commands in `README.md` and
//! `docs/operating.md` are given to a shell, word for word, and hosts are namespaces of network and
//! files. Real etcd, real HAProxy; `ssh`, `scp`, `apt-get` and `systemctl` are stood in for, the
//! last by what the unit files say.
//!
//! Needs root, and fails where it may not make namespaces.

mod common;
#[path = "site/doors.rs"]
mod doors;
#[path = "site/host.rs"]
mod host;
#[path = "site/links.rs"]
mod links;
#[path = "site/page.rs"]
mod page;
#[path = "site/shell.rs"]
mod shell;
#[path = "site/units.rs"]
mod units;
#[path = "site/writer.rs"]
mod writer;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use serde_json::Value as Json;
use testkit::netns;
use testkit::tap::Tap;
use testkit::wait;
use testkit::wire::{Connection, Reply};

use common::counts_up;
use host::Site;
use links::{Link, Marks};
use writer::Writer;

const HEADING: &str = "Put it in front of real users";
/// Of `docs/operating.md`.
const SMALL_HEADING: &str = "A small site";
const HAPROXY_HEADING: &str = "HAProxy for a site with TLS";
const PACKAGE: &str = "holdfast_0.1.0_amd64.deb";
/// Far more than a cluster takes to be healthy again.
const PATIENCE: Duration = Duration::from_secs(120);
/// A dozen processes on each of them: one site at a time.
static ONE: Mutex<()> = Mutex::new(());

const LARGE: &[(&str, [u8; 4])] = &[
    ("c1", [10, 0, 7, 1]),
    ("c2", [10, 0, 7, 2]),
    ("c3", [10, 0, 7, 3]),
    ("lb1", [10, 0, 8, 1]),
    ("lb2", [10, 0, 8, 2]),
    ("n1", [10, 0, 0, 1]),
    ("n2", [10, 0, 0, 2]),
    ("n3", [10, 0, 0, 3]),
    ("n4", [10, 0, 0, 4]),
];
/// All of them but the last two nodes.
const SMALL: &[(&str, [u8; 4])] = LARGE.split_at(7).0;

/// Every block of commands in the sections is one that is followed, and has a name of its own.
#[test]
fn no_block_of_the_sections_is_passed_over() -> Result<()> {
    let of_readme = [
        "package",
        "secrets",
        "etcd",
        "nodes",
        "balancers",
        "controllers",
        "operator",
        "cluster",
        "client",
    ];
    let sections: [(&str, &str, &str, &[&str]); 3] = [
        ("README.md", HEADING, "site", &of_readme),
        ("docs/operating.md", SMALL_HEADING, "small", &["site", "move", "back"]),
        ("docs/operating.md", HAPROXY_HEADING, "site", &["haproxy", "haproxy-cluster"]),
    ];
    for (page, heading, kind, wanted) in sections {
        let text = page::read(page)?;
        let section = page::section(&text, heading)?;
        let names: Vec<String> =
            page::blocks(section, kind).into_iter().map(|(name, _)| name).collect();
        let fences = section.lines().filter(|line| line.trim_start().starts_with("```sh")).count();
        ensure!(names.len() == fences, "{page}: {fences} blocks, of which followed: {names:?}");
        ensure!(names == wanted, "{page}: {names:?}");
    }
    Ok(())
}

/// All blocks of the README in their order, some of them replaced.
fn script(replaced: &[(&str, String)]) -> Result<String> {
    let readme = page::read("README.md")?;
    let mut script = String::new();
    for (name, text) in page::blocks(page::section(&readme, HEADING)?, "site") {
        let other = replaced.iter().find(|(known, _)| *known == name);
        script += &format!("echo '== {name}'\n{}", other.map_or(text, |(_, other)| other.clone()));
    }
    Ok(script)
}

/// Hosts as the page begins: the package lies where the operator is.
fn bare(hosts: &[(&str, [u8; 4])]) -> Result<Site> {
    let site = Site::lay_out(hosts)?;
    let package = site.host(host::OPERATOR)?.place.path("/srv").join(PACKAGE);
    std::fs::write(package, "").context("lay out the package")?;
    Ok(site)
}

fn is_healthy(site: &mut Site) -> Result<()> {
    wait::until("a healthy cluster", PATIENCE, || site.ctl("status").map(drop))
}

/// What a command of `ctl` says for programs.
fn json(site: &mut Site, words: &str) -> Result<Json> {
    // It ends with more than 0 while a host is away.
    let said = site.ctl(&format!("--json {words} || true"))?;
    let begin = said.find('{').with_context(|| said.clone())?;
    let mut values = serde_json::Deserializer::from_str(&said[begin..]).into_iter();
    values.next().with_context(|| said.clone())?.with_context(|| said.clone())
}

/// The hosts of the controller that leads, and of the master of the first shard.
fn chiefs(site: &mut Site) -> Result<(String, String)> {
    let store = json(site, "store status")?;
    let leader = site.at(store["leader"].as_str().with_context(|| store.to_string())?)?;
    let status = json(site, "status")?;
    let nodes = status["shards"][0]["nodes"].as_array().context("its nodes")?;
    let master = nodes.iter().find(|node| node["role"] == "master").context("a master")?;
    let master = site.at(master["addr"].as_str().context("its address")?)?;
    Ok((leader, master))
}

/// Clients of both shards write, the hosts of the leading controller and of a master lose their
/// power, clients go on, the hosts come back, and what was acknowledged is there.
fn outlives_hosts(site: &mut Site, marks: &Marks) -> Result<()> {
    let slot = |site: &mut Site, tag: &str| -> Result<u32> {
        let script = format!(
            "cd site; export REDISCLI_AUTH=$(cat client.secret)\n\
             {} -h 10.0.9.1 CLUSTER KEYSLOT {tag}\n",
            writer::CLI
        );
        site.operate(&script)?.trim().parse().context("a slot")
    };
    let (first, second) = ("b", "a");
    let (low, high) = (slot(site, first)?, slot(site, second)?);
    ensure!(low < 8192 && high >= 8192, "slots {low} and {high} are to be of both shards");
    let (leader, master) = chiefs(site)?;
    let place = site.host(host::OPERATOR)?.place.clone();
    let start = |tag| Writer::start(&place, tag, marks);
    let writers = [start(first)?, start(second)?];
    writers.iter().try_for_each(|writer| writer.goes_on(20))?;
    for name in [&leader, &master] {
        let index = site.index(name)?;
        site.hosts[index].crash()?;
    }
    writers.iter().try_for_each(|writer| writer.goes_on(20)).context("after the loss of hosts")?;
    // A controller that stands by may tell a little later who leads than clients can write.
    wait::until("others lead", PATIENCE, || {
        let (other, heir) = chiefs(site)?;
        ensure!(other != leader && heir != master, "{other} and {heir} lead, as before");
        Ok(())
    })?;
    for name in [&leader, &master] {
        site.host(name)?.boot()?;
    }
    site.operate(&format!(
        "ssh root@{leader} 'systemctl start --no-block etcd && systemctl start holdfast-controller'\n\
         ssh root@{master} systemctl start holdfast-node\n"
    ))?;
    is_healthy(site)?;
    writers.iter().try_for_each(|writer| writer.goes_on(20)).context("after their return")?;
    for writer in writers {
        writer.check(site)?;
    }
    Ok(())
}

/// The site of the README: built, its doors tried, and robbed of hosts, while somebody listens to
/// all that goes from one host to another.
fn stands(replaced: &[(&str, String)], doors: usize, links: &[Link]) -> Result<()> {
    let _one_at_a_time = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut site = bare(LARGE)?;
    let marks = Marks::random();
    let built = |site: &mut Site| -> Result<()> {
        let tap = Tap::open(site.wire())?;
        let said = site.operate(&script(replaced)?)?;
        let (_, client) = said.split_once("== client\n").context("the last block")?;
        ensure!(client.lines().collect::<Vec<_>>() == ["OK", "world"], "{client}");
        // A balancer may open what it is told a little later than the other one.
        wait::until("all doors to be there", PATIENCE, || {
            let count = doors::count(site)?;
            ensure!(count >= doors, "{count} doors");
            Ok(())
        })?;
        let found = doors::all_ask(site)?;
        ensure!(found == doors, "{found} doors in place of {doors}");
        // It asks the nodes themselves, as peers do.
        site.ctl("upgrade --password-file peer.secret --nodes-tls")?;
        outlives_hosts(site, &marks)?;
        links::show_nothing(site, tap, &marks, links)?;
        links::in_clear_show_all(site, &marks)
    };
    match built(&mut site) {
        Ok(()) => Ok(()),
        Err(error) => bail!("{error:#}\n{}", site.logs()),
    }
}

/// Two doors at each node, three where a controller is, and at each balancer its own and those that
/// clients dial.
#[test]
fn the_site_of_the_readme_is_closed_and_outlives_the_hosts_of_its_leader_and_of_a_master()
-> Result<()> {
    stands(&[], 4 * 2 + 3 * 3 + 2 * 5, &[("controller", "balancer", 9400)])
}

#[test]
fn the_same_site_with_haproxy_is_closed_and_outlives_the_same() -> Result<()> {
    let page = page::read("docs/operating.md")?;
    let blocks = page::blocks(page::section(&page, HAPROXY_HEADING)?, "site");
    let replaced = [
        ("balancers", page::block(&blocks, "haproxy")?),
        ("cluster", page::block(&blocks, "haproxy-cluster")?),
    ];
    stands(&replaced, 4 * 2 + 3 * 3 + 2 * 4, &[])
}

/// A client that counts up in that namespace, by what clients dial.
fn counts(space: &str, password: &str, stop: &AtomicBool) -> Result<i64> {
    netns::enter(space)?;
    let at = SocketAddr::from(([10, 0, 9, 1], 6379));
    let mut connection = Connection::open_within(at, PATIENCE, PATIENCE)?;
    let said = connection.call(&["AUTH", password])?;
    ensure!(said == Reply::Simple(b"OK".to_vec()), "AUTH: {said:?}");
    counts_up(connection, stop)
}

/// A controller that was left behind is started once more, as a host that is switched on again
/// would do it: it ends by itself, and says why.
fn is_refused(site: &mut Site, host: &str, config: &str) -> Result<()> {
    let said = site.operate(&format!(
        "if ssh root@{host} runuser -u holdfast -- timeout 60 holdfast controller -c {config}; \
         then echo it ended well; else echo it ended with $?; fi\n"
    ))?;
    // 124: it would have gone on.
    let goes_on = said.contains("it ended well") || said.contains("it ended with 124");
    let is_told = said.contains("was given up for");
    ensure!(is_told && !goes_on, "{host} on {config}: {said}");
    Ok(())
}

/// From the file to an etcd and back, with the host of each old store switched on again.
fn moves(site: &mut Site, [there, back]: &[String; 2]) -> Result<()> {
    let here = "cd site; export HOLDFAST_TOKEN_FILE=$PWD/controller.token\n";
    site.operate(&format!("{here}{there}"))?;
    // Its new controller leaves it the port.
    site.operate("ssh root@c1 systemctl stop holdfast-controller\n")?;
    is_refused(site, "c1", "/etc/holdfast/file.toml")?;
    site.operate("ssh root@c1 systemctl start holdfast-controller\n")?;
    site.operate(&format!("{here}{back}"))?;
    is_refused(site, "c2", "/etc/holdfast/controller.toml")
}

#[test]
fn the_small_site_is_what_its_page_says_and_moves_to_three_controllers_and_back() -> Result<()> {
    let _one_at_a_time = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let page = page::read("docs/operating.md")?;
    let blocks = page::blocks(page::section(&page, SMALL_HEADING)?, "small");
    let small = page::block(&blocks, "site")?;
    let moved = [page::block(&blocks, "move")?, page::block(&blocks, "back")?];
    let mut site = bare(SMALL)?;
    // What the page takes from the README.
    let package = format!(
        "for host in c1 c2 c3 lb1 lb2 n1 n2; do\n\
         scp {PACKAGE} root@$host:/tmp/; ssh root@$host apt-get install -y /tmp/{PACKAGE}\n\
         done\n"
    );
    let said = site.operate(&format!("{package}{small}"));
    let said = said.map_err(|error| anyhow!("{error:#}\n{}", site.logs()))?;
    ensure!(said.lines().last() == Some("OK"), "{said}");
    let place = site.host(host::OPERATOR)?.place.clone();
    let password = std::fs::read_to_string(place.path("/srv/site/client.secret"))?;
    let stop = AtomicBool::new(false);
    let (told, count) = std::thread::scope(|scope| {
        let client = scope.spawn(|| counts(&place.space, password.trim(), &stop));
        let told = moves(&mut site, &moved);
        stop.store(true, Ordering::Relaxed);
        (told, client.join().unwrap_or_else(|_| Err(anyhow!("the client panicked"))))
    });
    let count = count.and_then(|count| told.map(|()| count));
    let count = count.map_err(|error| anyhow!("{error:#}\n{}", site.logs()))?;
    ensure!(count > 100, "{count} writes");
    Ok(())
}
