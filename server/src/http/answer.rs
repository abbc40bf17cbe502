//! JSON on the wire: compact, one value, one line feed; long lists leave in pieces.

use super::refused::{Answer, Refused};
use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use futures_util::stream::{self, Stream, StreamExt, TryStreamExt};
use http_body_util::BodyExt;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io;

/// Largest JSON body of a request, in bytes.
pub(super) const LARGEST_JSON: usize = 4 << 20;
/// From this size on a list leaves in pieces, in bytes.
const PIECE: usize = 64 << 10;

/// `application/json`.
pub(super) const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// One value.
pub(super) fn json<T: Serialize>(status: StatusCode, value: &T) -> Response {
    let mut text = serde_json::to_vec(value).expect("wire types have string keys and no failing parts");
    text.push(b'\n');
    with_body(status, Body::from(text))
}

/// One value, 200.
pub(super) fn ok<T: Serialize>(value: &T) -> Response {
    json(StatusCode::OK, value)
}

/// An array, 200. It is written piece by piece, so that its text never stands in memory as a whole.
pub(super) fn list<T: Serialize + Send + 'static>(items: Vec<T>) -> Response {
    let mut pieces = Pieces { items: items.into_iter(), first: true, ended: false };
    let first = pieces.next().unwrap_or_default();
    if pieces.ended {
        return with_body(StatusCode::OK, Body::from(first));
    }
    let all = std::iter::once(first).chain(pieces).map(Ok::<_, std::convert::Infallible>);
    with_body(StatusCode::OK, Body::from_stream(stream::iter(all)))
}

/// An array, 200, whose items come in parts; an error among them cuts the connection.
pub(super) fn list_in_parts<T: Serialize + Send + 'static>(
    first: Vec<T>,
    rest: impl Stream<Item = io::Result<Vec<T>>> + Send + 'static,
) -> Response {
    let mut is_first = true;
    let parts = stream::iter([Ok(first)]).chain(rest).map_ok(move |items| {
        let mut text = Vec::new();
        for item in &items {
            if !std::mem::take(&mut is_first) {
                text.push(b',');
            }
            write_item(&mut text, item);
        }
        text
    });
    let bracket = |text: &str| stream::iter([Ok(text.as_bytes().to_vec())]);
    let parts = bracket("[").chain(parts).chain(bracket("]\n"));
    with_body(StatusCode::OK, Body::from_stream(parts))
}

fn write_item<T: Serialize>(text: &mut Vec<u8>, item: &T) {
    serde_json::to_writer(text, item).expect("wire types have string keys and no failing parts");
}

fn with_body(status: StatusCode, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, JSON);
    response
}

/// The text of an array, cut between items.
struct Pieces<T> {
    items: std::vec::IntoIter<T>,
    first: bool,
    ended: bool,
}

impl<T: Serialize> Iterator for Pieces<T> {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        if self.ended {
            return None;
        }
        let mut text = Vec::new();
        if self.first {
            text.push(b'[');
        }
        while text.len() < PIECE {
            let Some(item) = self.items.next() else {
                text.extend_from_slice(b"]\n");
                self.ended = true;
                break;
            };
            if !std::mem::take(&mut self.first) {
                text.push(b',');
            }
            write_item(&mut text, &item);
        }
        Some(text.into())
    }
}

/// Reads a request's body as the wire reads JSON; 400 when it is none, 413 when it is too large.
pub(super) async fn read_json<T: DeserializeOwned>(mut body: Body) -> Answer<T> {
    let too_large =
        || Refused::new(StatusCode::PAYLOAD_TOO_LARGE, format!("the body is larger than {} MiB", LARGEST_JSON >> 20));
    let mut text = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Refused::bad_request("the body ended early"))?;
        if let Ok(data) = frame.into_data() {
            if text.len() + data.len() > LARGEST_JSON {
                return Err(too_large());
            }
            text.extend_from_slice(&data);
        }
    }
    // A sequence would be read as the members of an object in their order, which nobody means.
    if text.trim_ascii_start().first().is_some_and(|&first| first != b'{') {
        return Err(Refused::bad_request("the body is wrong: it is not a JSON object"));
    }
    knit_api::json::from_slice(&text).map_err(|error| Refused::bad_request(format!("the body is wrong: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn text_of(response: Response) -> String {
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    #[tokio::test]
    async fn a_list_has_the_same_text_whether_it_leaves_at_once_or_in_pieces() {
        assert_eq!(text_of(list(Vec::<u8>::new())).await, "[]\n");
        assert_eq!(text_of(list(vec![1, 2])).await, "[1,2]\n");
        let long: Vec<String> = (0..20_000).map(|n| format!("item {n}")).collect();
        let response = list(long.clone());
        assert!(http_body::Body::size_hint(response.body()).exact().is_none(), "long lists are streamed");
        assert_eq!(text_of(response).await, serde_json::to_string(&long).unwrap() + "\n");
    }

    #[tokio::test]
    async fn a_list_that_ends_with_a_piece_is_closed_once() {
        let item = "x".repeat(PIECE);
        let text = text_of(list(vec![item.clone()])).await;
        assert_eq!(text, format!("[\"{item}\"]\n"));
    }

    #[tokio::test]
    async fn a_list_in_parts_has_the_text_of_the_whole() {
        let parts = |parts: Vec<Vec<u8>>| text_of(list_in_parts(Vec::new(), stream::iter(parts.into_iter().map(Ok))));
        assert_eq!(parts(vec![]).await, "[]\n");
        assert_eq!(parts(vec![vec![], vec![1], vec![], vec![2, 3]]).await, "[1,2,3]\n");
        let first = text_of(list_in_parts(vec![1, 2], stream::iter([Ok(vec![3])])));
        assert_eq!(first.await, "[1,2,3]\n");
    }

    #[tokio::test]
    async fn a_body_over_the_limit_is_refused() {
        let body = Body::from(vec![b' '; LARGEST_JSON + 1]);
        let refused = read_json::<u8>(body).await.unwrap_err();
        assert!(format!("{refused:?}").contains("413"));
    }
}
