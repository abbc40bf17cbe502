//! The blocks of a tar stream: headers, the records that extend them, and the closing record.

use super::tree::Mtime;
use super::{Digest, Error};
use std::io::{self, Write};
use tar::{EntryType, Header};

/// Everything in a tar stream is a multiple of this.
pub(super) const BLOCK: usize = 512;

/// Largest pax record that is read: ours are far below, those of other programs carry long paths.
pub(super) const PAX_LIMIT: u64 = 64 * 1024;

const MTIME: &str = "mtime";
const LINKS: &str = "KNIT.links";
const DIGEST: &str = "KNIT.digest";
const ENTRIES: &str = "KNIT.entries";

/// What a header says of an entry.
pub(super) struct Head<'a> {
    pub(super) kind: EntryType,
    pub(super) path: &'a [u8],
    /// Of a symlink or hard link, else empty.
    pub(super) target: &'a [u8],
    pub(super) mode: u32,
    pub(super) size: u64,
    pub(super) mtime: Mtime,
    /// Set where the receiver has to remember the file for hard links to it.
    pub(super) links: Option<u64>,
}

/// Writes the headers of `head`, the extending ones before it.
pub(super) fn write_head(out: &mut impl Write, head: &Head<'_>) -> io::Result<()> {
    let mut records = Vec::new();
    if head.mtime.nanos != 0 || head.mtime.seconds < 0 {
        add_record(&mut records, MTIME, &decimal(head.mtime));
    }
    if let Some(links) = head.links {
        add_record(&mut records, LINKS, &links.to_string());
    }
    if !records.is_empty() {
        write_extension(out, EntryType::XHeader, b"././@PaxHeader", &records)?;
    }
    let mut header = Header::new_gnu();
    let name = &mut header.as_old_mut().name;
    if !put(name, head.path) {
        write_extension(out, EntryType::GNULongName, b"././@LongLink", &terminated(head.path))?;
    }
    let target = &mut header.as_old_mut().linkname;
    if !put(target, head.target) {
        write_extension(out, EntryType::GNULongLink, b"././@LongLink", &terminated(head.target))?;
    }
    header.set_entry_type(head.kind);
    header.set_mode(head.mode);
    header.set_size(head.size);
    header.set_mtime(head.mtime.seconds.max(0) as u64);
    write_header(out, &mut header)
}

/// Fills the last block of a content of that size.
pub(super) fn write_padding(out: &mut impl Write, size: u64) -> io::Result<()> {
    out.write_all(&[0; BLOCK][..padding(size)])
}

/// Bytes between a content of that size and the next block.
pub(super) fn padding(size: u64) -> usize {
    let rest = (size % BLOCK as u64) as usize;
    if rest == 0 { 0 } else { BLOCK - rest }
}

/// Writes the record that makes a bundle complete.
pub(super) fn write_closing(out: &mut impl Write, digest: Digest, entries: u64) -> io::Result<()> {
    let mut records = Vec::new();
    add_record(&mut records, DIGEST, &digest.to_string());
    add_record(&mut records, ENTRIES, &entries.to_string());
    write_extension(out, EntryType::XGlobalHeader, b"././@KnitEnd", &records)
}

/// Writes the two zero blocks at the end of every tar stream.
pub(super) fn write_end(out: &mut impl Write) -> io::Result<()> {
    out.write_all(&[0; 2 * BLOCK])
}

fn write_extension(out: &mut impl Write, kind: EntryType, name: &[u8], content: &[u8]) -> io::Result<()> {
    let mut header = Header::new_gnu();
    put(&mut header.as_old_mut().name, name);
    header.set_entry_type(kind);
    header.set_mode(0o644);
    header.set_size(content.len() as u64);
    header.set_mtime(0);
    write_header(out, &mut header)?;
    out.write_all(content)?;
    write_padding(out, content.len() as u64)
}

fn write_header(out: &mut impl Write, header: &mut Header) -> io::Result<()> {
    // Owners do not travel.
    header.set_uid(0);
    header.set_gid(0);
    header.set_cksum();
    out.write_all(header.as_bytes())
}

/// Puts as much of `text` as fits; false if that was not all of it.
fn put(field: &mut [u8; 100], text: &[u8]) -> bool {
    let length = text.len().min(field.len());
    field[..length].copy_from_slice(&text[..length]);
    length == text.len()
}

fn terminated(text: &[u8]) -> Vec<u8> {
    [text, b"\0"].concat()
}

