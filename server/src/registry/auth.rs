//! Who may use the registry: whoever has the token; without one, whoever is on this machine, but no web page.

use super::failure::{Code, Failure};
use crate::http::guard::is_local;
use axum::http::{HeaderMap, Uri, header};
use base64::Engine as _;
use sha2::{Digest as _, Sha256};
use std::fmt;
use std::sync::Arc;
use subtle::ConstantTimeEq as _;

/// The token that is asked for: as the password of Basic with any user name, or as Bearer.
#[derive(Clone)]
pub struct Auth {
    /// Its hash, so that the comparison does not depend on its length either.
    token: Option<Arc<[u8; 32]>>,
}

impl Auth {
    /// Asks for this token; without one, all programs of this machine are let in.
    pub fn new(token: Option<&str>) -> Self {
        Self { token: token.map(|token| Arc::new(Sha256::digest(token).into())) }
    }

    pub(super) fn check(&self, headers: &HeaderMap, uri: &Uri) -> Result<(), Failure> {
        let Some(expected) = &self.token else {
            return is_local(headers, uri).map_err(|outsider| Failure::new(Code::Denied, outsider.to_string()));
        };
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
            assert_eq!(auth.check(&headers, &Uri::from_static("/v2/")).is_ok(), good, "{value:?}");
        }
    }
}
