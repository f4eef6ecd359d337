//! The network of the fault harness does what faults rely on. Needs root, and fails where it may
//! not make namespaces.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::json;
use testkit::netns;
use testkit::process::{Process, START_PATIENCE};
use testkit::torture::etcd::{self, Etcd};
use testkit::torture::http::{Caller, Door, apart};
use testkit::torture::network::{ANNOUNCED, Network, Place, Wish};
use testkit::torture::rest::{self, Control};
use testkit::wait;

const PORT: u16 = 7000;
const PATIENCE: Duration = Duration::from_secs(10);
const SOON: Duration = Duration::from_millis(200);

fn network(hosts: &[(&str, bool)]) -> Result<Network> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let wishes: Vec<Wish> = hosts
        .iter()
        .map(|(name, is_balancer)| Wish { name: (*name).to_owned(), is_balancer: *is_balancer })
        .collect();
    Network::create(&format!("hft{}-t{number}", std::process::id()), &wishes)
}

/// A socket in each place; sockets stay in the namespace they were made in.
fn sockets(network: &Network) -> Result<Vec<UdpSocket>> {
    let socket = |place: &Place| {
        netns::inside(place.space.name(), || {
            let socket = UdpSocket::bind((place.address, PORT)).context("bind")?;
            socket.set_read_timeout(Some(SOON)).context("set a limit")?;
            Ok(socket)
        })
    };
    network.places.iter().map(socket).collect()
}

/// Whether a packet arrives; several are sent, because the first ones may wait for an address to be
/// found.
fn hears(from: &UdpSocket, to: &UdpSocket) -> bool {
    let Ok(address) = to.local_addr() else { return false };
    let mut buffer = [0; 8];
    to.set_nonblocking(true).and_then(|()| loop_empty(to)).expect("empty a socket");
    to.set_nonblocking(false).expect("wait on a socket");
    (0..5).any(|_| from.send_to(b"x", address).is_ok() && to.recv_from(&mut buffer).is_ok())
}

fn loop_empty(socket: &UdpSocket) -> std::io::Result<()> {
    let mut buffer = [0; 8];
    while socket.recv_from(&mut buffer).is_ok() {}
    Ok(())
}

#[test]
fn a_cut_is_one_way_adds_up_and_can_be_taken_back() -> Result<()> {
    let mut network = network(&[("a", false), ("b", false), ("lb", true)])?;
    let sockets = sockets(&network)?;
    let (a, b) = (&sockets[0], &sockets[1]);
    ensure!(hears(a, b) && hears(b, a), "nothing is cut yet");
    for blackhole in [false, true] {
        network.cut(0, 1, blackhole)?;
        network.cut(0, 1, blackhole)?;
        ensure!(!hears(a, b), "cut, and heard (blackhole: {blackhole})");
        ensure!(hears(b, a), "the other way was not cut (blackhole: {blackhole})");
        network.join(0, 1, blackhole)?;
        ensure!(!hears(a, b), "there were two cuts (blackhole: {blackhole})");
        network.join(0, 1, blackhole)?;
        ensure!(hears(a, b), "joined again (blackhole: {blackhole})");
    }
    network.set_link(0, false)?;
    ensure!(!hears(a, b) && !hears(b, a), "the interface is down");
    network.set_link(0, true)?;
    wait::until("the interface is up again", PATIENCE, || {
        if hears(a, b) && hears(b, a) { Ok(()) } else { Err("nothing heard") }
    })
}

#[test]
fn clients_reach_nothing_but_the_announced_address_and_there_both_instances() -> Result<()> {
    let network = network(&[("n", false), ("lb0", true), ("lb1", true)])?;
    let listen = |place: usize, address: Ipv4Addr| {
        netns::inside(network.places[place].space.name(), || {
            TcpListener::bind((address, PORT)).context("listen")
        })
    };
    let node = network.places[0].address;
    let _node = listen(0, node)?;
    let balancers = [listen(1, ANNOUNCED)?, listen(2, ANNOUNCED)?];
    let clients = network.clients.name();
    let reach = |address: Ipv4Addr| {
        netns::inside(clients, || {
            let address = SocketAddr::new(address.into(), PORT);
            Ok(TcpStream::connect_timeout(&address, PATIENCE)?)
        })
    };
    ensure!(reach(node).is_err(), "a client reaches a node");
    let links: Vec<TcpStream> = (0..40).map(|_| reach(ANNOUNCED)).collect::<Result<_>>()?;
    for listener in &balancers {
        listener.set_nonblocking(true).context("look without waiting")?;
        let count = std::iter::from_fn(|| listener.accept().ok()).count();
        ensure!(count > 4, "one of the instances got {count} of {} connections", links.len());
    }
    Ok(())
}