/// One pax record: its own length, a blank, `key=value`, a line feed.
fn add_record(records: &mut Vec<u8>, key: &str, value: &str) {
    let rest = format!(" {key}={value}\n");
    let mut length = rest.len();
    while length != rest.len() + length.to_string().len() {
        length = rest.len() + length.to_string().len();
    }
    records.extend_from_slice(length.to_string().as_bytes());
    records.extend_from_slice(rest.as_bytes());
}

/// Seconds since 1970 as pax writes them: a sign, the whole, a fraction.
fn decimal(mtime: Mtime) -> String {
    if mtime.seconds < 0 && mtime.nanos > 0 {
        format!("-{}.{:09}", (mtime.seconds + 1).unsigned_abs(), 1_000_000_000 - mtime.nanos)
    } else {
        format!("{}.{:09}", mtime.seconds, mtime.nanos)
    }
}

fn parse_decimal(text: &[u8]) -> Option<Mtime> {
    let text = std::str::from_utf8(text).ok()?;
    let (negative, text) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || whole.len() > 18 || !digits(whole) || !digits(fraction) {
        return None;
    }
    let seconds: i64 = whole.parse().ok()?;
    // Exactly nine digits: what is shorter is filled up, what is longer cut off.
    let nanos: u32 = format!("{fraction:0<9}")[..9].parse().ok()?;
    Some(match (negative, nanos) {
        (false, _) => Mtime { seconds, nanos },
        (true, 0) => Mtime { seconds: -seconds, nanos: 0 },
        (true, _) => Mtime { seconds: -seconds - 1, nanos: 1_000_000_000 - nanos },
    })
}

/// What an `x` record of a bundle may say.
#[derive(Default)]
pub(super) struct Extras {
    pub(super) mtime: Option<Mtime>,
    pub(super) links: Option<u64>,
}

/// Reads the `x` record of a bundle: anything unknown may change what follows, so it is refused.
pub(super) fn parse_extras(content: &[u8]) -> Result<Extras, Error> {
    let mut extras = Extras::default();
    for record in records(content) {
        match record? {
            (b"mtime", value) => {
                extras.mtime = Some(parse_decimal(value).ok_or_else(|| Error::bad("a time in it is unreadable"))?);
            }
            (b"KNIT.links", value) => {
                let links = number(value).filter(|links| *links > 1);
                extras.links = Some(links.ok_or_else(|| Error::bad("a number of links in it is unreadable"))?);
            }
            (key, _) => return Err(unknown(key)),
        }
    }
    Ok(extras)
}

/// Reads the closing record: digest and number of entries.
pub(super) fn parse_closing(content: &[u8]) -> Result<(Digest, u64), Error> {
    let (mut digest, mut entries) = (None, None);
    for record in records(content) {
        match record? {
            (b"KNIT.digest", value) if digest.is_none() => {
                digest = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
            }
            (b"KNIT.entries", value) if entries.is_none() => entries = number(value),
            (key, _) => return Err(unknown(key)),
        }
    }
    digest.zip(entries).ok_or_else(|| Error::bad("its closing record is unreadable"))
}

/// What a pax record of any program says of the entry after it.
#[derive(Default)]
pub(super) struct Foreign {
    pub(super) path: Option<Vec<u8>>,
    pub(super) target: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) mtime: Option<Mtime>,
}

/// Reads the `x` record of another program's tar.
pub(super) fn parse_foreign(content: &[u8]) -> Result<Foreign, Error> {
    let mut foreign = Foreign::default();
    for record in records(content) {
        match record? {
            (b"path", value) => foreign.path = Some(value.to_vec()),
            (b"linkpath", value) => foreign.target = Some(value.to_vec()),
            (b"size", value) => {
                foreign.size = Some(number(value).ok_or_else(|| Error::bad("a size in it is unreadable"))?);
            }
            // Only a time: one that cannot be read is left out.
            (b"mtime", value) => foreign.mtime = parse_decimal(value),
            (key, _) if key.starts_with(b"GNU.sparse.") => return Err(sparse()),
            _ => {}
        }
    }
    Ok(foreign)
}

/// Sparse maps would have to be understood to restore the right content.
pub(super) fn sparse() -> Error {
    Error::bad("it holds a sparse file in a form of its own; make the archive without sparse files")
}

fn unknown(key: &[u8]) -> Error {
    Error::bad(format!("it holds a record of unknown meaning, {:.40}", key.escape_ascii().to_string()))
}

