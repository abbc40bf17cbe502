//! Long lists, printed as their pages come: what is printed is forgotten, however long the list is.

use super::output::{list_end, list_item};
use super::table::{Layout, View};
use super::{Cell, Failure, Format, Look, Table, print_while_read};
use futures_util::{Stream, StreamExt as _};
use serde::Serialize;
use std::pin::pin;

/// Text that is printed at once, in bytes.
const AT_ONCE: usize = 64 * 1024;

/// A list and the forms in which it can be printed.
pub struct Pages<T> {
    /// Its columns.
    pub table: Table,
    /// The cells of one line, in the order of the columns.
    pub row: fn(&T) -> Vec<Cell>,
    /// Printed as a name.
    pub name: fn(&T) -> String,
    /// No more than this many are printed.
    pub limit: Option<usize>,
}

impl<T: Serialize> Pages<T> {
    /// Prints the pages in the form that was asked for. The text is that of the list printed whole, but for the
    /// widths of a table: they are those of its first page.
    ///
    /// # Errors
    /// The first error of the stream, or a [`Failure`] of stdout.
    pub async fn print(self, look: &Look, pages: impl Stream<Item = Result<Vec<T>, Failure>>) -> Result<(), Failure> {
        self.print_to(print_while_read, look, pages).await
    }

    async fn print_to(
        self,
        out: impl FnMut(&str) -> Result<(), Failure>,
        look: &Look,
        pages: impl Stream<Item = Result<Vec<T>, Failure>>,
    ) -> Result<(), Failure> {
        let mut printer = Printer { out, look, list: self, printed: 0, text: String::new(), arranged: None };
        let mut pages = pin!(pages);
        while !printer.is_full()
            && let Some(page) = pages.next().await
        {
            printer.page(&page?)?;
        }
        printer.end()
    }
}

struct Printer<'a, T, Out> {
    out: Out,
    look: &'a Look,
    list: Pages<T>,
    /// Items so far.
    printed: usize,
    /// What is still to be printed.
    text: String,
    /// Of a table, from its first page on.
    arranged: Option<(Layout, View)>,
}

