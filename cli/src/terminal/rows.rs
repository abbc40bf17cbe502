//! Long results on stdout, item by item: what is printed is never held whole.

use super::output::{list_end, list_item};
use super::{Failure, Format};
use serde::Serialize;
use std::io::{BufWriter, Stdout, Write as _};

/// Bytes that are printed at once.
const PIECE: usize = 64 * 1024;

/// A list under way, of what comes without waiting; [`super::Pages`] prints what comes page by page.
pub struct Rows {
    format: Format,
    header: &'static str,
    out: BufWriter<Stdout>,
    printed: usize,
    /// Goes on when nobody reads.
    to_the_end: bool,
}

impl Rows {
    /// Begins a list; in the forms for people, with this line above it. Nothing is printed before the first item or
    /// the end: a list that fails at once leaves stdout alone.
    pub fn begin(format: Format, header: &'static str) -> Self {
        let out = BufWriter::with_capacity(PIECE, std::io::stdout());
        Self { format, header, out, printed: 0, to_the_end: false }
    }

    /// For a list whose end decides how the command ends: a reader that goes away does not keep it from coming.
    #[must_use]
    pub fn to_the_end(mut self) -> Self {
        self.to_the_end = true;
        self
    }

    /// Prints one item: its value, the line that a person reads, or its name. Lines and names must be plain.
    pub fn item<T: Serialize>(
        &mut self,
        value: impl FnOnce() -> T,
        line: impl FnOnce() -> String,
        name: impl FnOnce() -> String,
    ) -> Result<(), Failure> {
        if self.printed == 0 {
            self.open()?;
        }
        let text = match self.format {
            form @ (Format::Json | Format::Yaml) => list_item(form, self.printed, &value())?,
            Format::Table | Format::Wide => line() + "\n",
            Format::Name => name() + "\n",
        };
        self.printed += 1;
        self.write(&text)
    }

    /// Ends the list; tells how many items it had.
    pub fn end(mut self) -> Result<usize, Failure> {
        if self.printed == 0 {
            self.open()?;
        }
        self.write(list_end(self.format, self.printed))?;
        let flushed = self.out.flush();
        self.written(flushed)?;
        Ok(self.printed)
    }

    fn open(&mut self) -> Result<(), Failure> {
        match self.format {
            Format::Table | Format::Wide if !self.header.is_empty() => self.write(&format!("{}\n", self.header)),
            _ => Ok(()),
        }
    }

    fn write(&mut self, text: &str) -> Result<(), Failure> {
        let written = self.out.write_all(text.as_bytes());
        self.written(written)
    }

    fn written(&self, outcome: std::io::Result<()>) -> Result<(), Failure> {
        match outcome {
            Err(e) if self.to_the_end && e.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
            outcome => outcome.map_err(|e| Failure::stdout(&e)),
        }
    }
}
