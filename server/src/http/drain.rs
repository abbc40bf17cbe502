//! When a request is refused before its body was read, a client that is still sending would lose the
//! answer to a connection reset. So what a handler leaves unread is read on, for a while, into nothing.

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

/// What is read into nothing at most, in bytes: more than the buffers of both sides hold.
const MOST: usize = 64 << 20;
/// How long at most.
const LONGEST: Duration = Duration::from_secs(10);

/// Gives the request a body that drains itself when it is dropped unread.
pub(super) async fn drain_unread(request: Request, next: Next) -> Response {
    let waits = request.headers().contains_key(axum::http::header::EXPECT);
    next.run(request.map(|body| Body::new(Drained { body, over: false, untouched: waits }))).await
}

struct Drained {
    body: Body,
    /// Nothing is left to read.
    over: bool,
    /// The client waits for a sign to send its body and has not had one: there is nothing to drain.
    untouched: bool,
}

impl http_body::Body for Drained {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        self.untouched = false;
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        self.over |= matches!(polled, Poll::Ready(None | Some(Err(_))));
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.over || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Drained {
    fn drop(&mut self) {
        if self.over || self.untouched || self.body.is_end_stream() {
            return;
        }
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let body = std::mem::take(&mut self.body);
            runtime.spawn(tokio::time::timeout(LONGEST, drain(body)));
        }
    }
}

async fn drain(mut body: Body) {
    let mut seen = 0;
    while let Some(Ok(frame)) = body.frame().await {
        seen += frame.data_ref().map_or(0, Bytes::len);
        if seen > MOST {
            return;
        }
    }
}
