//! The network of a run: a namespace per host, joined by bridges, and the ways to cut it.
//!
//! Two networks. `back` joins the controller, the nodes and the load balancers; `front` joins the
//! load balancers and the clients, who have routes to the announced address only: two next hops,
//! one per instance (ECMP, hashed by port). Packets are dropped where they arrive (nftables) or
//! refused where they are sent (blackhole routes); both work in one direction, so that a cut can be
//! one-way. The kernel needs neither conntrack nor netem for it.

use std::collections::HashMap;
use std::net::Ipv4Addr;

use anyhow::{Context as _, Result};

use crate::netns::Namespace;

/// What clients connect to; both instances own it.
pub const ANNOUNCED: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 1);

/// Where a host is.
#[derive(Debug)]
pub struct Place {
    /// Short and unique: `n0`, `lb1`, `ctl`.
    pub name: String,
    /// In the back network.
    pub address: Ipv4Addr,
    /// Its namespace.
    pub space: Namespace,
}

/// All namespaces of a run; removed with it.
#[derive(Debug)]
pub struct Network {
    /// Controller, nodes and load balancers.
    pub places: Vec<Place>,
    /// Where clients are.
    pub clients: Namespace,
    /// How many cuts stand between two places: `(from, to)`.
    drops: HashMap<(usize, usize), u32>,
    holes: HashMap<(usize, usize), u32>,
    _switch: Namespace,
}

/// A host to be, and whether it is a load balancer.
#[derive(Debug, Clone)]
pub struct Wish {
    /// Short and unique.
    pub name: String,
    /// Also in the front network, with the announced address.
    pub is_balancer: bool,
}

impl Network {
    /// Builds it, with one load balancer at least; `prefix` begins the names of all namespaces.
    pub fn create(prefix: &str, wishes: &[Wish]) -> Result<Self> {
        let switch = Namespace::named(format!("{prefix}-sw"))?;
        let clients = Namespace::named(format!("{prefix}-cli"))?;
        let mut cables = "link add back type bridge\nlink set back up\n\
                          link add front type bridge\nlink set front up\n"
            .to_owned();
        let cable = |cables: &mut String, port: &str, bridge: &str, space: &Namespace| {
            let there = space.name();
            *cables += &format!(
                "link add {port} type veth peer name {bridge} netns {there}\n\
                 link set {port} master {bridge}\nlink set {port} up\n"
            );
        };
        cable(&mut cables, "fc", "front", &clients);
        let mut places = Vec::new();
        let mut hops = String::new();
        for (number, wish) in (1_u8..).zip(wishes) {
            let space = Namespace::named(format!("{prefix}-{}", wish.name))?;
            cable(&mut cables, &format!("b{number}"), "back", &space);
            if wish.is_balancer {
                cable(&mut cables, &format!("f{number}"), "front", &space);
                hops += &format!(" nexthop via 10.82.0.{number}");
            }
            let address = Ipv4Addr::new(10, 81, 0, number);
            places.push(Place { name: wish.name.clone(), address, space });
        }
        switch.ip_batch(&cables).context("join the hosts")?;
        for (number, (place, wish)) in (1_u8..).zip(places.iter().zip(wishes)) {
            set_up(place, number, wish.is_balancer).with_context(|| place.name.clone())?;
        }
        clients.ip_batch(&format!(
            "address add 10.82.0.250/24 dev front\nlink set front up\nroute add {ANNOUNCED}/32{hops}\n"
        ))?;
        // Without it all connections of a client's host would take one of the two.
        clients.run("sysctl", &["-q", "-w", "net.ipv4.fib_multipath_hash_policy=1"])?;
        let (drops, holes) = (HashMap::new(), HashMap::new());
        Ok(Self { places, clients, drops, holes, _switch: switch })
    }

    /// Packets of one place do not reach the other any more. Cuts add up: each needs its
    /// [`Self::join`].
    pub fn cut(&mut self, from: usize, to: usize, blackhole: bool) -> Result<()> {
        let cuts = if blackhole { &mut self.holes } else { &mut self.drops };
        let count = cuts.entry((from, to)).or_default();
        *count += 1;
        if *count > 1 { Ok(()) } else { self.apply(from, to, blackhole, true) }
    }

