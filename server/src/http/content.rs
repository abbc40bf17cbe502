//! What is in a Data: its list, single files, and whether it is still what was registered.

use super::Slash;
use super::data::located;
use super::query::Id;
use super::range::{self, Asked};
use super::refused::{Answer, Refused};
use super::transfer::Download;
use crate::app::App;
use crate::engine::{Entry, Manifest};
use crate::store::Located;
use axum::body::{Body, Bytes};
use axum::extract::{FromRequestParts, RawQuery, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::Response;
use futures_util::StreamExt as _;
use knit_api::bundle::is_plain_path;
use knit_api::content::EntryPath;
use knit_api::endpoint::{DIGEST, LINES, MANIFEST, UNDER};
use knit_api::id::DataId;
use knit_api::problem::excerpt;

/// Where the content of a Data is, and the digest of its list.
async fn listed(app: &App, id: &DataId) -> Answer<(Located, String)> {
    let place = located(app, id).await?;
    match place.digest.clone() {
        Some(digest) => Ok((place, digest)),
        None => Err(Refused::conflict(format!(
            "Data {id} has no list of its content: its Run ended before it was complete, or it is older than such lists"
        ))
        .advice("Pull it as a whole: knit data pull -x DATA_ID")),
    }
}

/// `GET /data/{id}/manifest`; with `under`, of one folder.
pub(super) async fn manifest(State(app): State<App>, Id(id): Id<DataId>, RawQuery(query): RawQuery) -> Answer {
    let under = under(query.as_deref().unwrap_or_default())?;
    let (_, digest) = listed(&app, &id).await?;
    let doing = format!("listing Data {id}");
    if let Some(under) = &under {
        let found = app.engine.look_up(&digest, under).await.map_err(|error| Refused::by_engine(&doing, &error))?;
        if matches!(found, Entry::Absent | Entry::Beyond { .. }) {
            return Err(refusal(&id, under, &found));
        }
    }
    let listed = app.engine.manifest(&digest, under.as_deref()).await;
    let Manifest { stream, length } = listed.map_err(|error| Refused::by_engine(&doing, &error))?;
    let mut response = Response::new(Body::new(Download::new(stream, false, doing)));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(MANIFEST));
    headers.insert(HeaderName::from_static(DIGEST), ascii(&digest));
    if let Some(length) = length {
        headers.insert(header::CONTENT_LENGTH, length.into());
    }
    Ok(response)
}

/// `GET /data/{id}/files/{path}`, with `Range`.
pub(super) async fn file(State(app): State<App>, Inside { id, path }: Inside, headers: HeaderMap) -> Answer {
    let (place, digest) = listed(&app, &id).await?;
    let doing = format!("reading {} in Data {id}", shown(&path));
    let engine = |error| Refused::by_engine(&doing, &error);
    let (size, digest) = match app.engine.look_up(&digest, &path).await.map_err(engine)? {
        Entry::File { size, digest } => (size, digest),
        found => return Err(refusal(&id, &path, &found)),
    };
    let tag = format!("\"{digest}\"");
    let (status, bytes) = match range::asked(&headers, size, &tag) {
        Asked::Whole => (StatusCode::OK, 0..size),
        Asked::Part(bytes) => (StatusCode::PARTIAL_CONTENT, bytes),
        Asked::Unsatisfiable => {
            let mut response = axum::response::IntoResponse::into_response(Refused::new(
                StatusCode::RANGE_NOT_SATISFIABLE,
                format!("{} in Data {id} has {size} bytes, and none of those asked for", shown(&path)),
            ));
            response.headers_mut().insert(header::CONTENT_RANGE, ascii(&format!("bytes */{size}")));
            return Ok(response);
        }
    };
    let stream = app.engine.read(&place.volume, &path, size, bytes.clone()).await.map_err(engine)?;
    let mut response = Response::new(Body::new(Download::new(stream, false, doing.clone())));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    // Whatever it is, no browser is to execute it.
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(header::ETAG, ascii(&tag));
    headers.insert(header::CONTENT_LENGTH, (bytes.end - bytes.start).into());
    if status == StatusCode::PARTIAL_CONTENT {
        let range = format!("bytes {}-{}/{size}", bytes.start, bytes.end - 1);
        headers.insert(header::CONTENT_RANGE, ascii(&range));
    }
    Ok(response)
}

/// `POST /data/{id}/verify`: lines of JSON, see [`knit_api::content::Check`].
pub(super) async fn verify(State(app): State<App>, Id(id): Id<DataId>) -> Answer {
    let (place, digest) = listed(&app, &id).await?;
    let doing = format!("verifying Data {id}");
    let checks = app.engine.verify(&place.volume, &digest).await;
    let checks = checks.map_err(|error| Refused::by_engine(&doing, &error))?;
    let lines = checks.map(|check| {
        let mut line = serde_json::to_vec(&check?)?;
        line.push(b'\n');
        Ok(Bytes::from(line))
    });
    let mut response = Response::new(Body::new(Download::new(Box::pin(lines), false, doing)));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(LINES));
    Ok(response)
}

