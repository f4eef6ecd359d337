//! The network of the fault harness does what faults rely on. Needs root, and fails where it may not make namespaces.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use testkit::netns;
use testkit::torture::network::{ANNOUNCED, Network, Wish};
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
    let socket = |place: &testkit::torture::network::Place| {
        netns::inside(place.space.name(), || {
            let socket = UdpSocket::bind((place.address, PORT)).context("bind")?;
            socket.set_read_timeout(Some(SOON)).context("set a limit")?;
            Ok(socket)
        })
    };
    network.places.iter().map(socket).collect()
}

/// Whether a packet arrives; several are sent, because the first ones may wait for an address to be found.
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
