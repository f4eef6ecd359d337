//! Hosts: each a network namespace, and a folder that its processes see as their root.
//!
//! What is mounted there is mounted anew for each process, in a mount namespace that ends with it:
//! nothing of it is ever seen outside.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context as _, Result};
use testkit::netns::Namespace;
use testkit::process;
use testkit::torture::network;

use crate::units::Service;

/// Where the binary under test is, for processes of a host.
pub(crate) const HOLDFAST: &str = "/opt/site/holdfast";
/// What the packages would make: the users of the units.
pub(crate) const USERS: &[(&str, u32)] = &[("holdfast", 990), ("etcd", 991)];
/// Where the operator is.
pub(crate) const OPERATOR: &str = "op";
/// What names of namespaces begin with.
const STEM: &str = "hfs";
const PATH: &str = "/opt/site:/usr/sbin:/usr/bin:/sbin:/bin";
/// Programs, devices, processes and how users are changed are this machine's, all else is the
/// host's.
const ENTER: &str = "set -e
root=$1 binary=$2
shift 2
for folder in usr dev proc etc/alternatives etc/pam.d etc/security; do
    mount --rbind \"/$folder\" \"$root/$folder\"
done
mount --bind \"$binary\" \"$root/opt/site/holdfast\"
exec chroot \"$root\" \"$@\"";
/// Stands for what other machines, and systemd, would do: the test is asked, and answers.
const STAND_IN: &str = "#!/bin/bash
printf '%s\\n' \"$PWD\" \"$@\" > /tmp/asked
echo \"${0##*/}\" >&3
read -r code <&4
cat /tmp/said
exit \"$code\"
";
/// What is stood in for.
const STOOD_IN: &[&str] = &["apt-get", "scp", "ssh", "systemctl"];

/// Where a host is, and how its programs are run.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    /// As the pages call it.
    pub(crate) name: String,
    /// Its own address.
    pub(crate) address: Ipv4Addr,
    /// The name of its network namespace.
    pub(crate) space: String,
    root: PathBuf,
    binary: PathBuf,
}

impl Place {
    /// A program as the host would run it, with nothing of the test's environment. The process
    /// becomes the program.
    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.space, "unshare", "-m", "sh", "-c", ENTER, "enter"]);
        command.arg(&self.root).arg(&self.binary).args(words);
        command.env_clear().env("PATH", PATH).env("HOME", "/srv").env("LANG", "C.UTF-8");
        command
    }

    /// One of its files, seen from here.
    pub(crate) fn path(&self, inside: &str) -> PathBuf {
        self.root.join(inside.trim_start_matches('/'))
    }
}

/// A host and what runs there.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) place: Place,
    /// By the names of their units. Before the namespace, so that they end first.
    pub(crate) services: BTreeMap<String, Service>,
    space: Namespace,
}

impl Host {
    /// Cuts it off and kills all that runs there, as if the power were lost.
    pub(crate) fn crash(&mut self) -> Result<()> {
        self.space.ip(&["link", "set", "eth0", "down"])?;
        self.services.clear();
        Ok(())
    }

    /// Its network is there again; nothing runs yet.
    pub(crate) fn boot(&self) -> Result<()> {
        self.space.ip(&["link", "set", "eth0", "up"])
    }
}

/// All hosts of a site, on one wire.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) hosts: Vec<Host>,
    /// Sockets that are forwarded to other hosts.
    pub(crate) forwards: Vec<crate::shell::Forward>,
    /// What was said by the operator's commands so far.
    pub(crate) story: String,
    wire: Namespace,
    folder: Option<tempfile::TempDir>,
}

