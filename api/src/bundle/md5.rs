//! The checksum that v1.6.1 sends after a tar.gz: MD5 of the bytes that pass through.

use ::md5::{Digest as _, Md5};
use std::io::{self, Read, Write};

/// Computes the MD5 of all that is read through it.
pub struct Md5Reader<R> {
    inner: R,
    state: Md5,
}

impl<R> Md5Reader<R> {
    /// Reads from `inner`.
    pub fn new(inner: R) -> Self {
        Self { inner, state: Md5::new() }
    }

    /// The checksum so far as 32 lower-case hex digits.
    pub fn checksum(&self) -> String {
        hex::encode(self.state.clone().finalize())
    }
}

impl<R: Read> Read for Md5Reader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.state.update(&buffer[..count]);
        Ok(count)
    }
}

/// Computes the MD5 of all that is written through it.
pub struct Md5Writer<W> {
    inner: W,
    state: Md5,
}

impl<W> Md5Writer<W> {
    /// Writes to `inner`.
    pub fn new(inner: W) -> Self {
        Self { inner, state: Md5::new() }
    }

    /// The checksum so far as 32 lower-case hex digits.
    pub fn checksum(&self) -> String {
        hex::encode(self.state.clone().finalize())
    }
}

impl<W: Write> Write for Md5Writer<W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(buffer)?;
        self.state.update(&buffer[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
