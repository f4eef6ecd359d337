//! Somebody in the middle, who listens.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;

use anyhow::Result;
use parking_lot::Mutex;

use super::certs::HERE;

/// Passes bytes on in both directions, and keeps them.
pub(crate) fn wiretap(to: SocketAddr) -> Result<(u16, Arc<Mutex<Vec<u8>>>)> {
    let listener = TcpListener::bind((HERE, 0))?;
    let port = listener.local_addr()?.port();
    let heard = Arc::new(Mutex::new(Vec::new()));
    let tape = Arc::clone(&heard);
    std::thread::spawn(move || {
        for from in listener.incoming().map_while(Result::ok) {
            // One that is away for a moment is reached by the next connection.
            let Ok(to) = TcpStream::connect(to) else { continue };
            let (Ok(from_back), Ok(to_back)) = (from.try_clone(), to.try_clone()) else {
                continue;
            };
            for (mut read, mut write) in [(from, to), (to_back, from_back)] {
                let tape = Arc::clone(&tape);
                std::thread::spawn(move || {
                    let mut chunk = [0; 16 << 10];
                    while let Ok(count @ 1..) = read.read(&mut chunk) {
                        tape.lock().extend_from_slice(&chunk[..count]);
                        if write.write_all(&chunk[..count]).is_err() {
                            break;
                        }
                    }
                    let _ = write.shutdown(std::net::Shutdown::Both);
                });
            }
        }
    });
    Ok((port, heard))
}
