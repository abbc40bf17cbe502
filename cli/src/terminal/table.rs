//! Tables for a person: a header, aligned columns, no frame.

use super::plain;
use comfy_table::{ColumnConstraint, ContentArrangement};

struct Column {
    name: &'static str,
    only_wide: bool,
    whole: bool,
}

/// Rows under named columns. Cells are made plain, so they may hold anything.
#[derive(Default)]
pub struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<String>>,
    empty: Option<String>,
}

impl Table {
    /// An empty table without columns.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a column whose cells wrap when the terminal is narrow.
    #[must_use]
    pub fn column(mut self, name: &'static str) -> Self {
        self.columns.push(Column { name, only_wide: false, whole: false });
        self
    }

    /// Adds a column whose cells are never wrapped: ids and other things that people copy.
    #[must_use]
    pub fn whole(mut self, name: &'static str) -> Self {
        self.columns.push(Column { name, only_wide: false, whole: true });
        self
    }

    /// Adds a column that only the wide form shows.
    #[must_use]
    pub fn wide(mut self, name: &'static str) -> Self {
        self.columns.push(Column { name, only_wide: true, whole: false });
        self
    }

    /// What to print instead of a header without rows.
    #[must_use]
    pub fn when_empty(mut self, text: impl Into<String>) -> Self {
        self.empty = Some(text.into());
        self
    }

    /// Adds a row; one cell per column, those of the wide form included.
    pub fn row<I: IntoIterator<Item: Into<String>>>(&mut self, cells: I) {
        let cells: Vec<String> = cells.into_iter().map(Into::into).collect();
        debug_assert_eq!(cells.len(), self.columns.len(), "one cell per column");
        self.rows.push(cells);
    }

    /// The table as text with a closing newline, fitted to the terminal if there is one.
    pub fn render(&self, wide: bool) -> String {
        self.render_to(wide, None)
    }

    fn render_to(&self, wide: bool, width: Option<u16>) -> String {
        if let (true, Some(empty)) = (self.rows.is_empty(), &self.empty) {
            return format!("{empty}\n");
        }
        let shown: Vec<usize> = (0..self.columns.len()).filter(|&at| wide || !self.columns[at].only_wide).collect();
        let mut table = comfy_table::Table::new();
        table.load_style(comfy_table::presets::NOTHING);
        // A wide table is asked for when nothing may be folded.
        table.set_content_arrangement(if wide { ContentArrangement::Disabled } else { ContentArrangement::Dynamic });
        if let Some(width) = width {
            table.set_width(width);
        }
        table.set_header(shown.iter().map(|&at| self.columns[at].name));
        for row in &self.rows {
            table
                .add_row(shown.iter().map(|&at| row.get(at).map_or_else(String::new, |cell| plain(cell).into_owned())));
        }
        for (place, &at) in shown.iter().enumerate() {
            if let Some(column) = table.column_mut(place) {
                column.set_padding((0, 2));
                if self.columns[at].whole {
                    column.set_constraint(ColumnConstraint::ContentWidth);
                }
            }
        }
        let mut text = table.trim_fmt();
        text.push('\n');
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Table {
        let mut table = Table::new().whole("ID").column("TAGS").wide("MORE").when_empty("No Data.");
        table.row(["a1", "x:y\nname:z", "m\u{1b}[1m"]);
        table.row(["b22222", "q", ""]);
        table
    }

    #[test]
    fn columns_are_aligned_and_rows_may_have_several_lines() {
        assert_eq!(sample().render(false), "ID      TAGS\na1      x:y\n        name:z\nb22222  q\n");
    }

    #[test]
    fn the_wide_form_has_more_columns_and_no_control_characters() {
        let text = sample().render(true);
        assert!(text.starts_with("ID      TAGS    MORE\n"), "{text}");
        assert!(!text.contains('\u{1b}'), "{text}");
    }

    #[test]
    fn a_narrow_terminal_folds_text_but_never_an_id() {
        let mut table = Table::new().whole("ID").column("TEXT");
        table.row(["0123456789", "one two three four"]);
        let text = table.render_to(false, Some(24));
        assert!(text.contains("0123456789"), "{text}");
        assert!(text.lines().all(|line| line.len() <= 24), "{text}");
    }

    #[test]
    fn an_empty_table_says_so() {
        assert_eq!(Table::new().column("ID").when_empty("No Data.").render(false), "No Data.\n");
    }
}
