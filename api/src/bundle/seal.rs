//! Manifest and digest of a folder that nobody writes to any more.

use super::links::Links;
use super::manifest::{Content, Digest, Entry, ManifestWriter};
use super::pack::read_content;
use super::tree::path_from_bytes;
use super::walk::{Found, Walk, Walker};
use super::{Error, Limits, STEP, Special, Tally};
use std::io::Write;
use std::path::{Path, PathBuf};

/// What is left out is named up to this number, so that a hostile folder cannot fill memory.
const LEFT_OUT_NAMED: usize = 100;

/// How to seal.
#[derive(Clone, Debug, Default)]
pub struct SealOptions {
    /// Remove sockets, FIFOs and devices, which are left out in any case.
    pub remove_specials: bool,
    /// Change modes on disk so that what is there is what the digest says, and can be read later:
    /// readable for the owner (folders: and open), no set-id and sticky bits.
    pub mend_modes: bool,
    /// Make everything, the folder too, belong to this process's user and group, which takes root's rights
    /// where it does not. Owners are not in the digest.
    pub own: bool,
    /// What is refused.
    pub limits: Limits,
}

/// What was left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// Relative to the root.
    pub path: PathBuf,
    /// What it is.
    pub kind: Special,
}

/// What is known of a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// Root digest.
    pub digest: Digest,
    /// Entries below the root.
    pub entries: u64,
    /// Bytes in regular files; a hard link counts like a file of its own.
    pub bytes: u64,
    /// Sockets, FIFOs and devices: the first hundred.
    pub left_out: Vec<LeftOut>,
    /// How many there are in all.
    pub left_out_count: u64,
}

/// Writes the manifest of a folder with nothing in it, compressed, and answers its digest.
///
/// # Errors
/// [`Error::Target`] for the manifest.
pub fn nothing(manifest: &mut dyn Write) -> Result<Digest, Error> {
    ManifestWriter::new(Some(manifest))?.finish()
}

/// Reads all of the folder, never following a link, and writes its manifest, compressed.
///
/// # Errors
/// [`Error::Source`], [`Error::Changed`] and [`Error::TooLarge`] name the path; [`Error::NoSpace`] and
/// [`Error::Target`] for the manifest and for what is removed or mended.
pub fn seal(folder: &Path, manifest: Option<&mut dyn Write>, options: &SealOptions) -> Result<Sealed, Error> {
    let how = Walk { dereference: false, mend: options.mend_modes, own: options.own, ..Walk::default() };
    let mut walker = Walker::new(folder, false, how, &options.limits)?;
    let mut manifest = ManifestWriter::new(manifest)?;
    let mut tally = Tally::default();
    let mut links = Links::new();
    let mut buffer = vec![0; STEP];
    let (mut left_out, mut left_out_count) = (Vec::new(), 0);
    while let Some(found) = walker.next()? {
        let (mode, content) = match &found {
            Found::Directory(look) => (look.mode, Content::Directory),
            Found::Link(target, look) => (look.mode, Content::Link { target }),
            Found::File(file, look) => {
                let known = if look.links > 1 { links.get(&look.id).copied() } else { None };
                let hash = if let Some(hash) = known {
                    links.used(&look.id);
                    hash
                } else {
                    let mut hasher = blake3::Hasher::new();
                    read_content(file, look, &walker, &mut buffer, |piece| {
                        hasher.update(piece);
                        Ok(())
                    })?;
                    let hash = Digest::from(hasher.finalize());
                    if look.links > 1 && links.has_room(0) {
                        links.remember(look.id, 0, look.links, hash);
                    }
                    hash
                };
                (look.mode, Content::File { size: look.size, hash })
            }
            Found::Special(kind) => {
                left_out_count += 1;
                if left_out.len() < LEFT_OUT_NAMED {
                    left_out.push(LeftOut { path: path_from_bytes(walker.path()), kind: *kind });
                }
                if options.remove_specials {
                    walker.remove()?;
                }
                continue;
            }
        };
        let size = if let Content::File { size, .. } = content { size } else { 0 };
        tally.count(walker.path(), size, &options.limits)?;
        manifest.record(Entry { path: walker.path(), mode, content })?;
    }
    let digest = manifest.finish()?;
    Ok(Sealed { digest, entries: tally.entries, bytes: tally.bytes, left_out, left_out_count })
}
