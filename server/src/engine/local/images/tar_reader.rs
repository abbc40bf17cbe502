//! Reads a tar archive of unknown origin as a stream, in bounded memory.
//!
//! The `tar` crate holds long names and pax records of any length in memory and cannot read pax
//! values with a line break in them, which binary attributes have; its header type is used here.

use std::io::{self, Read};
use tar::EntryType;

const BLOCK: usize = 512;
/// Largest name or link target, as the system allows.
const LONGEST_PATH: usize = 4096;
/// Largest set of pax records of one entry.
const LARGEST_PAX: u64 = 1 << 20;
/// Extended attributes of one entry, and the length of one.
const MOST_XATTRS: usize = 64;
const LARGEST_XATTR: usize = 64 << 10;

/// What an entry makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Folder,
    Symlink,
    Hardlink,
    Fifo,
    Device,
}

/// One entry. Its content, if it has any, is read from the reader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// As written; not checked for where it leads.
    pub path: Vec<u8>,
    /// Target of a link.
    pub link: Vec<u8>,
    pub kind: Kind,
    /// Permission bits with setuid, setgid and sticky.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// Seconds since 1970 and nanoseconds.
    pub mtime: (i64, u32),
    /// Bytes of content.
    pub size: u64,
    /// Extended attributes by name.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// An archive; reading from it gives the content of the present entry.
pub(super) struct TarReader<R> {
    inner: R,
    /// Bytes of the present entry's content that were not read yet, and the padding behind them.
    left: u64,
    padding: u64,
}

/// What goes before an entry and changes it.
#[derive(Default)]
struct Before {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u32>,
    gid: Option<u32>,
    mtime: Option<(i64, u32)>,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

fn bad(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.into())
}

impl<R: Read> TarReader<R> {
    pub(super) fn new(inner: R) -> Self {
        Self { inner, left: 0, padding: 0 }
    }

    /// What is behind the archive.
    pub(super) fn into_inner(self) -> R {
        self.inner
    }

    /// The next entry; what was not read of the present one is passed over.
    pub(super) fn next_entry(&mut self) -> io::Result<Option<Entry>> {
        let mut before = Before::default();
        loop {
            self.pass_over()?;
            let Some(header) = self.header()? else { return Ok(None) };
            let size = header.entry_size().map_err(|error| bad(error.to_string()))?;
            let kind = header.entry_type();
            match kind {
                EntryType::XHeader => {
                    let records = self.extension(size, LARGEST_PAX)?;
                    read_pax(&records, &mut before)?;
                }
                EntryType::GNULongName => before.path = Some(self.long_name(size)?),
                EntryType::GNULongLink => before.link = Some(self.long_name(size)?),
                // Both speak about the archive, not about what comes next.
                EntryType::XGlobalHeader => self.begin(size)?,
                other if other.as_byte() == b'V' => self.begin(size)?,
                _ => return self.entry(&header, size, before).map(Some),
            }
        }
    }

    fn entry(&mut self, header: &tar::Header, size: u64, before: Before) -> io::Result<Entry> {
        let path = before.path.unwrap_or_else(|| header.path_bytes().into_owned());
        let kind = match header.entry_type() {
            EntryType::Regular if path.ends_with(b"/") => Kind::Folder,
            EntryType::Regular | EntryType::Continuous => Kind::File,
            EntryType::Directory => Kind::Folder,
            EntryType::Symlink => Kind::Symlink,
            EntryType::Link => Kind::Hardlink,
            EntryType::Fifo => Kind::Fifo,
            EntryType::Char | EntryType::Block => Kind::Device,
            EntryType::GNUSparse => return Err(sparse()),
            other => return Err(bad(format!("entries of type {:?} are not known", char::from(other.as_byte())))),
        };
        let link = before.link.unwrap_or_else(|| header.link_name_bytes().unwrap_or_default().into_owned());
        for text in [&path, &link] {
            if text.contains(&0) || text.len() > LONGEST_PATH {
                return Err(bad("a name holds a NUL or is too long"));
            }
        }
        // The others have no content, whatever they say.
        let size = if kind == Kind::File { before.size.unwrap_or(size) } else { 0 };
        let id = |number: io::Result<u64>| u32::try_from(number?).map_err(|_| bad("an owner's number is too large"));
        let entry = Entry {
            kind,
            mode: header.mode()? & 0o7777,
            uid: before.uid.map_or_else(|| id(header.uid()), Ok)?,
            gid: before.gid.map_or_else(|| id(header.gid()), Ok)?,
            mtime: match before.mtime {
                Some(mtime) => mtime,
                // Times before 1970 are negative binary numbers there; nobody misses them.
                None => (i64::try_from(header.mtime().unwrap_or(0)).unwrap_or(0), 0),
            },
            size,
            xattrs: before.xattrs,
            path,
            link,
        };
        self.begin(size)?;
        Ok(entry)
    }