impl Site {
    /// Bare hosts with these names and addresses, and the operator's. Packets to what clients dial
    /// go to `lb1` and `lb2` in turn, as routers would have it.
    pub(crate) fn lay_out(hosts: &[(&str, [u8; 4])]) -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        network::sweep(STEM).context("remove what a killed test left")?;
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let prefix = format!("{STEM}{}-{number}", std::process::id());
        let folder = tempfile::tempdir().context("create a folder")?;
        let binary = process::holdfast()?.canonicalize().context("find the binary")?;
        let wire = Namespace::named(format!("{prefix}sw"))?;
        let mut cables = "link add wire type bridge\nlink set wire up\n".to_owned();
        let mut all = hosts.to_vec();
        all.push((OPERATOR, [10, 0, 7, 9]));
        let mut site = Self {
            hosts: Vec::new(),
            forwards: Vec::new(),
            story: String::new(),
            wire,
            folder: None,
        };
        for (name, address) in &all {
            let space = Namespace::named(format!("{prefix}{name}"))?;
            cables += &format!(
                "link add p-{name} type veth peer name eth0 netns {}\n\
                 link set p-{name} master wire\nlink set p-{name} up\n",
                space.name()
            );
            let root = folder.path().join(name);
            furnish(&root, &all).with_context(|| format!("furnish {name}"))?;
            let place = Place {
                name: (*name).to_owned(),
                address: Ipv4Addr::from(*address),
                space: space.name().to_owned(),
                root,
                binary: binary.clone(),
            };
            site.hosts.push(Host { place, services: BTreeMap::new(), space });
        }
        site.wire.ip_batch(&cables).context("join the hosts")?;
        for host in &site.hosts {
            let address = host.place.address;
            let lines = format!("address add {address}/16 dev eth0\nlink set eth0 up\n");
            host.space.ip_batch(&lines).with_context(|| host.place.name.clone())?;
        }
        let operator = &site.host(OPERATOR)?.space;
        operator.ip(&[
            "route",
            "add",
            "10.0.9.0/24",
            "nexthop",
            "via",
            "10.0.8.1",
            "nexthop",
            "via",
            "10.0.8.2",
        ])?;
        // Without it all connections of a client's host would take one of the two.
        operator.run("sysctl", &["-q", "-w", "net.ipv4.fib_multipath_hash_policy=1"])?;
        site.folder = Some(folder);
        Ok(site)
    }

    /// The position of a host.
    pub(crate) fn index(&self, name: &str) -> Result<usize> {
        let found = self.hosts.iter().position(|host| host.place.name == name);
        found.with_context(|| format!("there is no host `{name}`"))
    }

    /// A host.
    pub(crate) fn host(&self, name: &str) -> Result<&Host> {
        self.hosts.get(self.index(name)?).context("find a host")
    }

    /// The host whose address begins this text, such as `10.0.0.1:6666`.
    pub(crate) fn at(&self, address: &str) -> Result<String> {
        let ip = address.trim_start_matches("https://").split(':').next().unwrap_or_default();
        let found = self.hosts.iter().find(|host| host.place.address.to_string() == ip);
        found.map(|host| host.place.name.clone()).with_context(|| format!("whose is {address}?"))
    }

    /// The name of the namespace whose bridge joins the hosts.
    pub(crate) fn wire(&self) -> &str {
        self.wire.name()
    }

    /// Where outputs of a host's processes are written.
    pub(crate) fn log(&self, name: &str) -> Result<PathBuf> {
        let folder = self.folder.as_ref().context("the site has ended")?;
        Ok(folder.path().join(format!("{name}.log")))
    }

    /// What everybody said, the ends of it.
    pub(crate) fn logs(&self) -> String {
        let mut text = tail(&self.story, 80);
        let entries = self.folder.iter().filter_map(|folder| std::fs::read_dir(folder.path()).ok());
        for entry in entries.flatten().flatten() {
            let path = entry.path();
            if path.extension().is_some_and(|end| end == "log") {
                let said = std::fs::read(&path).unwrap_or_default();
                let said = tail(&String::from_utf8_lossy(&said), 25);
                text += &format!("\n== {}\n{said}", path.display());
            }
        }
        text
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.hosts.iter_mut().for_each(|host| host.services.clear());
        self.forwards.clear();
        // Folders of this machine are mounted below, in namespaces that have ended; were one of
        // them seen here, removing the folder would remove what is in it.
        let Some(folder) = self.folder.take() else { return };
        let here = folder.path().display().to_string();
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_else(|_| here.clone());
        if mounts.contains(&here) {
            let _ = folder.keep();
        }
    }
}

fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

/// A root with users, names, and what stands in for other machines.
fn furnish(root: &Path, hosts: &[(&str, [u8; 4])]) -> Result<()> {
    let folders = "dev etc/alternatives etc/default etc/pam.d etc/security etc/ssl opt/site proc \
                   run/n srv tmp usr var/lib var/log";
    for folder in folders.split(' ') {
        std::fs::create_dir_all(root.join(folder)).context("create a folder")?;
    }
    for name in ["bin", "lib", "lib64", "sbin"] {
        symlink(format!("usr/{name}"), root.join(name)).context("link a folder")?;
    }
    let mode = |name: &str, mode: u32| {
        std::fs::set_permissions(root.join(name), std::fs::Permissions::from_mode(mode))
    };
    mode("", 0o755)?;
    mode("tmp", 0o1777)?;
    let mut passwd = "root:x:0:0:root:/srv:/bin/bash\n".to_owned();
    let mut group = "root:x:0:\n".to_owned();
    for (name, id) in USERS {
        passwd += &format!("{name}:x:{id}:{id}::/var/lib/{name}:/usr/sbin/nologin\n");
        group += &format!("{name}:x:{id}:\n");
    }
    let names = hosts.iter().map(|(name, ip)| format!("{} {name}\n", Ipv4Addr::from(*ip)));
    let names = format!("127.0.0.1 localhost\n{}", names.collect::<String>());
    let write = |name: &str, text: &str| std::fs::write(root.join(name), text);
    write("etc/passwd", &passwd)?;
    write("etc/group", &group)?;
    write("etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files\n")?;
    write("etc/hosts", &names)?;
    let openssl = root.join("etc/ssl/openssl.cnf");
    std::fs::copy("/etc/ssl/openssl.cnf", openssl).context("copy OpenSSL's configuration")?;
    for name in STOOD_IN {
        let path = format!("opt/site/{name}");
        write(&path, STAND_IN)?;
        mode(&path, 0o755)?;
    }
    write(HOLDFAST.trim_start_matches('/'), "")?;
    Ok(())
}