impl<T: Serialize, Out: FnMut(&str) -> Result<(), Failure>> Printer<'_, T, Out> {
    fn is_full(&self) -> bool {
        self.list.limit.is_some_and(|limit| self.printed >= limit)
    }

    fn page(&mut self, items: &[T]) -> Result<(), Failure> {
        let room = self.list.limit.map_or(usize::MAX, |limit| limit - self.printed);
        let items = &items[..items.len().min(room)];
        match self.look.format() {
            Format::Table | Format::Wide => self.rows(items),
            form => {
                for item in items {
                    self.item(form, item)?;
                    self.printed += 1;
                    if self.text.len() >= AT_ONCE {
                        self.flush()?;
                    }
                }
            }
        }
        self.flush()
    }

    fn item(&mut self, form: Format, item: &T) -> Result<(), Failure> {
        match form {
            Format::Json | Format::Yaml => self.text.push_str(&list_item(form, self.printed, item)?),
            Format::Name | Format::Table | Format::Wide => {
                self.text.push_str(&(self.list.name)(item));
                self.text.push('\n');
            }
        }
        Ok(())
    }

    fn rows(&mut self, items: &[T]) {
        if items.is_empty() {
            return;
        }
        self.list.table.clear();
        for item in items {
            self.list.table.row((self.list.row)(item));
        }
        let table = &self.list.table;
        let (layout, view) = self.arranged.get_or_insert_with(|| {
            let view = self.look.view();
            (table.layout(&view), view)
        });
        if self.printed > 0 {
            *layout = table.keep(layout, view);
        }
        self.text.push_str(&table.page(layout, view, self.printed == 0));
        self.printed += items.len();
    }

    /// Closes what a list of JSON has opened; an empty list is a list too.
    fn end(mut self) -> Result<(), Failure> {
        match self.look.format() {
            form @ (Format::Json | Format::Yaml) => self.text.push_str(list_end(form, self.printed)),
            Format::Table | Format::Wide if self.printed == 0 => {
                self.list.table.clear();
                self.text.push_str(&self.list.table.nothing(&self.look.view()));
            }
            _ => {}
        }
        self.flush()
    }

    fn flush(&mut self) -> Result<(), Failure> {
        if !self.text.is_empty() {
            (self.out)(&self.text)?;
            self.text.clear();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::output::{json, yaml};
    use super::*;
    use futures_util::{FutureExt as _, stream};

    #[derive(Serialize)]
    struct Item {
        id: String,
        tags: Vec<String>,
    }

    /// What is printed of a list that comes in these pages.
    fn printed(form: Format, limit: Option<usize>, pages: &[&[usize]]) -> String {
        let list = Pages {
            table: Table::new().whole("ID").column("TAGS").when_empty("Nothing."),
            row: |item: &Item| vec![item.id.clone().into(), item.tags.len().to_string().into()],
            name: |item: &Item| item.id.clone(),
            limit,
        };
        let mut text = String::new();
        let out = |part: &str| {
            text.push_str(part);
            Ok(())
        };
        let pages = stream::iter(pages.iter().map(|page| Ok(items(page))));
        list.print_to(out, &Look::from(Some(form)), pages).now_or_never().unwrap().unwrap();
        text
    }

    fn items(page: &[usize]) -> Vec<Item> {
        page.iter()
            .map(|n| Item { id: format!("id{n}"), tags: (0..*n).map(|tag| format!("a:{tag}\n \"x\": - y")).collect() })
            .collect()
    }

    #[test]
    fn pages_together_are_the_text_of_the_whole_list() {
        let whole = items(&[0, 1, 2, 3, 4]);
        for pages in [&[&[0, 1, 2, 3, 4][..]][..], &[&[0, 1], &[], &[2], &[3, 4]], &[&[], &[0, 1, 2, 3, 4], &[]]] {
            assert_eq!(printed(Format::Json, None, pages), json(&whole).unwrap());
            assert_eq!(printed(Format::Yaml, None, pages), yaml(&whole).unwrap());
            assert_eq!(printed(Format::Name, None, pages), "id0\nid1\nid2\nid3\nid4\n");
        }
    }
    #[test]
    fn an_empty_list_is_a_list_or_says_so() {
        for pages in [&[][..], &[&[][..]], &[&[], &[]]] {
            assert_eq!(printed(Format::Json, None, pages), "[]\n");
            assert_eq!(printed(Format::Yaml, None, pages), yaml::<[Item]>(&[]).unwrap());
            assert_eq!(printed(Format::Name, None, pages), "");
            assert_eq!(printed(Format::Table, None, pages), "Nothing.\n");
        }
        assert_eq!(printed(Format::Json, Some(0), &[&[1]]), "[]\n");
    }

    #[test]
    fn no_more_is_printed_than_was_asked_for() {
        assert_eq!(printed(Format::Name, Some(3), &[&[0, 1], &[2, 3], &[4]]), "id0\nid1\nid2\n");
        assert_eq!(printed(Format::Json, Some(1), &[&[0, 1], &[2]]), json(&items(&[0])).unwrap());
        assert_eq!(printed(Format::Table, Some(2), &[&[0, 1, 2]]), "ID   TAGS\nid0  0\nid1  1\n");
    }

    #[test]
    fn a_table_has_one_header_however_many_pages_it_has() {
        assert_eq!(printed(Format::Table, None, &[&[], &[7], &[8, 9]]), "ID   TAGS\nid7  7\nid8  8\nid9  9\n");
    }

    #[test]
    fn a_reader_that_went_away_is_sent_no_further_page() {
        let list = Pages { table: Table::new(), row: |_: &Item| vec![], name: |item| item.id.clone(), limit: None };
        let asked = std::cell::Cell::new(0);
        let pages = stream::repeat_with(|| {
            asked.set(asked.get() + 1);
            Ok(items(&[1]))
        });
        let gone = |_: &str| Err(Failure::stdout(&std::io::ErrorKind::BrokenPipe.into()));
        let outcome = list.print_to(gone, &Look::from(Some(Format::Json)), pages).now_or_never().unwrap();
        assert_eq!((outcome.unwrap_err().exit_code(), asked.get()), (crate::terminal::ExitCode::Ok, 1));
    }
}
