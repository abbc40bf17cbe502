//! Folders and what stands in them, as the operating system shows them: one handle per folder, one
//! plain name at a time, so that nothing can lead outside.

#[cfg(not(unix))]
mod portable;
#[cfg(unix)]
mod unix;

#[cfg(not(unix))]
pub(super) use portable::{Folder, finish_file, is_link_loop, look_at_file, name_bytes, own_file, own_ids};
#[cfg(unix)]
pub(super) use unix::{Folder, finish_file, is_link_loop, look_at_file, name_bytes, own_file, own_ids};

#[cfg(not(unix))]
pub use portable::path_from_bytes;
#[cfg(unix)]
pub use unix::path_from_bytes;

use std::fmt;

/// A kind of file that is neither file, folder nor link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Special {
    /// A named socket.
    Socket,
    /// A named pipe.
    Fifo,
    /// A block or character device.
    Device,
    /// What this system does not tell.
    Unknown,
}

impl fmt::Display for Special {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Socket => "socket",
            Self::Fifo => "FIFO",
            Self::Device => "device",
            Self::Unknown => "file of unknown kind",
        })
    }
}

/// What stands behind a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Directory,
    File,
    Link,
    Special(Special),
    /// The listing does not tell; look at the entry itself.
    Untold,
}

/// When content was last modified.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Mtime {
    pub(super) seconds: i64,
    /// Below 1,000,000,000; counts forward also before 1970.
    pub(super) nanos: u32,
}

/// What is known of an entry without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Look {
    pub(super) kind: Kind,
    /// All of the mode's bits without the kind's.
    pub(super) mode: u32,
    pub(super) size: u64,
    pub(super) mtime: Mtime,
    /// Device and number: the same for two names of one file.
    pub(super) id: (u64, u64),
    pub(super) links: u64,
    /// Owner and group, as far as the system knows them.
    pub(super) owner: (u32, u32),
}

/// The names in one folder, kept in one piece of memory: a folder may hold millions.
#[derive(Debug, Default)]
pub(super) struct Names {
    text: Vec<u8>,
    spans: Vec<Span>,
}

#[derive(Clone, Copy, Debug)]
struct Span {
    start: u32,
    length: u16,
    kind: Kind,
}

impl Names {
    /// Adds a name; false if there is no room for it (4 GiB of names, or one name over 64 KiB).
    pub(super) fn push(&mut self, name: &[u8], kind: Kind) -> bool {
        let (Ok(start), Ok(length)) = (u32::try_from(self.text.len()), u16::try_from(name.len())) else {
            return false;
        };
        self.text.extend_from_slice(name);
        self.spans.push(Span { start, length, kind });
        true
    }

    /// Brings them into the order of their bytes.
    pub(super) fn sort(&mut self) {
        let Self { text, spans } = self;
        spans.sort_unstable_by(|a, b| slice(text, *a).cmp(slice(text, *b)));
    }

    pub(super) fn get(&self, index: usize) -> Option<(&[u8], Kind)> {
        let span = *self.spans.get(index)?;
        Some((slice(&self.text, span), span.kind))
    }

    pub(super) fn len(&self) -> u64 {
        self.spans.len() as u64
    }
}

fn slice(text: &[u8], span: Span) -> &[u8] {
    let start = span.start as usize;
    &text[start..start + usize::from(span.length)]
}
