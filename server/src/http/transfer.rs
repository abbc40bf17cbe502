//! How folders travel over HTTP: which form is meant, and the MD5 trailer of the original's form,
//! checked on the way in and made on the way out.

use crate::engine::{ByteStream, Form};
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use futures_util::{Stream, TryStreamExt as _};
use http_body::Frame;
use knit_api::endpoint::{BUNDLE, BUNDLE_ZSTD, CHECKSUM_MD5, TAR_GZ};
use md5::{Digest, Md5};
use prometheus_client::metrics::counter::Counter;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::sync::oneshot;

/// `x-checksum-md5`.
pub(super) const CHECKSUM: HeaderName = HeaderName::from_static(CHECKSUM_MD5);

/// The form of a request's body: ours when it says so, else the original's, whatever it says.
pub(super) fn form_of_body(headers: &HeaderMap) -> Form {
    let named = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    form_named(essence(named)).unwrap_or(Form::TarGz)
}

/// The form that a client wants: ours when it asks for it, else the original's.
pub(super) fn form_wanted(headers: &HeaderMap) -> Form {
    let ranges = headers.get_all(header::ACCEPT).into_iter().filter_map(|value| value.to_str().ok());
    let mut best = (Form::TarGz, 0.0);
    for range in ranges.flat_map(|value| value.split(',')) {
        let weight = weight(range);
        if let Some(form) = form_named(essence(range)).filter(|_| weight > best.1) {
            best = (form, weight);
        }
    }
    best.0
}

/// The media type of a form.
pub(super) fn media_type(form: Form) -> HeaderValue {
    HeaderValue::from_static(match form {
        Form::Bundle => BUNDLE,
        Form::BundleZstd => BUNDLE_ZSTD,
        Form::TarGz => TAR_GZ,
    })
}

/// Whether the client can take trailers; without that word none are sent.
pub(super) fn takes_trailers(headers: &HeaderMap) -> bool {
    let values = headers.get_all(header::TE).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|token| token.trim().eq_ignore_ascii_case("trailers"))
}

fn essence(media: &str) -> &str {
    media.split(';').next().unwrap_or_default().trim()
}

fn weight(range: &str) -> f32 {
    let parameters = range.split(';').skip(1);
    let weight = parameters.filter_map(|p| p.trim().strip_prefix("q=")).find_map(|q| q.parse().ok());
    weight.unwrap_or(1.0)
}

fn form_named(media: &str) -> Option<Form> {
    [(BUNDLE, Form::Bundle), (BUNDLE_ZSTD, Form::BundleZstd), (TAR_GZ, Form::TarGz)]
        .into_iter()
        .find_map(|(name, form)| media.eq_ignore_ascii_case(name).then_some(form))
}

/// The same bytes, counted as they pass.
pub(super) fn counted(stream: ByteStream, bytes: Counter) -> ByteStream {
    Box::pin(stream.inspect_ok(move |piece| {
        bytes.inc_by(piece.len() as u64);
    }))
}

/// A request's body on its way to the engine.
pub(super) struct Upload {
    body: Body,
    /// Running sum; only the original's form carries one.
    sum: Option<Md5>,
    /// The sum that the client sent after the body.
    told: Option<String>,
    over: bool,
    /// What is wrong with the body itself, whatever the engine makes of it.
    fault: Option<String>,
}

impl Upload {
    /// A body of this form.
    pub(super) fn new(body: Body, form: Form) -> Self {
        let sum = (form == Form::TarGz).then(Md5::new);
        Self { body, sum, told: None, over: false, fault: None }
    }

    /// Lends the body out as a stream of bytes; it comes back when the stream is dropped.
    pub(super) fn lend(self) -> (ByteStream, oneshot::Receiver<Self>) {
        let (back, returned) = oneshot::channel();
        (Box::pin(Lent { upload: Some(self), back: Some(back) }), returned)
    }

    /// Reads what is left, so that the trailer is seen, and says what is wrong, if anything.
    pub(super) async fn verdict(mut self) -> Result<(), String> {
        while let Some(piece) = std::future::poll_fn(|cx| self.poll(cx)).await {
            if piece.is_err() {
                break;
            }
        }
        self.fault.map_or(Ok(()), Err)
    }

    /// What was found wrong so far.
    pub(super) fn fault(&self) -> Option<&str> {
        self.fault.as_deref()
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        use http_body::Body as _;
        loop {
            if self.over {
                return Poll::Ready(None);
            }
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => {
                        if let Some(sum) = &mut self.sum {
                            sum.update(&data);
                        }
                        return Poll::Ready(Some(Ok(data)));
                    }
                    Err(frame) => self.note_trailers(frame),
                },
                Some(Err(_)) => {
                    return self.fail(io::ErrorKind::UnexpectedEof, "the body ended before it was complete");
                }
                None => {
                    self.over = true;
                    if let Some(wrong) = self.wrong_sum() {
                        return self.fail(io::ErrorKind::InvalidData, &wrong);
                    }
                }
            }
        }
    }

    fn note_trailers(&mut self, frame: Frame<Bytes>) {
        let told = frame.into_trailers().ok().and_then(|trailers| trailers.get(CHECKSUM).cloned());
        if let Some(told) = told {
            self.told = Some(String::from_utf8_lossy(told.as_bytes()).trim().to_owned());
        }
    }

    fn wrong_sum(&mut self) -> Option<String> {
        let (sum, told) = self.sum.take().zip(self.told.take())?;
        let found = hex::encode(sum.finalize());
        (!told.is_empty() && !told.eq_ignore_ascii_case(&found))
            .then(|| format!("the body has the MD5 {found}, but its trailer {CHECKSUM} says {told}"))
    }

    fn fail(&mut self, kind: io::ErrorKind, why: &str) -> Poll<Option<io::Result<Bytes>>> {
        self.over = true;
        self.fault = Some(why.to_owned());
        Poll::Ready(Some(Err(io::Error::new(kind, why.to_owned()))))
    }
}

