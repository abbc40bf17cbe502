//! What a door and its callers know each other by: a certificate of the door's own, which its callers pin, and a
//! token, which it asks for. Both stand in one Secret, mounted only where the door's process can read it.

use crate::clock;
use crate::engine::EngineError;
use k8s_openapi::api::core::v1::Secret;
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use std::collections::BTreeMap;
use std::fmt;

/// The certificate, in PEM.
pub(super) const CERTIFICATE: &str = "tls.crt";
/// Its key, in PEM.
pub(super) const KEY: &str = "tls.key";
/// The token.
pub(super) const TOKEN: &str = "token";

/// The one name that every door's certificate is for: callers know doors by the certificate itself.
pub(super) const DOOR_NAME: &str = "door.knit.internal";

/// Both, as whoever makes a door has them.
#[derive(Clone)]
pub(super) struct Credentials {
    certificate: String,
    key: String,
    token: String,
}

/// What a caller of a door needs.
#[derive(Clone)]
pub(super) struct Pass {
    pub(super) certificate: CertificateDer<'static>,
    pub(super) token: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").finish_non_exhaustive()
    }
}

impl fmt::Debug for Pass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pass").finish_non_exhaustive()
    }
}

impl Credentials {
    /// New ones, for the door of the Pod or Job of this name.
    pub(super) fn generate(name: &str) -> Result<Self, EngineError> {
        let failed = |cause: rcgen::Error| EngineError::Failed {
            what: format!("making a certificate for {name}"),
            cause: cause.to_string(),
        };
        let key = KeyPair::generate().map_err(failed)?;
        let certificate = CertificateParams::new([DOOR_NAME.to_owned()]).and_then(|params| params.self_signed(&key));
        // Two random ids: 244 bits from the system.
        let token = format!("{}{}", clock::new_id(), clock::new_id());
        Ok(Self { certificate: certificate.map_err(failed)?.pem(), key: key.serialize_pem(), token })
    }

    /// What the Secret holds, and the door finds as files.
    pub(super) fn to_secret_data(&self) -> BTreeMap<String, Vec<u8>> {
        [(CERTIFICATE, &self.certificate), (KEY, &self.key), (TOKEN, &self.token)]
            .into_iter()
            .map(|(name, text)| (name.to_owned(), text.clone().into_bytes()))
            .collect()
    }

    /// What a caller needs of them.
    pub(super) fn pass(&self) -> Result<Pass, EngineError> {
        Pass::read(self.certificate.as_bytes(), self.token.as_bytes())
            .map_err(|cause| EngineError::Failed { what: "reading a certificate of our own".to_owned(), cause })
    }
}

impl Pass {
    /// What a caller needs, from the Secret that the door has.
    pub(super) fn from_secret(secret: &Secret) -> Result<Self, EngineError> {
        let part = |name: &str| secret.data.as_ref().and_then(|data| data.get(name)).map(|bytes| bytes.0.as_slice());
        let read = part(CERTIFICATE).zip(part(TOKEN)).ok_or_else(|| format!("it lacks {CERTIFICATE} or {TOKEN}"));
        read.and_then(|(certificate, token)| Self::read(certificate, token)).map_err(|cause| EngineError::Failed {
            what: format!("reading Secret {}", secret.metadata.name.as_deref().unwrap_or_default()),
            cause,
        })
    }

    fn read(certificate: &[u8], token: &[u8]) -> Result<Self, String> {
        let certificate =
            CertificateDer::from_pem_slice(certificate).map_err(|error| format!("{CERTIFICATE}: {error}"))?;
        let token = String::from_utf8(token.to_vec()).ok().filter(|token| !token.is_empty());
        Ok(Self { certificate, token: token.ok_or_else(|| format!("{TOKEN} is no text"))? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::ByteString;

    fn secret(data: BTreeMap<String, Vec<u8>>) -> Secret {
        let data = data.into_iter().map(|(name, bytes)| (name, ByteString(bytes))).collect();
        Secret { data: Some(data), ..Secret::default() }
    }

    #[test]
    fn credentials_survive_a_secret() {
        let made = Credentials::generate("agent").unwrap();
        let (ours, theirs) = (made.pass().unwrap(), Pass::from_secret(&secret(made.to_secret_data())).unwrap());
        assert_eq!((ours.certificate, ours.token), (theirs.certificate, theirs.token));
    }

    #[test]
    fn no_two_doors_have_the_same() {
        let (a, b) = (Credentials::generate("a").unwrap(), Credentials::generate("a").unwrap());
        assert_ne!(a.token, b.token);
        assert_ne!(a.key, b.key);
        assert_ne!(a.certificate, b.certificate);
    }

    #[test]
    fn a_secret_that_lacks_something_is_refused() {
        let whole = Credentials::generate("agent").unwrap().to_secret_data();
        for (name, instead) in [
            (CERTIFICATE, None),
            (TOKEN, None),
            (CERTIFICATE, Some("none")),
            (TOKEN, Some("")),
            (TOKEN, Some("\u{fffd}")),
        ] {
            let mut data = whole.clone();
            data.remove(name);
            let expected = instead == Some("\u{fffd}");
            if let Some(instead) = instead {
                data.insert(name.to_owned(), instead.as_bytes().to_vec());
            }
            assert_eq!(Pass::from_secret(&secret(data)).is_ok(), expected, "{name} {instead:?}");
        }
    }

    #[test]
    fn secrets_are_never_shown() {
        let made = Credentials::generate("agent").unwrap();
        let shown = format!("{made:?} {:?}", made.pass().unwrap());
        assert!(!shown.contains(&made.token) && !shown.contains("PRIVATE"), "{shown}");
    }
}