fn door(place: &Place, port: u16) -> Door {
    let (name, space) = (place.name.clone(), place.space.name().to_owned());
    Door { name, space, address: format!("{}:{port}", place.address), token: None }
}

/// Answers every request in the same way, for as long as it is kept.
struct Server {
    door: Door,
    /// How many requests it has answered.
    asked: Arc<AtomicU32>,
}

impl Server {
    fn start(place: &Place, port: u16, status: u16, body: &str) -> Result<Self> {
        let listener = netns::inside(place.space.name(), || {
            TcpListener::bind((place.address, port)).context("listen")
        })?;
        listener.set_nonblocking(true).context("accept without waiting")?;
        let answer = format!(
            "HTTP/1.1 {status} told\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        );
        let asked = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&asked);
        std::thread::spawn(move || {
            while Arc::strong_count(&count) > 1 {
                match listener.accept() {
                    Ok((stream, _)) => {
                        if serve(stream, &answer).is_ok() {
                            count.fetch_add(1, Ordering::SeqCst);
                        }
                    }
                    Err(_) => wait::pause(Duration::from_millis(2)),
                }
            }
        });
        Ok(Self { door: door(place, port), asked })
    }

    fn asked(&self) -> u32 {
        self.asked.load(Ordering::SeqCst)
    }
}

/// Reads a request to its end, and answers.
fn serve(mut stream: TcpStream, answer: &str) -> std::io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let (mut request, mut buffer) = (Vec::new(), [0; 4096]);
    while !is_whole(&request) {
        match stream.read(&mut buffer)? {
            0 => break,
            count => request.extend_from_slice(&buffer[..count]),
        }
    }
    stream.write_all(answer.as_bytes())
}

fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request).to_lowercase();
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = |line: &str| line.strip_prefix("content-length:")?.trim().parse::<usize>().ok();
    let length = head.lines().find_map(length);
    body.len() >= length.unwrap_or(0)
}

/// Counts are as soon as a request is answered, which its client may know a little earlier.
fn await_counts(servers: [&Server; 3], counts: [u32; 3]) -> Result<()> {
    wait::until("servers to have answered", PATIENCE, || {
        let now = servers.map(Server::asked);
        if now == counts { Ok(()) } else { Err(now) }
    })
}