    /// The next header with content; nothing at the end of the archive.
    fn header(&mut self) -> io::Result<Option<tar::Header>> {
        let mut header = tar::Header::new_old();
        let mut filled = 0;
        while filled < BLOCK {
            match self.inner.read(&mut header.as_mut_bytes()[filled..]) {
                Ok(0) if filled == 0 => return Ok(None),
                Ok(0) => return Err(bad("the archive ends within a header")),
                Ok(n) => filled += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        let bytes = header.as_bytes();
        if bytes.iter().all(|b| *b == 0) {
            return Ok(None);
        }
        let field = 148..156;
        let sum: u32 = bytes.iter().enumerate().map(|(i, b)| if field.contains(&i) { 32 } else { u32::from(*b) }).sum();
        if header.cksum().ok() != Some(sum) {
            return Err(bad("a header's checksum is wrong"));
        }
        Ok(Some(header))
    }

    fn begin(&mut self, size: u64) -> io::Result<()> {
        let padded = size.checked_next_multiple_of(BLOCK as u64).ok_or_else(|| bad("an entry is too large"))?;
        (self.left, self.padding) = (size, padded - size);
        Ok(())
    }

    fn pass_over(&mut self) -> io::Result<()> {
        let rest = self.left + self.padding;
        (self.left, self.padding) = (0, 0);
        if io::copy(&mut self.inner.by_ref().take(rest), &mut io::sink())? < rest {
            return Err(bad("the archive ends within an entry"));
        }
        Ok(())
    }

    fn extension(&mut self, size: u64, limit: u64) -> io::Result<Vec<u8>> {
        if size > limit {
            return Err(bad(format!("an entry's extended header is larger than {limit} bytes")));
        }
        self.begin(size)?;
        let mut bytes = Vec::with_capacity(size as usize);
        self.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn long_name(&mut self, size: u64) -> io::Result<Vec<u8>> {
        let mut name = self.extension(size, LONGEST_PATH as u64 + 1)?;
        if name.last() == Some(&0) {
            name.pop();
        }
        Ok(name)
    }
}

impl<R: Read> Read for TarReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        if most == 0 {
            return Ok(0);
        }
        let n = self.inner.read(&mut buffer[..most])?;
        if n == 0 {
            return Err(bad("the archive ends within an entry"));
        }
        self.left -= n as u64;
        Ok(n)
    }
}

fn sparse() -> io::Error {
    bad("it holds a sparse file, a form of tar that images must not use")
}

/// Records of the form `<length> <key>=<value>\n`, where the length counts the whole record.
fn read_pax(mut records: &[u8], before: &mut Before) -> io::Result<()> {
    let wrong = || bad("an extended header is damaged");
    while !records.is_empty() {
        let space = records.iter().take(20).position(|b| *b == b' ').ok_or_else(wrong)?;
        let length: usize =
            std::str::from_utf8(&records[..space]).ok().and_then(|text| text.parse().ok()).ok_or_else(wrong)?;
        if length <= space + 1 || length > records.len() || records[length - 1] != b'\n' {
            return Err(wrong());
        }
        let record = &records[space + 1..length - 1];
        records = &records[length..];
        let equals = record.iter().position(|b| *b == b'=').ok_or_else(wrong)?;
        read_record(&record[..equals], &record[equals + 1..], before)?;
    }
    Ok(())
}

fn read_record(key: &[u8], value: &[u8], before: &mut Before) -> io::Result<()> {
    fn number<T: std::str::FromStr>(value: &[u8]) -> io::Result<Option<T>> {
        match std::str::from_utf8(value) {
            // An empty value takes back what stood before.
            Ok("") => Ok(None),
            Ok(text) => text.parse().map(Some).map_err(|_| bad("an extended header holds a wrong number")),
            Err(_) => Err(bad("an extended header holds a wrong number")),
        }
    }
    let name = |value: &[u8]| (!value.is_empty()).then(|| value.to_vec());
    match key {
        b"path" => before.path = name(value),
        b"linkpath" => before.link = name(value),
        b"size" => before.size = number(value)?,
        b"uid" => before.uid = number(value)?,
        b"gid" => before.gid = number(value)?,
        b"mtime" => before.mtime = read_time(value),
        _ if key.starts_with(b"GNU.sparse.") => return Err(sparse()),
        _ => {
            if let Some(attribute) = key.strip_prefix(b"SCHILY.xattr.") {
                if before.xattrs.len() >= MOST_XATTRS || value.len() > LARGEST_XATTR || attribute.len() > 255 {
                    return Err(bad("an entry has too many or too large extended attributes"));
                }
                before.xattrs.push((attribute.to_vec(), value.to_vec()));
            }
        }
    }
    Ok(())
}

/// Seconds with a fraction; anything else is passed over, because nothing depends on it.
fn read_time(value: &[u8]) -> Option<(i64, u32)> {
    let text = std::str::from_utf8(value).ok()?;
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = seconds.parse().ok()?;
    let digits: String = fraction.chars().chain(std::iter::repeat('0')).take(9).collect();
    let nanos: u32 = digits.parse().ok()?;
    if seconds < 0 { None } else { Some((seconds, nanos)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(bytes: &[u8]) -> io::Result<Vec<(Entry, Vec<u8>)>> {
        let mut reader = TarReader::new(bytes);
        let mut entries = Vec::new();
        while let Some(entry) = reader.next_entry()? {
            let mut content = Vec::new();
            reader.by_ref().take(1 << 20).read_to_end(&mut content)?;
            entries.push((entry, content));
        }
        Ok(entries)
    }

    fn header(kind: u8, size: u64) -> tar::Header {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(EntryType::new(kind));
        header.set_path("name").unwrap();
        header.set_mode(0o644);
        header.set_uid(1);
        header.set_gid(2);
        header.set_mtime(3);
        header.set_size(size);
        header.set_cksum();
        header
    }

    fn archive(parts: &[(u8, &[u8])]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (kind, content) in parts {
            bytes.extend_from_slice(header(*kind, content.len() as u64).as_bytes());
            bytes.extend_from_slice(content);
            bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
        }
        bytes.resize(bytes.len() + 2 * BLOCK, 0);
        bytes
    }

    fn record(key: &str, value: &[u8]) -> Vec<u8> {
        let body = key.len() + value.len() + 3;
        let length = (1..9).map(|digits| body + digits).find(|n| n.to_string().len() + body == *n).unwrap();
        [format!("{length} {key}=").as_bytes(), value, b"\n"].concat()
    }

    #[test]
    fn pax_records_change_what_follows_even_when_their_values_are_binary() {
        let records = [
            record("path", b"long/name"),
            record("mtime", b"5.25"),
            record("uid", b"70000"),
            record("SCHILY.xattr.security.capability", b"\x01\n\x00\n2 x="),
        ]
        .concat();
        let entries = all(&archive(&[(b'x', &records), (b'0', b"content"), (b'0', b"")])).unwrap();
        let (entry, content) = &entries[0];
        assert_eq!((entry.path.as_slice(), content.as_slice()), (&b"long/name"[..], &b"content"[..]));
        assert_eq!((entry.mtime, entry.uid, entry.gid), ((5, 250_000_000), 70_000, 2));
        assert_eq!(entry.xattrs, [(b"security.capability".to_vec(), b"\x01\n\x00\n2 x=".to_vec())]);
        assert_eq!(entries[1].0.path, b"name");
        assert!(entries[1].0.xattrs.is_empty());
    }

    #[test]
    fn gnu_names_and_pax_sizes_are_read() {
        let long = [b"n".repeat(3000), b"\0".to_vec()].concat();
        let entries = all(&archive(&[(b'L', &long), (b'K', b"target\0"), (b'2', b"")])).unwrap();
        assert_eq!((entries[0].0.path.len(), entries[0].0.link.as_slice()), (3000, &b"target"[..]));
        let mut bytes = archive(&[(b'x', &record("size", b"4"))]);
        bytes.truncate(2 * BLOCK);
        bytes.extend_from_slice(header(b'0', 0).as_bytes());
        bytes.extend_from_slice(b"data");
        bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
        assert_eq!(all(&bytes).unwrap()[0].1, b"data");
    }

    #[test]
    fn what_is_hostile_or_damaged_is_refused() {
        let huge = header(b'L', 1 << 40).as_bytes().to_vec();
        let mut wrong_sum = archive(&[(b'0', b"x")]);
        wrong_sum[0] ^= 1;
        let nul = archive(&[(b'L', b"a\0b\0"), (b'0', b"")]);
        for (what, bytes) in [
            ("huge name", huge),
            ("huge pax", header(b'x', 1 << 40).as_bytes().to_vec()),
            ("checksum", wrong_sum),
            ("nul", nul),
            ("sparse", archive(&[(b'S', b"")])),
            ("pax sparse", archive(&[(b'x', &record("GNU.sparse.major", b"1")), (b'0', b"")])),
            ("unknown type", archive(&[(b'Q', b"")])),
            ("cut content", header(b'0', 5).as_bytes().to_vec()),
            ("cut header", vec![1; 100]),
            ("cut record", archive(&[(b'x', b"99 path=x\n"), (b'0', b"")])),
            ("record without end", archive(&[(b'x', b"9 path=xx"), (b'0', b"")])),
            ("largest size", archive(&[(b'x', &record("size", b"18446744073709551615")), (b'0', b"")])),
        ] {
            assert!(all(&bytes).is_err(), "{what}");
        }
    }

    proptest! {
        #[test]
        fn what_the_tar_crate_writes_is_read_back(
            files in prop::collection::vec(
                ("[a-z]{1,150}(/[a-z]{1,90}){0,2}", prop::collection::vec(any::<u8>(), 0..1500)), 0..8
            )
        ) {
            let mut builder = tar::Builder::new(Vec::new());
            for (path, content) in &files {
                let mut header = tar::Header::new_gnu();
                header.set_size(content.len() as u64);
                header.set_mode(0o640);
                header.set_uid(0);
                header.set_gid(0);
                header.set_mtime(1);
                builder.append_data(&mut header, path, content.as_slice()).unwrap();
            }
            let read = all(&builder.into_inner().unwrap()).unwrap();
            let read: Vec<_> = read.into_iter().map(|(e, c)| (String::from_utf8(e.path).unwrap(), c)).collect();
            prop_assert_eq!(read, files);
        }

        #[test]
        fn reading_never_fails_hard(
            kinds in prop::collection::vec((any::<u8>(), prop::collection::vec(any::<u8>(), 0..600)), 0..5),
            flip in any::<prop::sample::Index>(), noise: Vec<u8>,
        ) {
            let parts: Vec<(u8, &[u8])> = kinds.iter().map(|(kind, content)| (*kind, content.as_slice())).collect();
            let mut bytes = archive(&parts);
            let at = flip.index(bytes.len());
            bytes[at] ^= 0x40;
            let _ = (all(&bytes), all(&noise));
        }
    }
}
