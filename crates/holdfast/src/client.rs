//! A RESP client as plain as one gets: one connection, no retries, every wait bounded.
//!
//! It is what `up` asks whether slots accept writes, and what the drill measures with: an error
//! means that the connection is of no more use, and the caller decides what to do about it.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use resp::{Value, encode_command};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Largest reply that is read, unless values are asked for.
const REPLY_MAX: usize = 64 << 20;
/// Largest value that is read.
const LARGE_REPLY_MAX: usize = 1 << 30;

/// A connection to one address.
#[derive(Debug)]
pub(crate) struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
    patience: Duration,
    reply_max: usize,
}

impl Client {
    /// Connects within `patience`, which is also the limit for every later call.
    pub(crate) async fn connect(address: SocketAddr, patience: Duration) -> io::Result<Self> {
        let stream = timeout(patience, TcpStream::connect(address)).await.map_err(timed_out)??;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::with_capacity(4096), patience, reply_max: REPLY_MAX })
    }

    /// Lets it read values of any length that Redis has.
    pub(crate) fn with_large_replies(self) -> Self {
        Self { reply_max: LARGE_REPLY_MAX, ..self }
    }

    /// One command, one reply.
    pub(crate) async fn call(&mut self, arguments: &[&str]) -> io::Result<Value> {
        let mut replies = self.pipeline(&encode_command(arguments), 1).await?;
        replies.pop().ok_or_else(|| io::Error::other("no reply"))
    }

    /// Sends encoded commands in one piece and reads `count` replies.
    pub(crate) async fn pipeline(&mut self, bytes: &[u8], count: usize) -> io::Result<Vec<Value>> {
        let patience = self.patience;
        timeout(patience, self.exchange(bytes, count)).await.map_err(timed_out)?
    }

    async fn exchange(&mut self, bytes: &[u8], count: usize) -> io::Result<Vec<Value>> {
        // A reply may come, and fill the socket, before all commands are out: read and write go
        // side by side.
        let (mut reader, mut writer) = self.stream.split();
        let (buffer, max) = (&mut self.buffer, self.reply_max);
        let receive = async {
            let mut replies = Vec::with_capacity(count);
            let mut at = 0;
            while replies.len() < count {
                match Value::parse(&buffer[at..], max).map_err(io::Error::other)? {
                    Some((value, used)) => {
                        at += used;
                        replies.push(value);
                    }
                    None => {
                        buffer.drain(..at);
                        at = 0;
                        if reader.read_buf(buffer).await? == 0 {
                            return Err(io::ErrorKind::UnexpectedEof.into());
                        }
                    }
                }
            }
            buffer.drain(..at);
            Ok(replies)
        };
        let (sent, replies) = tokio::join!(writer.write_all(bytes), receive);
        sent?;
        replies
    }
}

fn timed_out(_: tokio::time::error::Elapsed) -> io::Error {
    io::ErrorKind::TimedOut.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn replies_are_read_in_order_and_a_closed_connection_is_an_error() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 28];
            stream.read_exact(&mut request).await.unwrap();
            stream.write_all(b"+PO").await.unwrap();
            stream.write_all(b"NG\r\n:7\r\n").await.unwrap();
        });
        let mut client = Client::connect(address, Duration::from_secs(5)).await.unwrap();
        let ping = encode_command(&["PING"]);
        let replies = client.pipeline(&ping.repeat(2), 2).await.unwrap();
        assert_eq!(replies, [Value::Text("PONG".into()), Value::Integer(7)]);
        server.await.unwrap();
        assert!(client.call(&["PING"]).await.is_err());
    }
}
