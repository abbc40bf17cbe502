//! The receiving end of a stream: decompressed, with a failing transfer told apart from bad content.

use super::header::BLOCK;
use super::{Error, Form, STEP, ZSTD_WINDOW_LOG};
use flate2::bufread::MultiGzDecoder;
use std::io::{self, BufRead as _, BufReader, Read};

/// A stream that is read block by block and in large pieces.
pub(super) struct Input<R: Read> {
    buffer: BufReader<Decoder<R>>,
}

enum Decoder<R: Read> {
    Plain(Source<R>),
    Zstd(Box<zstd::Decoder<'static, BufReader<Source<R>>>>),
    Gzip(Box<MultiGzDecoder<BufReader<Source<R>>>>),
}

/// What the caller reads from; remembers if it was this that failed.
struct Source<R> {
    inner: R,
    broken: bool,
}

impl<R: Read> Input<R> {
    pub(super) fn new(inner: R, form: Form) -> Result<Self, Error> {
        let source = Source { inner, broken: false };
        let compressed = |source| BufReader::with_capacity(STEP, source);
        let decoder = match form {
            Form::Bundle => Decoder::Plain(source),
            Form::BundleZstd => {
                let decoder = zstd::Decoder::with_buffer(compressed(source)).and_then(|mut decoder| {
                    decoder.window_log_max(ZSTD_WINDOW_LOG)?;
                    Ok(decoder.single_frame())
                });
                Decoder::Zstd(Box::new(decoder.map_err(|cause| Error::Stream { cause })?))
            }
            Form::TarGz => Decoder::Gzip(Box::new(MultiGzDecoder::new(compressed(source)))),
        };
        Ok(Self { buffer: BufReader::with_capacity(STEP, decoder) })
    }

    /// The next block; none at the end of the stream, which may only be between blocks.
    pub(super) fn block(&mut self) -> Result<Option<[u8; BLOCK]>, Error> {
        let mut block = [0; BLOCK];
        let mut filled = 0;
        while filled < BLOCK {
            let piece = self.some(BLOCK - filled)?;
            if piece.is_empty() {
                return if filled == 0 { Ok(None) } else { Err(ends_early()) };
            }
            let count = piece.len();
            block[filled..filled + count].copy_from_slice(piece);
            self.consume(count);
            filled += count;
        }
        Ok(Some(block))
    }

    /// A next piece of at least one and at most `most` bytes, in place; to be consumed.
    pub(super) fn piece(&mut self, most: u64) -> Result<&[u8], Error> {
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        let piece = self.some(most)?;
        if piece.is_empty() { Err(ends_early()) } else { Ok(piece) }
    }

    pub(super) fn consume(&mut self, count: usize) {
        self.buffer.consume(count);
    }

    /// The next `size` bytes, which the caller has bounded.
    pub(super) fn bytes(&mut self, size: u64) -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::with_capacity(size as usize);
        while (bytes.len() as u64) < size {
            let piece = self.piece(size - bytes.len() as u64)?;
            bytes.extend_from_slice(piece);
            let count = piece.len();
            self.consume(count);
        }
        Ok(bytes)
    }

    /// Passes over content.
    pub(super) fn skip(&mut self, mut size: u64) -> Result<(), Error> {
        while size > 0 {
            let count = self.piece(size)?.len();
            self.consume(count);
            size -= count as u64;
        }
        Ok(())
    }

    /// Passes over the padding after a content, which is zero in a bundle.
    pub(super) fn zeros(&mut self, mut count: usize) -> Result<(), Error> {
        while count > 0 {
            let piece = self.piece(count as u64)?;
            if piece.iter().any(|byte| *byte != 0) {
                return Err(Error::bad("the space between entries is not empty"));
            }
            let read = piece.len();
            self.consume(read);
            count -= read;
        }
        Ok(())
    }

    /// Makes sure that nothing follows but zero blocks, to the very end of what was sent.
    pub(super) fn only_zeros_left(&mut self) -> Result<(), Error> {
        while let Some(block) = self.block()? {
            if block != [0; BLOCK] {
                return Err(Error::bad("something follows its end"));
            }
        }
        if let Decoder::Zstd(decoder) = self.buffer.get_mut() {
            let rest = decoder.get_mut().fill_buf().map_err(|cause| Error::Stream { cause })?;
            if !rest.is_empty() {
                return Err(Error::bad("something follows its end"));
            }
        }
        Ok(())
    }

    /// What is ready, at most `most` bytes; nothing only at the end.
    fn some(&mut self, most: usize) -> Result<&[u8], Error> {
        if let Err(cause) = self.buffer.fill_buf() {
            return Err(self.problem(cause));
        }
        let ready = self.buffer.buffer();
        Ok(&ready[..ready.len().min(most)])
    }

    fn problem(&self, cause: io::Error) -> Error {
        let broken = match self.buffer.get_ref() {
            Decoder::Plain(source) => source.broken,
            Decoder::Zstd(decoder) => decoder.get_ref().get_ref().broken,
            Decoder::Gzip(decoder) => decoder.get_ref().get_ref().broken,
        };
        if broken {
            Error::Stream { cause }
        } else if cause.kind() == io::ErrorKind::UnexpectedEof {
            ends_early()
        } else {
            Error::bad(format!("it cannot be decompressed: {cause}"))
        }
    }
}

fn ends_early() -> Error {
    Error::bad("it ends early")
}

impl<R: Read> Read for Decoder<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(source) => source.read(buffer),
            Self::Zstd(decoder) => decoder.read(buffer),
            Self::Gzip(decoder) => decoder.read(buffer),
        }
    }
}

impl<R: Read> Read for Source<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.inner.read(buffer) {
                Err(cause) if cause.kind() == io::ErrorKind::Interrupted => {}
                Err(cause) => {
                    self.broken = true;
                    return Err(cause);
                }
                read => return read,
            }
        }
    }
}
