//! Where connections come in: TCP ports and the socket file.
//!
//! A connection of the socket file is a stream like any other once it is accepted: it is read and
//! written by the same calls. What it lacks is an address; it has [`FILE_PEER`] instead.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

/// Stands for the address of a client of the socket file: this host, and a port that no TCP
/// connection has.
pub const FILE_PEER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Bytes of the path of a socket file, at most: Linux' `sun_path` without the zero behind it.
pub const FILE_PATH_MAX: usize = 107;

/// Whether this stands for the socket file.
pub fn is_file(address: &SocketAddr) -> bool {
    *address == FILE_PEER
}

/// One of them, not yet served by a runtime.
#[derive(Debug)]
pub enum Listener {
    /// A port.
    Tcp(TcpListener),
    /// A port where only TLS is spoken.
    Tls(TcpListener),
    /// The socket file. Its name comes first, and so goes first: while this process listens, no
    /// other one can have made a file of that name.
    File(FileName, UnixListener),
}

/// The name of a socket file in its folder, which is removed when this ends.
#[derive(Debug)]
pub struct FileName(PathBuf);

impl Drop for FileName {
    fn drop(&mut self) {
        // It may have been removed by hand.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// The address that a word of `bind` stands for; names of hosts are not looked up. A hyphen before
/// it, with which Redis allows an address to be missing, does not count.
pub fn address(word: &str) -> Option<IpAddr> {
    match word {
        "localhost" => Some(IpAddr::from([127, 0, 0, 1])),
        "*" => Some(IpAddr::from([0, 0, 0, 0])),
        other => other.trim_start_matches('-').parse().ok(),
    }
}

/// The options that say where to listen, for errors.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// The one with the address.
    pub bind: &'static str,
    /// The one with the port.
    pub port: &'static str,
}

/// Binds every address of `bind` on `port`. One that cannot be had is an error that names address
/// and remedy.
pub fn listen(
    bind: &[String],
    port: u16,
    backlog: u32,
    options: Options,
) -> anyhow::Result<Vec<TcpListener>> {
    let mut listeners = Vec::new();
    for host in bind {
        let ip = address(host);
        let ip =
            ip.with_context(|| format!("option `{}`: `{host}` is no IP address", options.bind))?;
        let address = SocketAddr::new(ip, port);
        let listener = listen_on(address, backlog).map_err(|error| {
            let remedy = remedy(error.kind(), options);
            anyhow::Error::new(error).context(format!("listen on {address}: {remedy}"))
        })?;
        listeners.push(listener);
    }
    Ok(listeners)
}

fn remedy(kind: ErrorKind, Options { bind, port }: Options) -> String {
    match kind {
        ErrorKind::AddrInUse => format!("another process has that port: choose another `{port}`"),
        ErrorKind::AddrNotAvailable => {
            format!("no interface of this host has that address: see `{bind}`")
        }
        ErrorKind::PermissionDenied => {
            format!("this user may not have that port: choose a `{port}` of 1024 or more")
        }
        _ => format!("see `{bind}` and `{port}`"),
    }
}

fn listen_on(address: SocketAddr, backlog: u32) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(length(backlog))?;
    Ok(socket.into())
}

fn length(backlog: u32) -> i32 {
    i32::try_from(backlog).unwrap_or(i32::MAX).max(1)
}

/// Listens on a socket file with these permissions. One that a process left behind is replaced.
///
/// # Errors
/// Another process listens there, something else has the name, or the folder is not ours to write.
pub fn listen_on_file(path: &Path, mode: u32, backlog: u32) -> anyhow::Result<Listener> {
    make_way(path).with_context(|| format!("option `unixsocket`: {}", path.display()))?;
    let bound = || -> io::Result<UnixListener> {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        socket.bind(&SockAddr::unix(path)?)?;
        // Nobody can connect before the file is as it should be.
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
        socket.listen(length(backlog))?;
        Ok(OwnedFd::from(socket).into())
    };
    let listener = bound().with_context(|| {
        format!(
            "option `unixsocket`: listen on {}: the folder must exist and be writable",
            path.display()
        )
    })?;
    Ok(Listener::File(FileName(path.to_owned()), listener))
}

fn make_way(path: &Path) -> anyhow::Result<()> {
    let found = match std::fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).context("look for it"),
    };
    ensure!(found.file_type().is_socket(), "it exists and is no socket: choose another name");
    ensure!(
        UnixStream::connect(path).is_err(),
        "another process listens there: stop it or choose another name"
    );
    std::fs::remove_file(path).context("remove what a former process left")
}