/// Why there is no file at a path.
fn refusal(id: &DataId, path: &[u8], found: &Entry) -> Refused {
    let at = format!("{} in Data {id}", shown(path));
    let refused = |why: String| Refused::new(StatusCode::UNPROCESSABLE_ENTITY, why);
    match found {
        Entry::File { .. } => refused(format!("{at} is a file")),
        Entry::Directory => refused(format!("{at} is a folder")).advice("List it: knit data ls DATA_ID PATH"),
        Entry::Link { target } => refused(format!("{at} is a link to {}; links are not followed", shown(target))),
        Entry::Beyond { link, target } => {
            refused(format!("{at} is beyond {}, a link to {}; links are not followed", shown(link), shown(target)))
        }
        Entry::Absent => {
            Refused::not_found(format!("there is no {at}")).advice("See what there is: knit data ls -R DATA_ID")
        }
    }
}

/// A path in a message: bounded and without control characters.
fn shown(path: &[u8]) -> String {
    format!("\"{}\"", excerpt(&EntryPath::of(path).path))
}

fn ascii(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).expect("digits and letters fit a header")
}

/// A Data and a path inside it, as a route names them. Names are bytes, which need not be text.
pub(super) struct Inside {
    id: DataId,
    path: Vec<u8>,
}

impl<S: Send + Sync> FromRequestParts<S> for Inside {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refused> {
        // `/data/ID/files/PATH`
        let mut segments = parts.uri.path().splitn(5, '/').skip(2);
        let (id, path) = (segments.next().unwrap_or_default(), segments.nth(1).unwrap_or_default());
        let Ok(id) = String::from_utf8(decoded(id, false)) else {
            return Err(Refused::new(StatusCode::NOT_FOUND, "Not Found"));
        };
        let mut path = decoded(path, false);
        if parts.extensions.get::<Slash>().is_some() {
            path.push(b'/');
        }
        Ok(Self { id: id.into(), path: checked(path)? })
    }
}

/// The value of parameter `under`; the empty path is the root, and absent.
fn under(query: &str) -> Answer<Option<Vec<u8>>> {
    let mut values = query.split('&').filter_map(|pair| pair.split_once('=')).filter(|(name, _)| *name == UNDER);
    match values.next() {
        None | Some((_, "")) => Ok(None),
        Some((_, value)) => checked(decoded(value, true)).map(Some),
    }
}

/// Refuses what can be no path inside a Data.
fn checked(path: Vec<u8>) -> Answer<Vec<u8>> {
    if is_plain_path(&path) {
        return Ok(path);
    }
    Err(Refused::bad_request(format!("{} can be no path inside a Data", shown(&path)))
        .advice("Write names with single slashes between them, without . and .. and without a slash in front."))
}

/// The bytes that a percent-encoded text stands for. A percent sign that begins nothing stands for itself.
fn decoded(text: &str, plus_is_blank: bool) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let digits = after.get(..2).filter(|_| first == b'%').and_then(|two| std::str::from_utf8(two).ok());
        let encoded = digits
            .filter(|two| two.bytes().all(|digit| digit.is_ascii_hexdigit()))
            .and_then(|two| u8::from_str_radix(two, 16).ok());
        bytes.push(encoded.unwrap_or(if first == b'+' && plus_is_blank { b' ' } else { first }));
        rest = if encoded.is_some() { &after[2..] } else { after };
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percent_signs_stand_for_any_byte() {
        for (text, bytes) in [
            ("a%20b", &b"a b"[..]),
            ("%ff%FF", b"\xff\xff"),
            ("%2F", b"/"),
            ("%", b"%"),
            ("%4", b"%4"),
            ("%zz%+1", b"%zz%+1"),
            ("%25%32%30", b"%20"),
            ("a+b", b"a+b"),
        ] {
            assert_eq!(decoded(text, false), bytes, "{text}");
        }
        assert_eq!(decoded("a+b%2B", true), b"a b+");
    }

    #[test]
    fn only_a_plain_path_is_a_path_inside_a_data() {
        for path in ["", "/", "/etc/passwd", "a//b", "a/", ".", "..", "../x", "a/../b", "a/./b", "a\0b"] {
            assert!(checked(path.into()).is_err(), "{path:?}");
        }
        for path in ["a", "a/b", "...", "-rf", "a b", "ü/\n"] {
            assert!(checked(path.into()).is_ok(), "{path:?}");
        }
    }

    #[test]
    fn a_folder_to_list_may_be_left_out() {
        assert_eq!(under("").unwrap(), None);
        assert_eq!(under("under=&x=y").unwrap(), None);
        assert_eq!(under("x=y&under=a%2Fb%ff").unwrap().as_deref(), Some(&b"a/b\xff"[..]));
        assert!(under("under=..").is_err());
    }
}
