//! The profile: how a client reaches a server. The same body stands in the `knitprofile` that an
//! administrator hands out and, by name, in the user's profile store.

use crate::server::Registry;
use base64::Engine as _;
use serde::{Deserialize, Serialize};
use std::fmt;

/// How to reach one server.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profile {
    /// Absolute URL that ends in `/api`.
    #[serde(rename = "apiRoot")]
    pub api_root: String,
    /// Trust.
    #[serde(default)]
    pub cert: Cert,
    /// Sent as Bearer to the API and as the password of Basic to the registry; clients of the original ignore it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// The image registry beside the API.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registry: Option<Registry>,
}

/// Whom to trust.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cert {
    /// Base64 of a PEM certificate; when given, only it is trusted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
}

impl fmt::Debug for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Profile")
            .field("api_root", &self.api_root)
            .field("cert", &self.cert)
            .field("token", &self.token.as_ref().map(|_| "…"))
            .field("registry", &self.registry)
            .finish()
    }
}

/// What is wrong with a profile.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProfileError {
    /// `apiRoot` is no absolute http(s) URL.
    #[error("apiRoot \"{0}\" is not an absolute http:// or https:// URL")]
    ApiRoot(String),
    /// `cert.ca` is not base64 of PEM.
    #[error("cert.ca is not the base64 form of a PEM certificate")]
    Ca,
    /// The token could not stand in a header.
    #[error("the token holds characters that cannot be sent")]
    Token,
}

impl Profile {
    /// The API's root as a URL without a trailing slash, after checking the whole profile.
    pub fn check(&self) -> Result<url::Url, ProfileError> {
        let wrong = || ProfileError::ApiRoot(self.api_root.clone());
        let url = url::Url::parse(self.api_root.trim_end_matches('/')).map_err(|_| wrong())?;
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
            return Err(wrong());
        }
        self.ca_pem()?;
        if self.token.as_ref().is_some_and(|t| t.is_empty() || !t.bytes().all(|b| b.is_ascii_graphic())) {
            return Err(ProfileError::Token);
        }
        Ok(url)
    }

    /// The PEM text of the certificate to trust, if one is given.
    pub fn ca_pem(&self) -> Result<Option<Vec<u8>>, ProfileError> {
        let Some(ca) = self.cert.ca.as_deref().filter(|ca| !ca.is_empty()) else { return Ok(None) };
        let compact: String = ca.split_whitespace().collect();
        let pem = base64::engine::general_purpose::STANDARD.decode(compact).map_err(|_| ProfileError::Ca)?;
        if pem.windows(11).any(|w| w == b"-----BEGIN ") { Ok(Some(pem)) } else { Err(ProfileError::Ca) }
    }
}
