//! Writers that compute the SHA-256 of content on its way.

use knit_api::digest::Digest;
use sha2::{Digest as _, Sha256};
use std::io::{self, Read, Write};

/// The digest of all that a reader gives.
pub(super) fn digest_of(mut reader: impl Read) -> io::Result<Digest> {
    let mut hashing = Hashing::new(io::sink());
    let mut buffer = vec![0; 1 << 17];
    loop {
        match reader.read(&mut buffer)? {
            0 => return Ok(hashing.finish().1),
            n => hashing.write_all(&buffer[..n])?,
        }
    }
}

/// Hashes and counts what goes through it.
pub(super) struct Hashing<W> {
    inner: W,
    hash: Sha256,
    bytes: u64,
}

impl<W> Hashing<W> {
    pub(super) fn new(inner: W) -> Self {
        Self { inner, hash: Sha256::new(), bytes: 0 }
    }

    /// What is behind it, the digest and the number of bytes.
    pub(super) fn finish(self) -> (W, Digest, u64) {
        (self.inner, Digest::finish(self.hash), self.bytes)
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.inner.write(bytes)?;
        self.hash.update(&bytes[..n]);
        self.bytes += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