struct Lent {
    upload: Option<Upload>,
    back: Option<oneshot::Sender<Upload>>,
}

impl Stream for Lent {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match &mut self.upload {
            Some(upload) => upload.poll(cx),
            None => Poll::Ready(None),
        }
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let (Some(upload), Some(back)) = (self.upload.take(), self.back.take()) {
            // The handler may be gone with its client; then nobody needs the rest.
            let _ = back.send(upload);
        }
    }
}

/// Bytes of the engine on their way to a client. When the engine fails in mid-stream, the
/// connection is cut: an orderly end would make half a folder look whole.
pub(super) struct Download {
    stream: ByteStream,
    /// Sum to send as the trailer, if one is wanted.
    sum: Option<Md5>,
    /// What is sent, for the log.
    what: String,
}

impl Download {
    /// Sends `stream`; with `trailer`, its MD5 follows.
    pub(super) fn new(stream: ByteStream, trailer: bool, what: String) -> Self {
        Self { stream, sum: trailer.then(Md5::new), what }
    }
}

impl http_body::Body for Download {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match ready!(self.stream.as_mut().poll_next(cx)) {
            Some(Ok(data)) => {
                if let Some(sum) = &mut self.sum {
                    sum.update(&data);
                }
                Poll::Ready(Some(Ok(Frame::data(data))))
            }
            Some(Err(error)) => {
                tracing::error!(%error, what = self.what, "sending broke off");
                Poll::Ready(Some(Err(error)))
            }
            None => Poll::Ready(self.sum.take().map(|sum| {
                let sum = HeaderValue::from_str(&hex::encode(sum.finalize())).expect("hex digits fit a header");
                Ok(Frame::trailers(HeaderMap::from_iter([(CHECKSUM, sum)])))
            })),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::StreamExt;

    fn headers(name: HeaderName, value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_static(value))])
    }

    #[test]
    fn the_form_of_a_body_is_ours_only_when_it_says_so() {
        for (value, form) in [
            ("application/vnd.knit.bundle", Form::Bundle),
            ("Application/Vnd.Knit.Bundle+zstd; v=1", Form::BundleZstd),
            ("application/tar+gzip", Form::TarGz),
            ("text/plain", Form::TarGz),
        ] {
            assert_eq!(form_of_body(&headers(header::CONTENT_TYPE, value)), form, "{value}");
        }
        assert_eq!(form_of_body(&HeaderMap::new()), Form::TarGz);
    }

    #[test]
    fn the_form_wanted_is_the_heaviest_that_is_known() {
        for (value, form) in [
            ("*/*", Form::TarGz),
            ("application/vnd.knit.bundle+zstd, application/vnd.knit.bundle;q=0.5", Form::BundleZstd),
            ("application/vnd.knit.bundle+zstd;q=0, application/vnd.knit.bundle;q=0.5", Form::Bundle),
            ("application/tar+gzip, application/vnd.knit.bundle;q=0.9", Form::TarGz),
            ("", Form::TarGz),
        ] {
            assert_eq!(form_wanted(&headers(header::ACCEPT, value)), form, "{value}");
        }
    }

    fn with_trailer(sum: &'static str) -> Upload {
        let frames = [
            Ok::<_, io::Error>(Frame::data(Bytes::from_static(b"hello"))),
            Ok(Frame::trailers(headers(CHECKSUM, sum))),
        ];
        let body = Body::new(http_body_util::StreamBody::new(futures_util::stream::iter(frames)));
        Upload::new(body, Form::TarGz)
    }

    #[tokio::test]
    async fn a_wrong_sum_ends_the_stream_with_an_error_and_a_right_one_or_none_does_not() {
        for (sum, right) in [
            ("5d41402abc4b2a76b9719d911017c592", true),
            ("5D41402ABC4B2A76B9719D911017C592", true),
            ("", true),
            ("00000000000000000000000000000000", false),
        ] {
            let (stream, returned) = with_trailer(sum).lend();
            let pieces: Vec<_> = stream.collect().await;
            assert_eq!(pieces.last().unwrap().is_ok(), right, "{sum}");
            assert_eq!(returned.await.unwrap().verdict().await.is_ok(), right, "{sum}");
        }
    }

    #[tokio::test]
    async fn a_reader_that_stops_early_does_not_escape_the_sum() {
        let (mut stream, returned) = with_trailer("00000000000000000000000000000000").lend();
        assert!(stream.next().await.unwrap().is_ok());
        drop(stream);
        assert!(returned.await.unwrap().verdict().await.is_err());
    }
}
