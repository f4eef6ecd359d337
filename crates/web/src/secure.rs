//! How the bytes of a client are read and written over TLS that ends here.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Reads. Clients close without saying so first: what they sent is whole commands or none.
pub fn poll_read<S: AsyncRead + Unpin>(
    tls: &mut S,
    cx: &mut Context<'_>,
    to: &mut ReadBuf<'_>,
) -> Poll<io::Result<()>> {
    match Pin::new(tls).poll_read(cx, to) {
        Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
            Poll::Ready(Ok(()))
        }
        read => read,
    }
}

/// Counts bytes as written only once they have left: a caller that does not flush must not leave an
/// answer behind. One that was told to wait offers the same bytes again. In `pending` it keeps how
/// many were encrypted, and have not left as a whole: 0 at first.
pub fn poll_write<S: AsyncWrite + Unpin>(
    tls: &mut S,
    pending: &mut usize,
    cx: &mut Context<'_>,
    bytes: &[u8],
) -> Poll<io::Result<usize>> {
    if *pending == 0 {
        *pending = ready!(Pin::new(&mut *tls).poll_write(cx, bytes))?;
    }
    ready!(Pin::new(tls).poll_flush(cx))?;
    Poll::Ready(Ok(std::mem::take(pending).min(bytes.len())))
}
