//! Who may use the registry: whoever has the token; without one, whoever is on this machine, but no web page.
//!
//! The nodes of a cluster pull by `localhost:30503`, over plain HTTP and without a token. So an operator may let
//! images be pulled by whoever asks for them by name ([`Auth::pulled_by_all`]). Nothing else is: to list images and to
//! push them the token is needed, and it has to come through TLS or from this machine. A client that speaks plain HTTP
//! from elsewhere is not asked for the token, so that it does not send it for everyone to read.

use super::failure::{Code, Failure};
use super::route::Route;
use crate::http::guard::is_local;
use crate::http::tls::Wire;
use axum::http::{HeaderMap, Method, Uri, header};
use base64::Engine as _;
use sha2::{Digest as _, Sha256};
use std::fmt;
use std::sync::Arc;
use subtle::ConstantTimeEq as _;

/// What a request is for, as far as it decides who may make it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To find out whether a token is asked for.
    Probe,
    /// To get a piece of an image that the client knows by name.
    Pull,
    /// All else.
    Other,
}

impl Purpose {
    pub(super) fn of(route: &Route, method: &Method) -> Self {
        match route {
            Route::Version => Self::Probe,
            Route::Manifest(..) | Route::Blob(..) if matches!(*method, Method::GET | Method::HEAD) => Self::Pull,
            _ => Self::Other,
        }
    }
}

/// The token that is asked for: as the password of Basic with any user name, or as Bearer.
#[derive(Clone)]
pub struct Auth {
    /// Its hash, so that the comparison does not depend on its length either.
    token: Option<Arc<[u8; 32]>>,
    /// Whoever knows the name of an image may pull it.
    anonymous_pull: bool,
    /// Plain HTTP from elsewhere is as good as TLS: it was TLS until something in front of this process.
    trusts_plain: bool,
}

impl Auth {
    /// Asks for this token; without one, all programs of this machine are let in.
    pub fn new(token: Option<&str>) -> Self {
        let token = token.map(|token| Arc::new(Sha256::digest(token).into()));
        Self { token, anonymous_pull: false, trusts_plain: false }
    }

    /// Lets everyone pull, or not.
    #[must_use]
    pub fn pulled_by_all(self, anonymous_pull: bool) -> Self {
        Self { anonymous_pull, ..self }
    }

    /// Takes the token from elsewhere also over plain HTTP, or not.
    #[must_use]
    pub fn trusting_plain(self, trusts_plain: bool) -> Self {
        Self { trusts_plain, ..self }
    }

    pub(super) fn check(&self, purpose: Purpose, wire: Wire, headers: &HeaderMap, uri: &Uri) -> Result<(), Failure> {
        let Some(expected) = &self.token else {
            return is_local(headers, uri).map_err(|outsider| Failure::new(Code::Denied, outsider.to_string()));
        };
        if self.anonymous_pull && purpose == Purpose::Pull {
            return Ok(());
        }
        if !(wire.is_encrypted || wire.is_local || self.trusts_plain) {
            // Nodes ask this before they pull.
            if self.anonymous_pull && purpose == Purpose::Probe {
                return Ok(());
            }
            return Err(Failure::new(Code::Denied, "over plain HTTP images can only be pulled; use https"));
        }
        let offered = headers.get(header::AUTHORIZATION).and_then(|value| secret(value.as_bytes()));
        let refuse = || Failure::new(Code::Unauthorized, "the registry asks for the token of the profile");
        let offered: [u8; 32] = Sha256::digest(offered.ok_or_else(refuse)?).into();
        if bool::from(offered.ct_eq(&**expected)) { Ok(()) } else { Err(refuse()) }
    }
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.token.is_some() { "Auth(token)" } else { "Auth(none)" })
    }
}

/// What is offered as the token.
fn secret(value: &[u8]) -> Option<Vec<u8>> {
    let space = value.iter().position(|b| *b == b' ')?;
    let (scheme, rest) = (&value[..space], value[space..].trim_ascii());
    if scheme.eq_ignore_ascii_case(b"bearer") {
        return Some(rest.to_vec());
    }
    if !scheme.eq_ignore_ascii_case(b"basic") {
        return None;
    }
    let pair = base64::engine::general_purpose::STANDARD.decode(rest).ok()?;
    let colon = pair.iter().position(|b| *b == b':')?;
    Some(pair[colon + 1..].to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_token_is_let_in_whatever_the_user_name() {
        let encode = |pair: &str| format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair));
        let auth = Auth::new(Some("secret"));
        for (value, good) in [
            (Some(encode("x:secret")), true),
            (Some(encode(":secret")), true),
            (Some("Bearer secret".to_owned()), true),
            (Some("bearer  secret".to_owned()), true),
            (Some(encode("secret")), false),
            (Some(encode("secret:")), false),
            (Some(encode("x:secret2")), false),
            (Some("Bearer secre".to_owned()), false),
            (Some("Basic secret".to_owned()), false),
            (Some("secret".to_owned()), false),
            (Some(String::new()), false),
            (None, false),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(value) = &value {
                headers.insert(header::AUTHORIZATION, value.parse().unwrap());
            }
            let wire = Wire { is_encrypted: true, is_local: false };
            let checked = auth.check(Purpose::Other, wire, &headers, &Uri::from_static("/v2/"));
            assert_eq!(checked.is_ok(), good, "{value:?}");
        }
    }

    #[test]
    fn nodes_pull_without_the_token_and_nobody_is_asked_for_it_over_plain_http() {
        use Purpose::{Other, Probe, Pull};
        let tls = Wire { is_encrypted: true, is_local: false };
        let plain = Wire { is_encrypted: false, is_local: false };
        let here = Wire { is_encrypted: false, is_local: true };
        let strict = Auth::new(Some("secret"));
        let open = Auth::new(Some("secret")).pulled_by_all(true);
        let behind = Auth::new(Some("secret")).trusting_plain(true);
        for (auth, wire, purpose, without, with) in [
            (&strict, tls, Pull, 401, 200),
            (&strict, plain, Pull, 403, 403),
            (&strict, plain, Probe, 403, 403),
            (&strict, here, Other, 401, 200),
            (&open, plain, Pull, 200, 200),
            (&open, plain, Probe, 200, 200),
            (&open, plain, Other, 403, 403),
            (&open, tls, Pull, 200, 200),
            // So that whoever wants to push finds out that a token is asked for.
            (&open, tls, Probe, 401, 200),
            (&open, tls, Other, 401, 200),
            (&open, here, Probe, 401, 200),
            (&behind, plain, Other, 401, 200),
        ] {
            let mut headers = HeaderMap::new();
            let status = |headers: &HeaderMap| {
                use axum::response::IntoResponse;
                let checked = auth.check(purpose, wire, headers, &Uri::from_static("/v2/"));
                checked.map_or_else(|failure| failure.into_response().status().as_u16(), |()| 200)
            };
            assert_eq!(status(&headers), without, "{auth:?} {wire:?} {purpose:?}");
            headers.insert(header::AUTHORIZATION, "Bearer secret".parse().unwrap());
            assert_eq!(status(&headers), with, "{auth:?} {wire:?} {purpose:?} with the token");
        }
    }
}
