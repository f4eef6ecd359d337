//! The body of a request, whose end is not waited for as long as its sender likes.

use std::future::Future as _;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use http_body::{Frame, SizeHint};
use tokio::time::{Sleep, sleep};

use crate::bounded::late;

/// A body that ends in time, or with an error.
pub(crate) struct Timed {
    body: Body,
    limit: Pin<Box<Sleep>>,
}

impl Timed {
    /// The time begins now.
    pub(crate) fn new(body: Body, limit: Duration) -> Self {
        Self { body, limit: Box::pin(sleep(limit)) }
    }
}

impl HttpBody for Timed {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        if frame.is_ready() {
            return frame;
        }
        self.limit.as_mut().poll(cx).map(|()| {
            let error = late("the body of a request was not sent in time");
            Some(Err(axum::Error::new(error)))
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use axum::body::to_bytes;

    use super::*;

    /// One that has a first part, and no second.
    struct Half(Option<Bytes>);

    impl HttpBody for Half {
        type Data = Bytes;
        type Error = axum::Error;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
            match self.0.take() {
                Some(bytes) => Poll::Ready(Some(Ok(Frame::data(bytes)))),
                None => Poll::Pending,
            }
        }
    }

    #[tokio::test]
    async fn a_body_that_does_not_end_is_an_error_once_its_time_is_over() {
        const LIMIT: Duration = Duration::from_millis(50);
        let began = tokio::time::Instant::now();
        let half = Body::new(Half(Some(Bytes::from_static(b"{"))));
        let reading = to_bytes(Body::new(Timed::new(half, LIMIT)), 1 << 20);
        let read = tokio::time::timeout(LIMIT * 400, reading).await.expect("it is waited for");
        assert!(read.is_err() && began.elapsed() >= LIMIT);
        let whole = to_bytes(Body::new(Timed::new(Body::from("{}"), LIMIT)), 1 << 20).await;
        assert_eq!(whole.unwrap(), "{}");
    }
}