    /// Takes one cut back.
    pub fn join(&mut self, from: usize, to: usize, blackhole: bool) -> Result<()> {
        let cuts = if blackhole { &mut self.holes } else { &mut self.drops };
        let Some(count) = cuts.get_mut(&(from, to)) else { return Ok(()) };
        *count -= 1;
        if *count > 0 {
            return Ok(());
        }
        cuts.remove(&(from, to));
        self.apply(from, to, blackhole, false)
    }

    /// Takes every cut back.
    pub fn join_all(&mut self) -> Result<()> {
        let drops: Vec<_> = self.drops.drain().map(|(pair, _)| (pair, false)).collect();
        let holes: Vec<_> = self.holes.drain().map(|(pair, _)| (pair, true)).collect();
        for ((from, to), blackhole) in drops.into_iter().chain(holes) {
            self.apply(from, to, blackhole, false)?;
        }
        Ok(())
    }

    /// The interface of a place.
    pub fn set_link(&self, place: usize, is_up: bool) -> Result<()> {
        let state = if is_up { "up" } else { "down" };
        self.place(place)?.space.ip(&["link", "set", "back", state])
    }

    fn apply(&self, from: usize, to: usize, blackhole: bool, is_cut: bool) -> Result<()> {
        let (from, to) = (self.place(from)?, self.place(to)?);
        if blackhole {
            let verb = if is_cut { "add" } else { "del" };
            let route = format!("{}/32", to.address);
            return from.space.ip(&["route", verb, "blackhole", &route]);
        }
        let verb = if is_cut { "add" } else { "delete" };
        let rule = format!("{verb} element inet torture unheard {{ {} }}\n", from.address);
        to.space.feed("nft", &["-f", "-"], &rule)
    }

    fn place(&self, index: usize) -> Result<&Place> {
        self.places.get(index).context("find a place")
    }
}

fn set_up(place: &Place, number: u8, is_balancer: bool) -> Result<()> {
    let mut lines =
        format!("link set lo up\naddress add {}/24 dev back\nlink set back up\n", place.address);
    if is_balancer {
        lines += &format!(
            "address add {ANNOUNCED}/32 dev lo\naddress add 10.82.0.{number}/24 dev front\n\
             link set front up\n"
        );
    }
    place.space.ip_batch(&lines)?;
    place.space.feed(
        "nft",
        &["-f", "-"],
        "table inet torture {\n set unheard { type ipv4_addr; }\n chain in {\n \
         type filter hook input priority 0;\n ip saddr @unheard drop\n }\n}\n",
    )
}

/// Removes what a harness left that was killed itself: namespaces that begin with `stem`, a process
/// id and a dash, where no process has that id; and the processes within them.
pub fn sweep(stem: &str) -> Result<()> {
    let listed = std::process::Command::new("ip").args(["netns", "list"]).output()?;
    let text = String::from_utf8_lossy(&listed.stdout).into_owned();
    let owner =
        |name: &str| -> Option<u32> { name.strip_prefix(stem)?.split_once('-')?.0.parse().ok() };
    for name in text.lines().filter_map(|line| line.split_whitespace().next()) {
        if owner(name).is_none_or(crate::process::is_alive) {
            continue;
        }
        let pids = std::process::Command::new("ip").args(["netns", "pids", name]).output()?;
        for pid in String::from_utf8_lossy(&pids.stdout).lines() {
            if let Ok(pid) = pid.trim().parse() {
                // It may have ended since.
                let _ = crate::process::signal(pid, libc::SIGKILL);
            }
        }
        let _ = std::process::Command::new("ip").args(["netns", "delete", name]).output();
    }
    Ok(())
}

/// Unmounts what such a harness left mounted: file systems of this name, below folders that end
/// with the process id.
pub fn sweep_disks(source: &str) -> Result<()> {
    let mounts = std::fs::read_to_string("/proc/self/mounts").context("read the mounts")?;
    let places = mounts.lines().filter_map(|line| {
        let (name, rest) = line.split_once(' ')?;
        // Those that can be frozen are known by their folder alone.
        let is_ours = name == source || (name.starts_with("/dev/loop") && rest.contains("/seed-"));
        is_ours.then(|| rest.split(' ').next())?
    });
    for place in places {
        let folder = std::path::Path::new(place).parent().and_then(|folder| folder.file_name());
        let owner = folder.and_then(|name| name.to_str()?.rsplit_once('-')?.1.parse().ok());
        if owner.is_some_and(|pid: u32| !crate::process::is_alive(pid)) {
            crate::disk::unmount(std::path::Path::new(place));
        }
    }
    Ok(())
}
