//! Reads every frame that crosses a wire: a namespace whose bridge joins hosts. Needs root.

use std::io::{Error, ErrorKind};
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

use crate::netns;

/// Above any frame: those of one host may be of many segments, cut up by nobody.
const FRAME_BYTES: usize = 256 << 10;
/// What may wait for a reader that gets no processor for a while.
const BUFFER_BYTES: libc::c_int = 128 << 20;
/// How often the reader looks whether it is to end.
const LOOK: Duration = Duration::from_millis(50);

/// What crossed a wire, in its order.
pub type Frames = Vec<Box<[u8]>>;

/// A reader of a wire, until it is dropped.
#[derive(Debug)]
pub struct Tap {
    is_over: Arc<AtomicBool>,
    reader: Option<JoinHandle<Result<Frames>>>,
}

impl Tap {
    /// Begins to read what arrives at any device of that namespace, each frame once.
    ///
    /// # Errors
    /// Without root.
    pub fn open(space: &str) -> Result<Self> {
        let socket = netns::inside(space, listen)?;
        let is_over = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&is_over);
        let reader = Some(std::thread::spawn(move || read(&socket, &told)));
        Ok(Self { is_over, reader })
    }

    /// All frames until now.
    ///
    /// # Errors
    /// If the kernel had to throw one away.
    pub fn close(mut self) -> Result<Frames> {
        self.is_over.store(true, Ordering::Relaxed);
        let reader = self.reader.take().context("a reader")?;
        reader.join().unwrap_or_else(|_| bail!("the reader of a wire panicked"))
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
    }
}

/// A socket of whole frames. std has none; what it does with datagrams it does with them too.
#[expect(unsafe_code, reason = "std opens no such socket, and sets no such option")]
fn listen() -> Result<UdpSocket> {
    let all = u16::try_from(libc::ETH_P_ALL).context("a protocol")?.to_be();
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
    // SAFETY: socket takes three integers and touches no memory.
    let number = unsafe { libc::socket(libc::AF_PACKET, kind, libc::c_int::from(all)) };
    if number < 0 {
        return Err(Error::last_os_error()).context("listen to a wire (this test needs root)");
    }
    // SAFETY: the descriptor was made just now, and nobody else has it.
    let socket = UdpSocket::from(unsafe { OwnedFd::from_raw_fd(number) });
    let bytes = libc::socklen_t::try_from(size_of::<libc::c_int>()).context("a size")?;
    for (level, option, value) in [
        // What arrives at one port of the bridge leaves by another.
        (libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, 1),
        (libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, BUFFER_BYTES),
    ] {
        let at = (&raw const value).cast();
        // SAFETY: the pointer is to a whole integer of ours, which the call only reads.
        if unsafe { libc::setsockopt(number, level, option, at, bytes) } != 0 {
            return Err(Error::last_os_error()).context("set an option of a socket of frames");
        }
    }
    socket.set_read_timeout(Some(LOOK)).context("bound a read")?;
    Ok(socket)
}

fn read(socket: &UdpSocket, is_over: &AtomicBool) -> Result<Frames> {
    let mut frames = Vec::new();
    let mut buffer = vec![0; FRAME_BYTES];
    let mut is_last = false;
    loop {
        match socket.recv(&mut buffer) {
            Ok(length) => {
                ensure!(length < FRAME_BYTES, "a frame was cut");
                frames.push(Box::from(&buffer[..length]));
            }
            Err(error) if is_last && error.kind() == ErrorKind::WouldBlock => break,
            Err(error)
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(error) => return Err(error).context("read from a wire"),
        }
        if !is_last && is_over.load(Ordering::Relaxed) {
            // What waits in the socket came before, and is read yet.
            socket.set_nonblocking(true).context("read what is left")?;
            is_last = true;
        }
    }
    let dropped = dropped(socket)?;
    ensure!(dropped == 0, "{dropped} frames beside {} were not seen", frames.len());
    Ok(frames)
}

/// Frames for which the socket had no room.
#[expect(unsafe_code, reason = "std asks for no such option")]
fn dropped(socket: &UdpSocket) -> Result<libc::c_uint> {
    let mut told = libc::tpacket_stats { tp_packets: 0, tp_drops: 0 };
    let mut bytes = libc::socklen_t::try_from(size_of_val(&told)).context("a size")?;
    let (level, option) = (libc::SOL_PACKET, libc::PACKET_STATISTICS);
    let at = (&raw mut told).cast();
    // SAFETY: both pointers are to whole values of ours; the second says how large the first is.
    let done = unsafe { libc::getsockopt(socket.as_raw_fd(), level, option, at, &raw mut bytes) };
    if done != 0 {
        return Err(Error::last_os_error()).context("ask for frames that were not seen");
    }
    Ok(told.tp_drops)
}

/// A segment of TCP over IPv4.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment<'f> {
    /// The sender's end of the connection.
    pub from: SocketAddrV4,
    /// The other end.
    pub to: SocketAddrV4,
    /// What it carries; nothing, if it only acknowledges.
    pub payload: &'f [u8],
}

impl<'f> Segment<'f> {
    /// `None` for frames of another kind.
    pub fn read(frame: &'f [u8]) -> Option<Self> {
        let packet = frame.get(14..)?;
        if frame.get(12..14)? != [0x08, 0x00] || *packet.get(9)? != 6 {
            return None;
        }
        let segment = packet.get(usize::from(packet.first()? & 0x0f) * 4..)?;
        let address = |at: usize| -> Option<Ipv4Addr> {
            let bytes: [u8; 4] = packet.get(at..at + 4)?.try_into().ok()?;
            Some(bytes.into())
        };
        let port = |at: usize| -> Option<u16> {
            Some(u16::from_be_bytes(segment.get(at..at + 2)?.try_into().ok()?))
        };
        Some(Self {
            from: SocketAddrV4::new(address(12)?, port(0)?),
            to: SocketAddrV4::new(address(16)?, port(2)?),
            payload: segment.get(usize::from(segment.get(12)? >> 4) * 4..)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ethernet, IPv4 with an option, TCP with one, three bytes.
    fn frame() -> Vec<u8> {
        let mut frame = vec![2; 12];
        frame.extend([0x08, 0x00]);
        frame.extend([0x46, 0, 0, 51, 0, 0, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 7, 2]);
        frame.extend([1, 1, 1, 1]);
        frame
            .extend([0x1a, 0x0a, 0x9c, 0x40, 0, 0, 0, 1, 0, 0, 0, 2, 0x60, 0x18, 1, 0, 0, 0, 0, 0]);
        frame.extend([1, 1, 1, 1]);
        frame.extend(b"abc");
        frame
    }

    #[test]
    fn a_segment_is_read_whatever_options_its_heads_have() {
        let frame = frame();
        let segment = Segment::read(&frame).unwrap();
        assert_eq!(segment.from, "10.0.0.1:6666".parse().unwrap());
        assert_eq!(segment.to, "10.0.7.2:40000".parse().unwrap());
        assert_eq!(segment.payload, b"abc");
    }

    #[test]
    fn what_is_none_is_not_taken_for_one() {
        let whole = frame();
        for length in 0..whole.len() - 3 {
            assert_eq!(Segment::read(&whole[..length]), None, "{length}");
        }
        let (mut ipv6, mut udp) = (whole.clone(), whole);
        ipv6[12..14].copy_from_slice(&[0x86, 0xdd]);
        udp[14 + 9] = 17;
        assert_eq!(Segment::read(&ipv6), None);
        assert_eq!(Segment::read(&udp), None);
    }
}
