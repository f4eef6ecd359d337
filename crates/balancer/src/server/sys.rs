//! Socket options that the standard library, tokio and `socket2` do not have, and the sockets made
//! with them. The only unsafe code of this crate.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::io::unix::AsyncFd;
use tokio::net::TcpSocket;

/// Connections the kernel holds for a frontend until they are accepted.
const BACKLOG: i32 = 4096;

/// A peer that vanished without a word is noticed after about 60 s + 3 × 10 s.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_PROBES: u32 = 3;

/// A listening socket that further processes may share.
pub(super) fn listen(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Waits for connections without tying them to the runtime that accepts, as tokio's own listener
/// would.
#[allow(unsafe_code)]
pub(super) fn watch(listener: std::net::TcpListener) -> io::Result<AsyncFd<std::net::TcpListener>> {
    // SAFETY: a `TcpListener` owns its descriptor, and always returns the same one, for as long as
    // it lives.
    unsafe { Ok(AsyncFd::register(listener)?) }
}

/// A socket towards a backend, bound to `source` where one is given.
pub(super) fn dialler(target: SocketAddr, source: Option<IpAddr>) -> io::Result<TcpSocket> {
    let socket = if target.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if let Some(ip) = source {
        if ip.is_ipv4() != target.is_ipv4() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("bind_source {ip} is of another family than {target}"),
            ));
        }
        // Without this the kernel picks a port at bind that no other connection of the address may
        // use: about 28,000 in all.
        bind_address_no_port(&socket)?;
        // Not in the system's number: that an address is not here is no want of ports.
        let told = |error: io::Error| {
            io::Error::new(error.kind(), format!("bind_source {ip} cannot be used: {error}"))
        };
        socket.bind(SocketAddr::new(ip, 0)).map_err(told)?;
    }
    Ok(socket)
}

/// What every session's two sockets get.
pub(super) fn tune(socket: &impl std::os::fd::AsFd) -> io::Result<()> {
    let socket = SockRef::from(socket);
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(
        &TcpKeepalive::new()
            .with_time(KEEPALIVE_IDLE)
            .with_interval(KEEPALIVE_INTERVAL)
            .with_retries(KEEPALIVE_PROBES),
    )
}

/// Makes the coming close a reset: unsent bytes are dropped and the peer gets RST at once.
pub(super) fn reset_on_close(socket: &impl std::os::fd::AsFd) {
    // The option cannot fail on an open TCP socket; if it did, the close would still end the
    // session, only with FIN.
    let _ = SockRef::from(socket).set_linger(Some(Duration::ZERO));
}

#[allow(unsafe_code)]
fn bind_address_no_port(socket: &impl AsRawFd) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the descriptor is open for the borrow's time, and the pointer and length describe a
    // live c_int, which the kernel only reads.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_IP,
            libc::IP_BIND_ADDRESS_NO_PORT,
            (&raw const on).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_is_not_here_is_no_want_of_ports() {
        let target = "127.0.0.1:6666".parse().unwrap();
        // Of a range for documents.
        let error = dialler(target, Some("192.0.2.1".parse().unwrap())).unwrap_err();
        assert!(!limits::is_limit_of_dialling(&error), "{error:?}");
        assert!(error.to_string().starts_with("bind_source 192.0.2.1 "), "{error}");
        assert!(dialler(target, Some("127.0.0.2".parse().unwrap())).is_ok());
    }
}
