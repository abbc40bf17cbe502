//! TLS on a port: what it is spoken with, and how a connection begins.
//!
//! A certificate is replaced by replacing its files, as tools that renew certificates do, and Kubernetes with what a
//! Pod mounts: each new connection looks whether they changed. Files that cannot be used change nothing; that is
//! logged once.

use crate::settings::TlsFiles;
use anyhow::{Context, bail};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use tokio_rustls::TlsAcceptor;

/// How a connection with TLS begins, in its first byte: a record of the handshake. No request of HTTP begins so.
pub(super) const HANDSHAKE_RECORD: u8 = 0x16;

/// What is spoken on a port.
#[derive(Clone, Debug)]
pub enum Speaks {
    /// HTTP alone.
    Plain,
    /// TLS alone; HTTP is told so.
    Tls(Arc<Tls>),
    /// Whichever of them the client begins with.
    Either(Arc<Tls>),
}

/// How a request came: an extension of each one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wire {
    /// Through TLS.
    pub is_encrypted: bool,
    /// From this machine.
    pub is_local: bool,
}

/// A certificate and its key, as they stand in their files.
#[derive(Debug)]
pub struct Tls {
    files: TlsFiles,
    current: Mutex<Loaded>,
}

#[derive(Debug)]
struct Loaded {
    /// Which files were looked at last, usable or not.
    seen: Option<[Stamp; 2]>,
    config: Arc<ServerConfig>,
}

/// What tells that a file is another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

impl From<Metadata> for Stamp {
    fn from(file: Metadata) -> Self {
        Self { inode: file.ino(), size: file.size(), modified: (file.mtime(), file.mtime_nsec()) }
    }
}

impl Tls {
    /// Reads certificate and key.
    pub fn open(files: TlsFiles) -> anyhow::Result<Self> {
        let seen = stamps(&files);
        let config = read(&files)?;
        Ok(Self { files, current: Mutex::new(Loaded { seen, config }) })
    }

    /// What a new connection is begun with.
    pub(super) fn acceptor(&self) -> TlsAcceptor {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let now = stamps(&self.files);
        if now != current.seen {
            current.seen = now;
            match read(&self.files) {
                Ok(config) => {
                    current.config = config;
                    tracing::info!(file = %self.files.certificate.display(), "a new certificate is used from now on");
                }
                Err(error) => {
                    let error = format!("{error:#}");
                    tracing::warn!(error, "a new certificate cannot be used; the one before is used on");
                }
            }
        }
        TlsAcceptor::from(Arc::clone(&current.config))
    }
}

fn stamps(files: &TlsFiles) -> Option<[Stamp; 2]> {
    let stamp = |path: &Path| std::fs::metadata(path).ok().map(Stamp::from);
    Some([stamp(&files.certificate)?, stamp(&files.key)?])
}

fn read(files: &TlsFiles) -> anyhow::Result<Arc<ServerConfig>> {
    let TlsFiles { certificate, key } = files;
    let reading = |what: &str, path: &Path| format!("reading the {what} in {}", path.display());
    let chain: Vec<_> = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect)
        .with_context(|| reading("certificate", certificate))?;
    if chain.is_empty() {
        bail!("{}: there is no certificate in it (PEM)", certificate.display());
    }
    if std::fs::metadata(key).with_context(|| reading("private key", key))?.mode() & 0o007 != 0 {
        bail!("{}: everyone may read the private key; run `chmod o= {0}`", key.display());
    }
    let key = PrivateKeyDer::from_pem_file(key).with_context(|| reading("private key", key))?;
    let mut config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .with_context(|| format!("using the certificate in {} with its key", certificate.display()))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn issue(files: &TlsFiles) {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        std::fs::write(&files.key, made.signing_key.serialize_pem()).unwrap();
        std::fs::set_permissions(&files.key, std::fs::Permissions::from_mode(0o600)).unwrap();
        std::fs::write(&files.certificate, made.cert.pem()).unwrap();
    }

    #[test]
    fn a_certificate_is_read_anew_when_it_was_replaced_and_kept_when_it_was_spoilt() {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let dir = tempfile::tempdir().unwrap();
        let files = TlsFiles { certificate: dir.path().join("tls.crt"), key: dir.path().join("tls.key") };
        issue(&files);
        let tls = Tls::open(files.clone()).unwrap();
        let same = |one: &TlsAcceptor, other: &TlsAcceptor| Arc::ptr_eq(one.config(), other.config());
        let first = tls.acceptor();
        assert!(same(&first, &tls.acceptor()));
        issue(&files);
        let second = tls.acceptor();
        assert!(!same(&first, &second));
        std::fs::write(&files.certificate, "spoilt").unwrap();
        assert!(same(&second, &tls.acceptor()));
        std::fs::remove_file(&files.certificate).unwrap();
        assert!(same(&second, &tls.acceptor()));
        issue(&files);
        assert!(!same(&second, &tls.acceptor()));
    }

    #[test]
    fn files_that_cannot_be_used_are_named() {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let dir = tempfile::tempdir().unwrap();
        let files = TlsFiles { certificate: dir.path().join("tls.crt"), key: dir.path().join("tls.key") };
        let refused = || format!("{:#}", Tls::open(files.clone()).unwrap_err());
        assert!(refused().contains("tls.crt"), "{}", refused());
        issue(&files);
        std::fs::set_permissions(&files.key, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(refused().contains("chmod"), "{}", refused());
        let other = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        std::fs::set_permissions(&files.key, std::fs::Permissions::from_mode(0o600)).unwrap();
        std::fs::write(&files.key, other.signing_key.serialize_pem()).unwrap();
        assert!(refused().contains("with its key"), "{}", refused());
    }
}
