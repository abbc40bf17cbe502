//! A container that does nothing but tell the time: as its first act and as its last.

use std::io::{self, Write};
use std::time::SystemTime;

fn main() -> io::Result<()> {
    let first = nanoseconds();
    let mut out = io::stdout().lock();
    writeln!(out, "first {first}")?;
    writeln!(out, "last {}", nanoseconds())
}

/// Since the beginning of 1970, by the clock that all containers of a machine share.
fn nanoseconds() -> u128 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_nanos())
}
