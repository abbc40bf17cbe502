//! What `wrap` tells the recorder: frames of a kind, a length and as many bytes, on a unix socket. The recorder trusts
//! none of it: what runs in main might write to the socket too.

use crate::engine::local::admission::bytes as memory_in_words;
use knit_api::problem::in_words;
use knit_api::run::{Exit, exit_code};
use serde::{Deserialize, Serialize};
use std::io::{self, Read};

/// Bytes in front of what a frame carries: its kind, and its length in little endian.
pub(super) const HEADER: usize = 5;
/// Most that a frame carries.
pub(super) const LONGEST: usize = 64 << 10;
/// Longest sentence of an end that is recorded.
const LONGEST_SENTENCE: usize = 2000;

/// Kinds of frames.
const OUTPUT: u8 = 1;
const END: u8 = 2;

/// One message of main's.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Frame<'a> {
    /// A piece of what main wrote, stdout and stderr in one.
    Output(&'a [u8]),
    /// It has ended, and nothing follows.
    End(MainEnd),
}

/// How main ended, as far as its first process can tell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MainEnd {
    /// What became of its program.
    pub how: How,
    /// The kernel ended the program, or one of its processes, for want of memory.
    #[serde(default)]
    pub out_of_memory: bool,
    /// What the container may use of it, in bytes, where that is limited.
    #[serde(default)]
    pub memory_limit: Option<u64>,
    /// Every other process of the container is known to be gone too.
    pub alone: bool,
}

/// What became of main's program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum How {
    /// It exited.
    Exited {
        /// With this code.
        code: u8,
    },
    /// It was ended by a signal.
    Signalled {
        /// Its number.
        signal: i32,
    },
    /// It never ran.
    NotStarted {
        /// The code to record.
        code: u8,
        /// Why, in a sentence.
        message: String,
    },
}

impl How {
    /// What a shell would report.
    pub fn code(&self) -> u8 {
        match self {
            Self::Exited { code } | Self::NotStarted { code, .. } => *code,
            Self::Signalled { signal } => u8::try_from(128_i32.saturating_add(*signal)).unwrap_or(u8::MAX),
        }
    }
}

impl MainEnd {
    /// As the Run records it, with what else a person should know.
    pub fn exit(&self, notes: &[String]) -> Exit {
        let limit = self
            .memory_limit
            .map_or_else(|| "the node has".to_owned(), |limit| format!("its limit of {}", memory_in_words(limit)));
        let code = self.how.code();
        let message = match &self.how {
            // A program may survive the loss of a child and end well: then it succeeded.
            How::Exited { code: 0 } if self.out_of_memory => {
                format!("one of its processes was ended for using more memory than {limit}")
            }
            How::Exited { .. } | How::Signalled { signal: libc::SIGKILL } if self.out_of_memory => {
                format!("OOMKilled: it used more memory than {limit}")
            }
            How::Exited { .. } => String::new(),
            How::Signalled { signal } => format!("ended by signal {}", name_of(*signal)),
            How::NotStarted { message, .. } => message.chars().take(LONGEST_SENTENCE).collect(),
        };
        let sentences = std::iter::once(message.as_str()).chain(notes.iter().map(String::as_str));
        let message = sentences.filter(|text| !text.is_empty()).collect::<Vec<_>>().join("; ");
        Exit { code, message: in_words(&message).into_owned() }
    }

    /// A program that could not be started.
    pub fn not_started(message: impl Into<String>) -> Self {
        let how = How::NotStarted { code: exit_code::NOT_STARTED, message: message.into() };
        Self { how, out_of_memory: false, memory_limit: None, alone: true }
    }

    /// The frame that tells it.
    pub(super) fn frame(&self) -> io::Result<Vec<u8>> {
        let body = serde_json::to_vec(self)?;
        let mut frame = header(END, body.len()).to_vec();
        frame.extend_from_slice(&body);
        Ok(frame)
    }
}

fn name_of(signal: i32) -> String {
    nix::sys::signal::Signal::try_from(signal).map_or_else(|_| signal.to_string(), |known| known.as_str().to_owned())
}

/// What stands before a piece of output of this length.
pub(super) fn output_header(length: usize) -> [u8; HEADER] {
    header(OUTPUT, length)
}

fn header(kind: u8, length: usize) -> [u8; HEADER] {
    let [a, b, c, d] = (length as u32).to_le_bytes();
    [kind, a, b, c, d]
}

/// Reads frames; a frame that cannot be is an error, and everything behind it is lost.
pub(super) struct Frames<R> {
    from: R,
    body: Box<[u8]>,
}

impl<R: Read> Frames<R> {
    pub(super) fn new(from: R) -> Self {
        Self { from, body: vec![0; LONGEST].into_boxed_slice() }
    }

