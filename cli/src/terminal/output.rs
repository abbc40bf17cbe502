//! Results on stdout: a table for a person, JSON in the shape of v1.6.1 for everything else.

use super::table::{Selection, View};
use super::{Failure, Table, print, stdout_is_terminal};
use serde::Serialize;

/// The forms in which a result can be printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Columns for a person; the default on a terminal.
    Table,
    /// The table with more columns, times in full, and nothing folded.
    Wide,
    /// JSON with 4 spaces; the default when stdout is not a terminal.
    Json,
    /// YAML with the members of the JSON form.
    Yaml,
    /// Ids alone, one per line.
    Name,
}

impl Format {
    /// The chosen form, or the one that fits whoever reads stdout.
    pub fn or_fitting(chosen: Option<Self>) -> Self {
        chosen.unwrap_or(if stdout_is_terminal() { Self::Table } else { Self::Json })
    }
}

/// `-o/--output` alone, to be flattened into commands whose result is no table.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
#[command(next_help_heading = "Output")]
pub struct Output {
    /// Form of the result: table, wide, json, yaml or name [default: table on a terminal, json elsewhere]
    #[arg(short = 'o', long = "output", value_name = "FORM", value_enum, hide_possible_values = true)]
    pub format: Option<Format>,
}

/// `-o/--output` and what a table can be told, to be flattened into commands that print tables.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Output")]
pub struct TableOutput {
    /// Form of the result: table, wide, json, yaml or name [default: table on a terminal, json elsewhere]
    #[arg(short = 'o', long = "output", value_name = "FORM", value_enum, hide_possible_values = true)]
    format: Option<Format>,
    #[command(flatten)]
    columns: Columns,
}

/// [`TableOutput`] for commands on which `-o` has another meaning.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Output")]
pub struct LongTableOutput {
    /// Form of the result: table, wide, json, yaml or name [default: table on a terminal, json elsewhere]
    #[arg(long = "output", value_name = "FORM", value_enum, hide_possible_values = true)]
    format: Option<Format>,
    #[command(flatten)]
    columns: Columns,
}

/// What a table can be told. Whoever says it wants a table, also where JSON is the default.
#[derive(Clone, Debug, Default, clap::Args)]
struct Columns {
    /// Columns of the table, by their names in its header: --columns id,status
    #[arg(long, value_name = "NAME,...", value_delimiter = ',', allow_hyphen_values = true)]
    columns: Vec<String>,
    /// Leave the header of the table out
    #[arg(long, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true",
          hide_default_value = true, value_name = "BOOL", value_parser = crate::args::switch,
          action = clap::ArgAction::Set, hide_possible_values = true)]
    no_headers: bool,
}

impl TableOutput {
    /// What was asked for, of a result with the columns of `table`. To be called before anything is done.
    ///
    /// # Errors
    /// A usage failure: there is no such column, or the form has no columns.
    pub fn of(&self, table: &Table) -> Result<Look, Failure> {
        self.columns.look(self.format, table)
    }
}

impl LongTableOutput {
    /// As [`TableOutput::of`].
    ///
    /// # Errors
    /// The same.
    pub fn of(&self, table: &Table) -> Result<Look, Failure> {
        self.columns.look(self.format, table)
    }
}

impl Columns {
    fn look(&self, chosen: Option<Format>, table: &Table) -> Result<Look, Failure> {
        let flag = match (self.columns.is_empty(), self.no_headers) {
            (true, false) => return Ok(Look::from(chosen)),
            (false, _) => "--columns",
            (true, true) => "--no-headers",
        };
        match chosen {
            None | Some(Format::Table | Format::Wide) => {}
            Some(form) => {
                let form = clap::ValueEnum::to_possible_value(&form).map(|value| value.get_name().to_owned());
                return Err(Failure::usage(format!(
                    "{flag} is about a table, and --output {} is none",
                    form.unwrap_or_default()
                ))
                .advice(format!("leave out the one or the other: {flag} alone prints a table")));
            }
        }
        let selection = if self.columns.is_empty() { None } else { Some(table.select(&self.columns)?) };
        if let Some(twice) = selection.as_ref().and_then(Selection::repeated) {
            return Err(Failure::usage(format!("the column \"{}\" stands twice in --columns", self.columns[twice]))
                .advice("name it once"));
        }
        Ok(Look { chosen: Some(chosen.unwrap_or(Format::Table)), selection, headers: !self.no_headers })
    }
}