impl Listener {
    /// A second handle of the same listener.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn accepting(&self) -> io::Result<Accepting> {
        match self {
            Self::Tcp(listener) | Self::Tls(listener) => listener.try_clone().map(Accepting::Tcp),
            Self::File(_, listener) => listener.try_clone().map(Accepting::File),
        }
    }

    /// Gives it to the runtime.
    ///
    /// # Errors
    /// The runtime cannot watch it.
    pub fn serve(self) -> io::Result<Serving> {
        match self {
            Self::Tcp(listener) | Self::Tls(listener) => {
                tokio::net::TcpListener::from_std(listener).map(Serving::Tcp)
            }
            Self::File(name, listener) => {
                tokio::net::UnixListener::from_std(listener).map(|it| Serving::File(name, it))
            }
        }
    }
}

/// Accepts without a runtime.
#[derive(Debug)]
pub enum Accepting {
    /// A port.
    Tcp(TcpListener),
    /// The socket file.
    File(UnixListener),
}

impl Accepting {
    /// A connection that waits; `WouldBlock` if there is none.
    ///
    /// # Errors
    /// Those of accept(2).
    pub fn accept(&self) -> io::Result<TcpStream> {
        match self {
            Self::Tcp(listener) => listener.accept().map(|(stream, _)| stream),
            Self::File(listener) => listener.accept().map(|(stream, _)| as_stream(stream)),
        }
    }
}

/// Accepts in a runtime.
#[derive(Debug)]
pub enum Serving {
    /// A port.
    Tcp(tokio::net::TcpListener),
    /// The socket file, as in [`Listener`].
    File(FileName, tokio::net::UnixListener),
}

impl Serving {
    /// The next connection, and its peer.
    ///
    /// # Errors
    /// Those of accept(2).
    pub async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                Ok((stream.into_std()?, peer))
            }
            Self::File(_, listener) => {
                let (stream, _) = listener.accept().await?;
                Ok((as_stream(stream.into_std()?), FILE_PEER))
            }
        }
    }
}

/// The same socket under the type that connections have: reading, writing and closing are the same
/// calls for both kinds. Options of TCP and addresses are refused by the kernel, and callers do
/// without them.
fn as_stream(stream: UnixStream) -> TcpStream {
    OwnedFd::from(stream).into()
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

    use super::*;

    #[test]
    fn an_address_that_cannot_be_had_is_told_with_the_option_to_change() {
        let options = Options { bind: "admin-bind", port: "admin-port" };
        let taken = listen(&["127.0.0.1".to_owned()], 0, 8, options).unwrap();
        let port = taken[0].local_addr().unwrap().port();
        let error = listen(&["127.0.0.1".to_owned()], port, 8, options).unwrap_err();
        let told = format!("{error:#}");
        assert!(told.contains("another process has that port: choose another `admin-port`"));
        assert!(told.contains(&port.to_string()), "{told}");
        let told = remedy(ErrorKind::AddrNotAvailable, options);
        assert!(told.contains("no interface of this host") && told.contains("`admin-bind`"));
        let told = remedy(ErrorKind::PermissionDenied, options);
        assert!(told.contains("1024"), "{told}");
    }

    #[test]
    fn a_socket_file_is_private_replaced_when_it_is_stale_and_removed_at_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        // What a killed process leaves behind.
        drop(UnixListener::bind(&path).unwrap());
        let listener = listen_on_file(&path, 0o700, 8).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        let mut client = UnixStream::connect(&path).unwrap();
        let mut served = listener.accepting().unwrap().accept().unwrap();
        served.write_all(b"hello").unwrap();
        drop(served);
        let mut text = String::new();
        client.read_to_string(&mut text).unwrap();
        assert_eq!(text, "hello");
        let error = format!("{:#}", listen_on_file(&path, 0o700, 8).unwrap_err());
        assert!(error.contains("another process listens there"), "{error}");
        drop(listener);
        assert!(!path.exists());
        std::fs::write(&path, "a text").unwrap();
        let error = format!("{:#}", listen_on_file(&path, 0o700, 8).unwrap_err());
        assert!(error.contains("is no socket"), "{error}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "a text");
        let error = format!("{:#}", listen_on_file(&path.join("x"), 0o700, 8).unwrap_err());
        assert!(error.contains("unixsocket"), "{error}");
    }
}
