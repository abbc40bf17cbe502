//! Who may ask. With a token, whoever knows it. Without one, whoever is on this machine, but no web
//! page that a browser on this machine happens to show: such a page can send requests to loopback
//! addresses, under a name of its own (DNS rebinding) or across origins.

use super::refused::{Answer, Refused};
use crate::app::App;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::net::IpAddr;

/// Lets a request pass, or answers 401 or 403.
pub(super) async fn guard(State(app): State<App>, request: Request, next: Next) -> Response {
    let admitted = match &app.settings.token {
        Some(token) => knows(request.headers(), token),
        None => is_local(request.headers(), request.uri()).map_err(Refused::from),
    };
    match admitted {
        Ok(()) => next.run(request).await,
        Err(refused) => refused.into_response(),
    }
}

fn knows(headers: &HeaderMap, token: &str) -> Answer<()> {
    let given = given_token(headers);
    if given.is_some_and(|given| is_same(given, token)) {
        return Ok(());
    }
    let reason = if given.is_some() { "the token is wrong" } else { "this server asks for a token" };
    Err(Refused::new(StatusCode::UNAUTHORIZED, reason)
        .advice("Use a profile of this server: its token stands in the knitprofile that `knitctl up` wrote."))
}

/// The bearer token that a request has.
pub(crate) fn given_token(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(bearer)
}

/// Whether two tokens are one.
pub(crate) fn is_same(given: &str, token: &str) -> bool {
    // Digests compare in constant time, and so hide the token's length as well.
    blake3::hash(given.as_bytes()) == blake3::hash(token.as_bytes())
}

fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// Why a server without a token does not answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Outsider {
    /// It was asked under a name that is not this machine's.
    #[error("this server has no token and answers only to localhost, not to \"{0}\"")]
    Name(String),
    /// A web page of somewhere else asked.
    #[error("this server has no token and refuses requests of web pages")]
    Page,
}

impl From<Outsider> for Refused {
    fn from(outsider: Outsider) -> Self {
        let refused = Self::new(StatusCode::FORBIDDEN, outsider.to_string());
        match outsider {
            Outsider::Name(_) => {
                refused.advice("Ask http://127.0.0.1 or http://localhost, or run the server with a token.")
            }
            Outsider::Page => refused,
        }
    }
}

/// Whether a request comes from this machine and from no web page: what a port without a token asks for.
pub(crate) fn is_local(headers: &HeaderMap, uri: &Uri) -> Result<(), Outsider> {
    let named = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let named = named.or_else(|| uri.authority().map(axum::http::uri::Authority::as_str)).unwrap_or_default();
    if !is_loopback(named) {
        return Err(Outsider::Name(named.to_owned()));
    }
    match headers.get(header::ORIGIN) {
        Some(origin) if !is_same_origin(origin.to_str().unwrap_or_default(), named) => Err(Outsider::Page),
        _ => Ok(()),
    }
}

/// True for `localhost` and loopback addresses, with or without a port.
fn is_loopback(named: &str) -> bool {
    let Ok(authority) = named.parse::<axum::http::uri::Authority>() else { return false };
    if authority.as_str().contains('@') {
        return false;
    }
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn is_same_origin(origin: &str, named: &str) -> bool {
    origin.strip_prefix("http://").is_some_and(|rest| rest.eq_ignore_ascii_case(named))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_machine_are_loopback() {
        for name in ["localhost", "LOCALHOST:30803", "127.0.0.1:1", "127.1.2.3", "[::1]:8080", "[::1]"] {
            assert!(is_loopback(name), "{name}");
        }
        for name in ["", "example.org", "localhost.example.org", "10.0.0.1:80", "user@localhost", "[::2]", "a b"] {
            assert!(!is_loopback(name), "{name}");
        }
    }

    #[test]
    fn an_origin_is_the_same_only_with_its_port() {
        assert!(is_same_origin("http://localhost:1", "localhost:1"));
        for other in ["http://localhost", "https://localhost:1", "null", "http://evil.example", ""] {
            assert!(!is_same_origin(other, "localhost:1"), "{other}");
        }
    }

    #[test]
    fn the_token_is_asked_for_as_bearer() {
        let with = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, value.parse().unwrap());
            knows(&headers, "secret").is_ok()
        };
        assert!(with("Bearer secret") && with("bearer secret"));
        assert!(!with("Bearer Secret") && !with("Basic secret") && !with("Bearer") && !with("secret"));
        assert!(knows(&HeaderMap::new(), "secret").is_err());
    }
}
