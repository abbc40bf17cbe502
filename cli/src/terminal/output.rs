//! Results on stdout: a table for a person, JSON in the shape of v1.6.1 for everything else.

use super::{Failure, Table, print, stdout_is_terminal};
use serde::Serialize;

/// The forms in which a result can be printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Columns for a person; the default on a terminal.
    Table,
    /// JSON with 4 spaces; the default when stdout is not a terminal.
    Json,
    /// YAML with the members of the JSON form.
    Yaml,
    /// Ids alone, one per line.
    Name,
    /// The table with more columns.
    Wide,
}

impl Format {
    /// The chosen form, or the one that fits whoever reads stdout.
    pub fn or_fitting(chosen: Option<Self>) -> Self {
        chosen.unwrap_or(if stdout_is_terminal() { Self::Table } else { Self::Json })
    }
}

/// `-o/--output`, to be flattened into commands that print results.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub struct Output {
    /// How to print the result [default: table on a terminal, json otherwise]
    #[arg(short = 'o', long = "output", value_name = "FORMAT", value_enum)]
    pub format: Option<Format>,
}

/// `--output` alone, for commands on which `-o` has another meaning.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub struct LongOutput {
    /// How to print the result [default: table on a terminal, json otherwise]
    #[arg(long = "output", value_name = "FORMAT", value_enum)]
    pub format: Option<Format>,
}

/// Reads the value of an `-o` that is not `--output`. A form of output is refused: taken for an id or a tag,
/// it would silently find nothing.
pub fn other_than_a_format<T>(text: &str) -> Result<T, String>
where
    T: std::str::FromStr<Err: std::fmt::Display>,
{
    if <Format as clap::ValueEnum>::from_str(text, false).is_ok() {
        return Err(format!("-o does not choose the form of output on this command: write --output {text}"));
    }
    text.parse().map_err(|error: T::Err| error.to_string())
}

/// One result in its forms; `value` is what JSON and YAML print.
pub struct Show<'a, T: Serialize + ?Sized> {
    /// Printed as JSON or YAML.
    pub value: &'a T,
    /// Printed as a table.
    pub table: &'a dyn Fn() -> Table,
    /// Printed as names.
    pub names: &'a dyn Fn() -> Vec<String>,
}

impl<T: Serialize + ?Sized> Show<'_, T> {
    /// Prints the result to stdout.
    pub fn print(&self, chosen: Option<Format>) -> Result<(), Failure> {
        match Format::or_fitting(chosen) {
            Format::Json => print_json(self.value),
            Format::Yaml => print(&yaml(self.value)?),
            Format::Name => print(&(self.names)().iter().flat_map(|name| [name, "\n"]).collect::<String>()),
            Format::Table => print(&(self.table)().render(false)),
            Format::Wide => print(&(self.table)().render(true)),
        }
    }
}

/// Prints one value as JSON with 4 spaces and a closing newline.
pub fn print_json<T: Serialize + ?Sized>(value: &T) -> Result<(), Failure> {
    print(&json(value)?)
}

/// One value as JSON with 4 spaces and a closing newline.
pub fn json<T: Serialize + ?Sized>(value: &T) -> Result<String, Failure> {
    let mut text = Vec::new();
    let format = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    value
        .serialize(&mut serde_json::Serializer::with_formatter(&mut text, format))
        .map_err(|e| Failure::new("cannot print the result as JSON").why(e))?;
    text.push(b'\n');
    String::from_utf8(text).map_err(|e| Failure::new("cannot print the result as JSON").why(e))
}

/// One value as YAML with the members of its JSON form.
pub fn yaml<T: Serialize + ?Sized>(value: &T) -> Result<String, Failure> {
    serde_saphyr::to_string(&value).map_err(|e| Failure::new("cannot print the result as YAML").why(e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_has_four_spaces_and_a_final_newline() {
        #[derive(Serialize)]
        struct One {
            list: Vec<u8>,
            text: &'static str,
            none: Vec<u8>,
        }
        let text = json(&One { list: vec![1], text: "a <b> & c", none: vec![] }).unwrap();
        assert_eq!(text, "{\n    \"list\": [\n        1\n    ],\n    \"text\": \"a <b> & c\",\n    \"none\": []\n}\n");
    }
}
