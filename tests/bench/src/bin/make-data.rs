//! Writes data to measure with: the same arguments give the same bytes on every machine.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

const USAGE: &str = "\
Usage: make-data csv BYTES FILE      one file of sensor readings, which gzip -6 makes about a third of
       make-data files COUNT FOLDER  files of 4 to 20 KiB, half of them readings and half noise
       make-data folders COUNT FOLDER  folders with one small file each, all different
";
/// Files in one folder of a `files` tree.
const PER_FOLDER: usize = 100;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [kind, amount, target] = arguments.as_slice() else { return usage() };
    let (Ok(amount), target) = (amount.parse::<usize>(), PathBuf::from(target)) else { return usage() };
    let written = match kind.as_str() {
        "csv" => write_csv(&target, amount),
        "files" => write_files(&target, amount),
        "folders" => write_folders(&target, amount),
        _ => return usage(),
    };
    if let Err(cause) = written {
        // Nobody is left to tell when standard error is gone, too.
        let _ = writeln!(io::stderr(), "make-data: cannot write {}: {cause}", target.display());
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn usage() -> ExitCode {
    let _ = write!(io::stderr(), "{USAGE}");
    ExitCode::from(2)
}

/// One file of exactly `bytes` bytes.
fn write_csv(path: &Path, bytes: usize) -> io::Result<()> {
    let mut out = BufWriter::with_capacity(1 << 20, File::create_new(path)?);
    write_readings(&mut out, &mut Random::new(1), bytes)?;
    out.flush()
}

/// `count` files of 4 to 20 KiB in folders of 100.
fn write_files(root: &Path, count: usize) -> io::Result<()> {
    let mut random = Random::new(2);
    for number in 0..count {
        let folder = root.join(format!("{:03}", number / PER_FOLDER));
        if number % PER_FOLDER == 0 {
            fs::create_dir_all(&folder)?;
        }
        let bytes = 4096 + random.below(16 * 1024 + 1);
        let mut out = BufWriter::with_capacity(32 * 1024, File::create_new(folder.join(format!("{number:06}")))?);
        if number % 2 == 0 {
            write_readings(&mut out, &mut random, bytes)?;
        } else {
            write_noise(&mut out, &mut random, bytes)?;
        }
        out.flush()?;
    }
    Ok(())
}

/// `count` folders, each with the file `number` that holds the folder's number.
fn write_folders(root: &Path, count: usize) -> io::Result<()> {
    for number in 0..count {
        let folder = root.join(format!("{number:05}"));
        fs::create_dir_all(&folder)?;
        fs::write(folder.join("number"), format!("{number}\n"))?;
    }
    Ok(())
}

/// Lines of readings, cut off after exactly `bytes` bytes.
fn write_readings(out: &mut impl Write, random: &mut Random, bytes: usize) -> io::Result<()> {
    const PLACES: [&str; 8] = ["boiler", "roof", "cellar", "yard", "hall", "office", "kitchen", "garage"];
    let (mut left, mut second) = (bytes, 0);
    while left > 0 {
        second += random.below(7);
        let place = PLACES[random.below(PLACES.len())];
        let (hour, minute) = (second / 3600 % 24, second / 60 % 60);
        let (degrees, percent) = (random.below(400), random.below(100));
        let serial = random.next() % 1_000_000_000_000;
        let (volts, north, east) = (random.below(100_000), random.below(1_000_000), random.below(1_000_000));
        let line = format!(
            "2024-05-{:02}T{hour:02}:{minute:02}:{:02}Z,{place},{}.{},{percent},3.{volts:05},46.{north:06},7.{east:06},{serial:012}\n",
            second / 86_400 % 30 + 1,
            second % 60,
            degrees / 10,
            degrees % 10
        );
        let part = line.len().min(left);
        out.write_all(&line.as_bytes()[..part])?;
        left -= part;
    }
    Ok(())
}

/// `bytes` bytes that cannot be compressed.
fn write_noise(out: &mut impl Write, random: &mut Random, bytes: usize) -> io::Result<()> {
    let mut left = bytes;
    while left > 0 {
        let part = left.min(8);
        out.write_all(&random.next().to_le_bytes()[..part])?;
        left -= part;
    }
    Ok(())
}

/// Pseudo-random numbers (SplitMix64).
struct Random {
    state: u64,
}

impl Random {
    const fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    const fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `limit`, which is not 0.
    fn below(&mut self, limit: usize) -> usize {
        ((u128::from(self.next()) * limit as u128) >> 64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_csv_has_exactly_the_size_asked_for_and_is_the_same_each_time() {
        let folder = tempfile::tempdir().unwrap();
        let written = |name: &str| {
            let path = folder.path().join(name);
            write_csv(&path, 100_001).unwrap();
            fs::read(path).unwrap()
        };
        let first = written("a");
        assert_eq!(first.len(), 100_001);
        assert_eq!(first, written("b"));
        assert!(first.starts_with(b"2024-05-01T00:00:"));
    }

    #[test]
    fn files_are_between_4_and_20_kib_a_hundred_to_a_folder() {
        let folder = tempfile::tempdir().unwrap();
        write_files(folder.path(), 250).unwrap();
        let folders: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert_eq!(folders.len(), 3);
        let files: Vec<_> = folders.iter().flat_map(|one| fs::read_dir(one).unwrap()).collect();
        assert_eq!(files.len(), 250);
        for file in files {
            let bytes = file.unwrap().metadata().unwrap().len();
            assert!((4096..=20_480).contains(&bytes), "{bytes}");
        }
    }

    #[test]
    fn nothing_is_written_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mine");
        fs::write(&path, "mine").unwrap();
        assert_eq!(write_csv(&path, 1).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    }
}
