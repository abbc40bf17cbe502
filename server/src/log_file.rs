//! The server's own log as a file that never grows without bound: at [`LIMIT`] it is put aside, and of those put
//! aside the last [`KEPT`] stay. So a cause that repeats for days costs a known amount of disk.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Size at which a file is put aside, in bytes.
pub const LIMIT: u64 = 10 << 20;
/// Files put aside that stay: `<name>.1` is the newest.
pub const KEPT: u32 = 2;

/// Writes records to the file, each with one call, and puts the file aside between two of them.
#[derive(Debug)]
pub struct LogFile {
    path: PathBuf,
    file: File,
    size: u64,
    limit: u64,
    /// Called with each file that is opened.
    opened: fn(&File) -> io::Result<()>,
}

impl LogFile {
    /// Opens the log for appending, readable by its owner alone. Stderr leads there from now on, and follows:
    /// what a panic says stands between the records.
    pub fn open(path: &Path) -> io::Result<Self> {
        Self::open_with(path, LIMIT, |file| Ok(rustix::stdio::dup2_stderr(file)?))
    }

    fn open_with(path: &Path, limit: u64, opened: fn(&File) -> io::Result<()>) -> io::Result<Self> {
        let file = append(path)?;
        opened(&file)?;
        let size = file.metadata()?.len();
        Ok(Self { path: path.to_owned(), file, size, limit, opened })
    }

    /// Renames from the oldest on. A crash in between loses at most the name of the newest, which is then written
    /// on at the next start.
    fn put_aside(&mut self) -> io::Result<()> {
        for number in (1..=KEPT).rev() {
            let from = if number == 1 { self.path.clone() } else { numbered(&self.path, number - 1) };
            match fs::rename(from, numbered(&self.path, number)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        self.file = append(&self.path)?;
        self.size = 0;
        (self.opened)(&self.file)
    }
}

impl Write for LogFile {
    fn write(&mut self, record: &[u8]) -> io::Result<usize> {
        if self.size > 0 && self.size + record.len() as u64 > self.limit && self.put_aside().is_err() {
            // Better a long log than none; it is tried again after as much.
            self.size = 0;
        }
        self.file.write_all(record)?;
        self.size += record.len() as u64;
        Ok(record.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}

fn numbered(path: &Path, number: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_put_aside_between_records_and_the_oldest_goes() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("knitd.log");
        fs::write(&path, "start\n").unwrap();
        let mut log = LogFile::open_with(&path, 16, |_| Ok(())).unwrap();
        for n in 0..9 {
            log.write_all(format!("record{n}\n").as_bytes()).unwrap();
        }
        let read = |path: &Path| fs::read_to_string(path).unwrap();
        assert_eq!(read(&path), "record7\nrecord8\n");
        assert_eq!(read(&numbered(&path, 1)), "record5\nrecord6\n");
        assert_eq!(read(&numbered(&path, 2)), "record3\nrecord4\n");
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 3);
        drop(log);
        let mut log = LogFile::open_with(&path, 16, |_| Ok(())).unwrap();
        log.write_all(b"a record longer than the limit\n").unwrap();
        assert_eq!(read(&path), "a record longer than the limit\n");
        assert_eq!(read(&numbered(&path, 1)), "record7\nrecord8\n");
    }

    #[test]
    fn a_log_that_cannot_be_put_aside_is_written_on() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("knitd.log");
        fs::create_dir_all(numbered(&path, 1).join("in the way")).unwrap();
        fs::create_dir_all(numbered(&path, 2).join("in the way")).unwrap();
        let mut log = LogFile::open_with(&path, 4, |_| Ok(())).unwrap();
        log.write_all(b"one\n").unwrap();
        log.write_all(b"two\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "one\ntwo\n");
    }
}