/// How a result was asked for.
#[derive(Clone, Debug)]
pub struct Look {
    chosen: Option<Format>,
    selection: Option<Selection>,
    headers: bool,
}

impl From<Option<Format>> for Look {
    fn from(chosen: Option<Format>) -> Self {
        Self { chosen, selection: None, headers: true }
    }
}

impl From<&Self> for Look {
    fn from(look: &Self) -> Self {
        look.clone()
    }
}

impl Look {
    /// The form that was asked for, or that fits whoever reads stdout.
    pub fn format(&self) -> Format {
        Format::or_fitting(self.chosen)
    }

    /// How a table looks.
    pub fn view(&self) -> View {
        let view = View::of_stdout(self.format() == Format::Wide);
        View { selection: self.selection.clone(), headers: self.headers, ..view }
    }
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
    pub fn print(&self, look: impl Into<Look>) -> Result<(), Failure> {
        let look = look.into();
        match look.format() {
            Format::Json => print_json(self.value),
            Format::Yaml => print(&yaml(self.value)?),
            Format::Name => print(&(self.names)().iter().flat_map(|name| [name, "\n"]).collect::<String>()),
            Format::Table | Format::Wide => print(&(self.table)().render_as(&look.view())),
        }
    }

    /// Prints a single thing to stdout: a person who asks for no form gets all of it, line by line.
    pub fn print_one(&self, look: impl Into<Look>) -> Result<(), Failure> {
        let look = look.into();
        if look.chosen.is_none() && look.format() == Format::Table {
            return print(&(self.table)().describe(&look.view()));
        }
        self.print(look)
    }
}

/// Prints one value as JSON with 4 spaces and a closing newline.
pub fn print_json<T: Serialize + ?Sized>(value: &T) -> Result<(), Failure> {
    print(&json(value)?)
}

/// One value as JSON with 4 spaces and a closing newline.
pub fn json<T: Serialize + ?Sized>(value: &T) -> Result<String, Failure> {
    let mut text = Vec::new();
    let format = serde_json::ser::PrettyFormatter::with_indent(INDENT.as_bytes());
    value
        .serialize(&mut serde_json::Serializer::with_formatter(&mut text, format))
        .map_err(|e| Failure::new("cannot print the result as JSON").why(e))?;
    text.push(b'\n');
    String::from_utf8(text).map_err(|e| Failure::new("cannot print the result as JSON").why(e))
}

/// What each level of JSON is indented by.
const INDENT: &str = "    ";

/// One item of a list in JSON or YAML; `before` it so many have been printed. Printed one after the other and
/// closed with [`list_end`], items are the text of the whole list.
pub(super) fn list_item<T: Serialize + ?Sized>(form: Format, before: usize, item: &T) -> Result<String, Failure> {
    if form == Format::Yaml {
        return yaml(&[item]);
    }
    let mut text = String::from(if before == 0 { "[" } else { "," });
    // Within texts, newlines are written as \n.
    for line in json(item)?.lines() {
        text.push('\n');
        text.push_str(INDENT);
        text.push_str(line);
    }
    Ok(text)
}

/// What closes a list of so many items in JSON or YAML; an empty one is a list too.
pub(super) fn list_end(form: Format, printed: usize) -> &'static str {
    match (form, printed) {
        (Format::Json | Format::Yaml, 0) => "[]\n",
        (Format::Json, _) => "\n]\n",
        _ => "",
    }
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