fn number(text: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(text).ok()?;
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

/// Takes pax records apart. Values may hold any byte, so only the lengths delimit them.
fn records(content: &[u8]) -> impl Iterator<Item = Result<(&[u8], &[u8]), Error>> {
    let mut rest = content;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let parsed = split_record(rest);
        rest = parsed.map_or(&[], |(_, after)| after);
        Some(parsed.map(|(record, _)| record).ok_or_else(|| Error::bad("a record in it is unreadable")))
    })
}

type Record<'a> = (&'a [u8], &'a [u8]);

/// The first record and what follows it.
fn split_record(text: &[u8]) -> Option<(Record<'_>, &[u8])> {
    let blank = text.iter().take(20).position(|byte| *byte == b' ')?;
    let length = usize::try_from(number(&text[..blank])?).ok()?;
    if length <= blank + 1 || length > text.len() {
        return None;
    }
    let body = text[blank + 1..length].strip_suffix(b"\n")?;
    let equals = body.iter().position(|byte| *byte == b'=')?;
    Some(((&body[..equals], &body[equals + 1..]), &text[length..]))
}

/// Takes a block as a header if its checksum is right.
pub(super) fn checked(block: &[u8; BLOCK]) -> Result<&Header, Error> {
    let header = Header::from_byte_slice(block);
    let told = header.cksum().map_err(|_| Error::bad("a header in it is damaged"))?;
    let found: u32 = block
        .iter()
        .enumerate()
        .map(|(at, byte)| if (148..156).contains(&at) { u32::from(b' ') } else { u32::from(*byte) })
        .sum();
    if told == found { Ok(header) } else { Err(Error::bad("a header in it is damaged")) }
}

/// The size of what follows a header.
pub(super) fn size(header: &Header) -> Result<u64, Error> {
    let size = header.entry_size().map_err(|_| Error::bad("a size in it is unreadable"))?;
    // Room for the arithmetic of blocks; no file is that large.
    if size > i64::MAX as u64 { Err(Error::bad("a size in it is unreadable")) } else { Ok(size) }
}

/// The time in a header; one that cannot be read counts as 1970.
pub(super) fn mtime(header: &Header) -> Mtime {
    let seconds = header.mtime().ok().and_then(|seconds| i64::try_from(seconds).ok()).unwrap_or(0);
    Mtime { seconds, nanos: 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_time_survives_its_pax_record(seconds in -10_000_000_000_i64..10_000_000_000, nanos in 0_u32..1_000_000_000) {
            let mtime = Mtime { seconds, nanos };
            prop_assert_eq!(parse_decimal(decimal(mtime).as_bytes()), Some(mtime));
        }

        #[test]
        fn records_with_any_bytes_never_panic(content in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse_extras(&content);
            let _ = parse_closing(&content);
            let _ = parse_foreign(&content);
        }

        #[test]
        fn records_that_nearly_fit_never_panic(length in 0_usize..40, body in "[ -~\n]{0,30}") {
            let _ = parse_foreign(format!("{length} {body}").as_bytes());
        }

        #[test]
        fn a_record_is_read_as_it_was_written(value in "[a-z]{0,200}") {
            let mut content = Vec::new();
            add_record(&mut content, "path", &value);
            add_record(&mut content, "linkpath", "after");
            let read = parse_foreign(&content).unwrap();
            prop_assert_eq!(read.path.as_deref(), Some(value.as_bytes()));
            prop_assert_eq!(read.target.as_deref(), Some(&b"after"[..]));
        }
    }

    #[test]
    fn a_size_over_8_gib_survives_its_header() {
        for size_told in [0, 8 * 1024 * 1024 * 1024 - 1, 8 * 1024 * 1024 * 1024, 1 << 50, i64::MAX as u64] {
            let mut out = Vec::new();
            let head = Head {
                kind: EntryType::Regular,
                path: b"large",
                target: b"",
                mode: 0o644,
                size: size_told,
                mtime: Mtime::default(),
                links: None,
            };
            write_head(&mut out, &head).unwrap();
            let block: &[u8; BLOCK] = out.as_slice().try_into().unwrap();
            assert_eq!(size(checked(block).unwrap()).unwrap(), size_told);
        }
    }

    #[test]
    fn a_time_outside_the_range_is_refused() {
        for text in ["", "-", ".", "1.x", "x", "99999999999999999999", "1.5.5", "+1", "--1"] {
            assert_eq!(parse_decimal(text.as_bytes()), None, "{text}");
        }
    }
}