#[test]
fn controllers_are_asked_in_turn_and_what_may_be_done_already_is_asked_once() -> Result<()> {
    let network = network(&[("a", false), ("b", false), ("c", false), ("lb", true)])?;
    let [a, b, c, ..] = network.places.as_slice() else { bail!("there are four places") };
    let told = |place: &Place, message: &str| {
        let body = json!({ "error": { "message": message } }).to_string();
        Server::start(place, PORT, 503, &body)
    };
    let nobody = told(a, "no controller leads at the moment: ask again")?;
    let unknown = told(b, "the one that leads does not answer; whether it was done is not known")?;
    let leads = Server::start(c, PORT, 200, r#"{"data":{"term":1}}"#)?;
    let servers = [&nobody, &unknown, &leads];
    let control = || Control::new(servers.map(|server| server.door.clone()).to_vec(), None);

    let asked = control();
    for again in 1..=2 {
        // The one that answered is asked first the next time.
        let told = asked.once(PATIENCE, |client| client.get("/x"))?;
        ensure!(told["term"] == 1, "{told}");
        await_counts(servers, [1, 1, again])?;
    }
    let made = control().once(PATIENCE, |client| client.post("/x", &json!({})));
    let error = format!("{:#}", made.expect_err("nobody knows whether it was done"));
    ensure!(error.contains("is not known"), "{error}");
    await_counts(servers, [2, 2, 2])
}

#[test]
fn a_status_of_a_controller_that_leads_no_more_does_not_count() -> Result<()> {
    let network = network(&[("a", false), ("b", false), ("c", false), ("lb", true)])?;
    let [a, b, c, ..] = network.places.as_slice() else { bail!("there are four places") };
    let leads = Server::start(a, PORT, 200, r#"{"data":{"term":1}}"#)?;
    // {"term":1} and {"term":2}
    let still = Server::start(b, etcd::PORT, 200, r#"{"kvs":[{"value":"eyJ0ZXJtIjoxfQ=="}]}"#)?;
    let no_more = Server::start(c, etcd::PORT, 200, r#"{"kvs":[{"value":"eyJ0ZXJtIjoyfQ=="}]}"#)?;
    let status = |controllers: &[&Server], etcd: &Server| {
        let etcd = Etcd::new(vec![etcd.door.clone()]);
        let doors = controllers.iter().map(|one| one.door.clone()).collect();
        Control::new(doors, Some(etcd)).once(PATIENCE, rest::Client::status)
    };
    let told = status(&[&leads], &still)?;
    ensure!(told["term"] == 1, "{told}");
    let error = format!("{:#}", status(&[&leads], &no_more).expect_err("another one leads"));
    ensure!(error.contains("term 2"), "{error}");
    // It goes on to answer: the next one is asked.
    let next = Server::start(b, PORT, 200, r#"{"data":{"term":2}}"#)?;
    let told = status(&[&leads, &next], &no_more)?;
    ensure!(told["term"] == 2, "{told}");
    Ok(())
}

#[test]
fn an_etcd_is_used_up_and_has_room_again() -> Result<()> {
    let network = network(&[("a", false), ("b", false), ("c", false), ("lb", true)])?;
    let folder = tempfile::tempdir().context("create a folder")?;
    let places: Vec<&Place> = network.places.iter().take(3).collect();
    let addresses: Vec<Ipv4Addr> = places.iter().map(|place| place.address).collect();
    let mut members = Vec::new();
    for (number, place) in places.iter().enumerate() {
        let dir = folder.path().join(&place.name);
        std::fs::create_dir(&dir).context("create a folder")?;
        let mut command = place.space.command("etcd");
        command.args(etcd::arguments((number, addresses.as_slice()), &dir, true));
        command.env("NO_PROXY", "*").env("no_proxy", "*");
        members.push(Process::start_command(command, &dir.with_extension("log"))?);
    }
    let doors = places.iter().map(|place| door(place, etcd::PORT)).collect();
    let etcd = Etcd::new(doors);
    let done = apart(|| {
        let caller = Caller::new(START_PATIENCE)?;
        wait::until("etcd answers", START_PATIENCE, || etcd.answers(&caller))?;
        ensure!(etcd.claim(&caller)?.is_none(), "nobody has claimed anything");
        let (ids, leads) = (etcd.ids(&caller)?, etcd.raft(&caller)?);
        ensure!(ids.len() == 3 && ids.contains(&leads), "{leads} of {ids:?}");
        for _ in 0..2 {
            let count = etcd.use_up(&caller)?;
            ensure!(count > 8, "full after {count} MiB");
            ensure!(etcd.use_up(&caller)? == 0, "a full one takes more");
            wait::until("etcd has room", START_PATIENCE, || etcd.make_room(&caller))?;
        }
        Ok(())
    });
    let logs = || members.iter().map(Process::log).collect::<Vec<_>>().join("\n--\n");
    done.with_context(logs)
}

/// `scripts/without` takes a rule out of a copy of the source by each of them.
#[test]
fn each_rule_can_be_taken_out_of_the_source_as_it_is() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut count = 0;
    for entry in std::fs::read_dir(root.join("tests/without")).context("look for patches")? {
        let patch = entry.context("look for patches")?.path();
        let mut command = Command::new("git");
        command.args(["apply", "--check"]).arg(&patch).current_dir(&root);
        let output = command.output().context("run git")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{}: {said}", patch.display());
        count += 1;
    }
    ensure!(count > 3, "{count} patches");
    Ok(())
}