    /// The next frame; none when the other side has closed, with `UnexpectedEof` when that was within a frame.
    pub(super) fn next(&mut self) -> io::Result<Option<Frame<'_>>> {
        let mut header = [0; HEADER];
        if !self.begins(&mut header)? {
            return Ok(None);
        }
        let [kind, length @ ..] = header;
        let length = u32::from_le_bytes(length) as usize;
        let body = self.body.get_mut(..length).ok_or_else(|| refused(format!("it has {length} bytes")))?;
        self.from.read_exact(body)?;
        match kind {
            OUTPUT => Ok(Some(Frame::Output(body))),
            END => serde_json::from_slice(body).map(|end| Some(Frame::End(end))).map_err(refused),
            other => Err(refused(format!("there is no kind {other}"))),
        }
    }

    /// Reads a header; false when nothing comes any more.
    fn begins(&mut self, header: &mut [u8; HEADER]) -> io::Result<bool> {
        loop {
            match self.from.read(&mut header[..1]) {
                Ok(0) => return Ok(false),
                Ok(_) => break,
                Err(cause) if cause.kind() == io::ErrorKind::Interrupted => {}
                Err(cause) => return Err(cause),
            }
        }
        self.from.read_exact(&mut header[1..]).map(|()| true)
    }
}

fn refused(why: impl std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("main sent a frame that cannot be: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn output(bytes: &[u8]) -> Vec<u8> {
        [&output_header(bytes.len())[..], bytes].concat()
    }

    fn end() -> MainEnd {
        let how = How::Exited { code: 3 };
        MainEnd { how, out_of_memory: true, memory_limit: Some(64 << 20), alone: true }
    }

    /// Hands out at most so many bytes at a time.
    struct Dribble<'a>(&'a [u8], usize);

    impl Read for Dribble<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let most = self.1.min(buffer.len());
            self.0.read(&mut buffer[..most])
        }
    }

    proptest! {
        #[test]
        fn output_arrives_as_it_was_sent_however_it_is_cut(
            pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..20),
            step in 1_usize..50,
        ) {
            let mut sent: Vec<u8> = pieces.iter().flat_map(|piece| output(piece)).collect();
            sent.extend(end().frame().unwrap());
            let mut frames = Frames::new(Dribble(&sent, step));
            for piece in &pieces {
                prop_assert_eq!(frames.next().unwrap(), Some(Frame::Output(piece)));
            }
            prop_assert_eq!(frames.next().unwrap(), Some(Frame::End(end())));
            prop_assert_eq!(frames.next().unwrap(), None);
        }

        #[test]
        fn whatever_is_sent_is_read_to_an_end_or_refused(sent in prop::collection::vec(any::<u8>(), 0..2000)) {
            let mut frames = Frames::new(&sent[..]);
            let mut taken = 0;
            while let Ok(Some(frame)) = frames.next() {
                taken += HEADER + match frame { Frame::Output(bytes) => bytes.len(), Frame::End(_) => 1 };
                prop_assert!(taken <= sent.len());
            }
        }

        #[test]
        fn what_breaks_off_within_a_frame_is_no_end(length in 1_usize..300, cut in 1_usize..300) {
            let sent = output(&vec![7; length]);
            let cut = cut.min(sent.len() - 1);
            let broken = Frames::new(&sent[..cut]).next().unwrap_err();
            prop_assert_eq!(broken.kind(), io::ErrorKind::UnexpectedEof);
        }
    }

    #[test]
    fn a_frame_that_cannot_be_is_refused_before_it_is_read() {
        let too_long = header(OUTPUT, LONGEST + 1);
        assert!(Frames::new(&too_long[..]).next().unwrap_err().to_string().contains("65537 bytes"));
        assert!(Frames::new(&header(9, 0)[..]).next().unwrap_err().to_string().contains("kind 9"));
        let no_end = [&header(END, 2)[..], b"{}"].concat();
        assert_eq!(Frames::new(&no_end[..]).next().unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn every_end_has_the_code_and_words_that_the_run_records() {
        let ended = |how, out_of_memory, memory_limit| MainEnd { how, out_of_memory, memory_limit, alone: true };
        for (end, code, words) in [
            (ended(How::Exited { code: 0 }, false, None), 0, ""),
            (ended(How::Exited { code: 3 }, false, Some(1)), 3, ""),
            (ended(How::Signalled { signal: libc::SIGKILL }, false, None), 137, "ended by signal SIGKILL"),
            (ended(How::Signalled { signal: 64 }, false, None), 192, "ended by signal 64"),
            (ended(How::Signalled { signal: i32::MAX }, false, None), 255, "ended by signal 2147483647"),
            (
                ended(How::Signalled { signal: libc::SIGKILL }, true, Some(64 << 20)),
                137,
                "OOMKilled: it used more memory than its limit of 64Mi",
            ),
            (ended(How::Exited { code: 5 }, true, None), 5, "OOMKilled: it used more memory than the node has"),
            (
                ended(How::Exited { code: 0 }, true, Some(1 << 30)),
                0,
                "one of its processes was ended for using more memory than its limit of 1Gi",
            ),
            (MainEnd::not_started("no"), 255, "no"),
        ] {
            let exit = end.exit(&[]);
            assert_eq!((exit.code, exit.message.as_str()), (code, words), "{end:?}");
        }
        let noted = ended(How::Signalled { signal: 15 }, false, None).exit(&["a".to_owned(), "b".to_owned()]);
        assert_eq!(noted.message, "ended by signal SIGTERM; a; b");
    }
}
