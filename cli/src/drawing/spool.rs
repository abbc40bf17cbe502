//! Texts that grow side by side and are printed one after the other: in memory while they are small, in a
//! temporary file when they are not. Nothing is printed before all of it is there.

use crate::terminal::{Failure, print_from};
use serde::Serialize;
use std::io::{self, BufReader, BufWriter, Read, Seek as _, Write as _};
use tempfile::SpooledTempFile;

/// How much of a text is kept in memory, in bytes.
const IN_MEMORY: usize = 4 << 20;

/// One text that grows.
#[derive(Debug)]
pub struct Spool {
    text: BufWriter<SpooledTempFile>,
    is_empty: bool,
}

impl Default for Spool {
    fn default() -> Self {
        Self::new()
    }
}

impl Spool {
    /// An empty text.
    pub fn new() -> Self {
        Self { text: BufWriter::with_capacity(64 << 10, tempfile::spooled_tempfile(IN_MEMORY)), is_empty: true }
    }

    /// Adds to the text.
    pub fn push(&mut self, text: &str) -> Result<(), Failure> {
        self.is_empty &= text.is_empty();
        self.text.write_all(text.as_bytes()).map_err(|error| failed(&error))
    }

    /// Adds an item of a JSON list that stands in an object: with 4 spaces for each level.
    pub fn push_item(&mut self, item: &impl Serialize) -> Result<(), Failure> {
        let before = if self.is_empty { "\n" } else { ",\n" };
        self.push(before)?;
        self.push(INDENT)?;
        let format = serde_json::ser::PrettyFormatter::with_indent(b"    ");
        let text = Indented(&mut self.text);
        item.serialize(&mut serde_json::Serializer::with_formatter(text, format)).map_err(|error| {
            if error.is_io() {
                failed(&error.into())
            } else {
                Failure::new("cannot print the result as JSON").why(error)
            }
        })
    }

    /// The items as a member of a JSON object.
    pub fn into_member(self, name: &str) -> Result<Vec<Piece>, Failure> {
        let (before, after) = if self.is_empty { ("[", "]") } else { ("[", "\n    ]") };
        Ok(vec![format!("    \"{name}\": {before}").into(), self.into_piece()?, after.into()])
    }

    /// The text, ready to be printed.
    pub fn into_piece(self) -> Result<Piece, Failure> {
        let mut text = self.text.into_inner().map_err(|error| failed(error.error()))?;
        text.rewind().map_err(|error| failed(&error))?;
        Ok(Piece::Spooled(text))
    }
}

fn failed(error: &io::Error) -> Failure {
    Failure::new(format!("cannot keep the drawing in {}", std::env::temp_dir().display()))
        .why(error)
        .advice("make room there, or name another folder in TMPDIR")
}

/// What stands before each line of an item.
const INDENT: &str = "        ";

/// Writes lines further to the right.
struct Indented<W>(W);

impl<W: io::Write> io::Write for Indented<W> {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        for line in text.split_inclusive(|byte| *byte == b'\n') {
            self.0.write_all(line)?;
            if line.ends_with(b"\n") {
                self.0.write_all(INDENT.as_bytes())?;
            }
        }
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// A part of what is printed.
#[derive(Debug)]
pub enum Piece {
    /// A text that grew.
    Spooled(SpooledTempFile),
    /// A text.
    Text(String),
}

impl From<&str> for Piece {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Piece {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

/// Prints parts one after the other.
pub fn print(pieces: impl IntoIterator<Item = Piece>) -> Result<(), Failure> {
    for piece in pieces {
        match piece {
            Piece::Spooled(text) => print_from(&mut BufReader::with_capacity(64 << 10, text) as &mut dyn Read)?,
            Piece::Text(text) => print_from(&mut text.as_bytes())?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(pieces: Vec<Piece>) -> String {
        let mut whole = String::new();
        for piece in pieces {
            match piece {
                Piece::Spooled(mut text) => drop(text.read_to_string(&mut whole).unwrap()),
                Piece::Text(text) => whole.push_str(&text),
            }
        }
        whole
    }

    #[test]
    fn a_list_looks_as_if_it_had_been_printed_at_once() {
        let items = serde_json::json!([{"a": [1, 2], "b": "x\ny"}, [], "c"]);
        for items in [items.as_array().unwrap().clone(), Vec::new()] {
            let mut spool = Spool::new();
            for item in &items {
                spool.push_item(item).unwrap();
            }
            let mut pieces = vec!["{\n".into()];
            pieces.extend(spool.into_member("list").unwrap());
            pieces.push("\n}\n".into());
            assert_eq!(text(pieces), crate::terminal::output::json(&serde_json::json!({"list": items})).unwrap());
        }
    }

    #[test]
    fn a_text_that_is_larger_than_its_place_in_memory_is_whole() {
        let mut spool = Spool::new();
        let line = "x".repeat(1 << 20);
        for _ in 0..6 {
            spool.push(&line).unwrap();
        }
        assert_eq!(text(vec![spool.into_piece().unwrap()]).len(), 6 << 20);
    }
}
