//! Tables for a person: a header, aligned columns, no frame. They fit the terminal: text folds, ids never do,
//! and where even that does not fit, each row becomes a few lines.

use super::time::Times;
use super::{Failure, plain, stdout_has_colour, stdout_is_terminal};
use comfy_table::{Color, ColumnConstraint, ContentArrangement, Width};
use knit_api::time::Timestamp;
use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

/// Columns of a row are this far apart.
const GAP: usize = 2;
/// Text is not folded into less than this.
const LEAST: usize = 8;
/// Nor a text that is cut into less than this.
const LEAST_BRIEF: usize = 10;
/// Longest text of a cell, in characters: other forms of output have it whole.
const LONGEST: usize = 4000;

#[derive(Clone)]
struct Column {
    name: &'static str,
    kind: Kind,
}

/// What becomes of a column where room is short.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// It folds.
    Folding,
    /// It gets what room the others leave, and ends after about two lines.
    Brief,
    /// It stays as it is.
    Whole,
    /// It is left out.
    Spare,
    /// It is there only where there is room for anything, or where it is asked for; then it stays as it is.
    Wide,
}

impl Kind {
    fn is_whole(self) -> bool {
        matches!(self, Self::Whole | Self::Wide)
    }
}

/// What a cell says of its row beside its text; shown as colour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tone {
    /// Nothing.
    #[default]
    Plain,
    /// All is well.
    Good,
    /// Something is under way.
    Busy,
    /// Something is to come.
    Waiting,
    /// Something went wrong.
    Bad,
    /// Of no interest any more.
    Faint,
}

impl Tone {
    fn colour(self) -> Option<Color> {
        match self {
            Self::Plain => None,
            Self::Good => Some(Color::DarkGreen),
            Self::Busy => Some(Color::DarkCyan),
            Self::Waiting => Some(Color::DarkYellow),
            Self::Bad => Some(Color::DarkRed),
            Self::Faint => Some(Color::DarkGrey),
        }
    }
}

#[derive(Clone, Debug)]
enum Content {
    Text(String),
    Time(Timestamp),
}

/// One cell of a row. It may hold anything: it is made plain before it is shown.
#[derive(Clone, Debug)]
pub struct Cell {
    content: Content,
    tone: Tone,
}

impl Cell {
    /// A time, which the table shows as it fits whoever reads it.
    pub fn time(time: Timestamp) -> Self {
        Self { content: Content::Time(time), tone: Tone::Plain }
    }

    /// Text with a tone.
    pub fn toned(text: impl Into<String>, tone: Tone) -> Self {
        Self { content: Content::Text(text.into()), tone }
    }

    fn show(&self, times: Times) -> String {
        let text = match &self.content {
            Content::Text(text) => text,
            Content::Time(time) => return times.show(*time),
        };
        let text = match text.char_indices().nth(LONGEST) {
            Some((end, _)) => plain(&format!("{}…", &text[..end])).into_owned(),
            None => plain(text).into_owned(),
        };
        text.replace('\t', " ")
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::toned(text, Tone::Plain)
    }
}

/// Rows under named columns.
#[derive(Clone, Default)]
pub struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<Cell>>,
    empty: Option<String>,
}

/// Some of the columns of a table, in the order in which they were asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection(Vec<usize>);

impl Selection {
    /// The place in the selection of the first column that stands in it before.
    pub(super) fn repeated(&self) -> Option<usize> {
        (0..self.0.len()).find(|n| self.0[..*n].contains(&self.0[*n]))
    }
}

/// What a table looks like to whoever reads it.
#[derive(Clone, Debug)]
pub struct View {
    /// All columns, and nothing is folded.
    pub wide: bool,
    /// The names of the columns stand above them.
    pub headers: bool,
    /// These columns instead of the usual ones.
    pub selection: Option<Selection>,
    /// So many characters fit into a line.
    pub width: Option<usize>,
    /// Tones are shown.
    pub colour: bool,
    /// How times are shown.
    pub times: Times,
}

impl View {
    /// As it fits stdout.
    pub fn of_stdout(wide: bool) -> Self {
        let terminal = stdout_is_terminal();
        // A terminal may not know its width.
        let width = comfy_table::Table::new().width().map(usize::from).filter(|width| terminal && *width > 0);
        Self {
            wide,
            headers: true,
            selection: None,
            width: width.filter(|_| !wide),
            colour: stdout_has_colour(),
            times: if terminal && !wide { Times::since_now() } else { Times::Full },
        }
    }
}

/// How the columns of a table are arranged: decided once, for all rows of a list that may come in pages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Side by side: the place of each, and how wide it is.
    Columns(Vec<(usize, usize)>),
    /// One below the other, because they do not fit side by side.
    Records,
}

impl Table {
    /// An empty table without columns.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a column whose cells wrap when the terminal is narrow.
    #[must_use]
    pub fn column(self, name: &'static str) -> Self {
        self.with(name, Kind::Folding)
    }

    /// Adds a column whose cells are never wrapped: ids and other things that people copy.
    #[must_use]
    pub fn whole(self, name: &'static str) -> Self {
        self.with(name, Kind::Whole)
    }

    /// Adds a column that only the wide form shows. Its cells are never wrapped either.
    #[must_use]
    pub fn wide(self, name: &'static str) -> Self {
        self.with(name, Kind::Wide)
    }

    /// Adds a column that is left out where not all columns fit side by side.
    #[must_use]
    pub fn spare(self, name: &'static str) -> Self {
        self.with(name, Kind::Spare)
    }

    /// Adds a column of long words of which the beginning does, where the terminal is narrow.
    #[must_use]
    pub fn brief(self, name: &'static str) -> Self {
        self.with(name, Kind::Brief)
    }

    fn with(mut self, name: &'static str, kind: Kind) -> Self {
        self.columns.push(Column { name, kind });
        self
    }

    /// What to print instead of a header without rows.
    #[must_use]
    pub fn when_empty(mut self, text: impl Into<String>) -> Self {
        self.empty = Some(text.into());
        self
    }

    /// Adds a row; one cell per column, those of the wide form included.
    pub fn row<I: IntoIterator<Item: Into<Cell>>>(&mut self, cells: I) {
        let cells: Vec<Cell> = cells.into_iter().map(Into::into).collect();
        debug_assert_eq!(cells.len(), self.columns.len(), "one cell per column");
        self.rows.push(cells);
    }

    /// Takes the rows away, and leaves the columns.
    pub fn clear(&mut self) {
        self.rows.clear();
    }

    /// True without rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Finds columns by their names as people write them: `made-by` is `MADE BY`.
    ///
    /// # Errors
    /// A usage failure that names the columns there are.
    pub fn select(&self, names: &[String]) -> Result<Selection, Failure> {
        let folded = |name: &str| name.trim().to_lowercase().replace(['-', '_'], " ");
        let written = |name: &str| name.to_lowercase().replace(' ', "-");
        let known: Vec<String> = self.columns.iter().map(|column| folded(column.name)).collect();
        let find = |name: &String| {
            let wanted = folded(name);
            known.iter().position(|name| *name == wanted).ok_or_else(|| {
                let all = self.columns.iter().map(|column| written(column.name)).collect::<Vec<_>>().join(",");
                let near = crate::yaml::nearest(&wanted, &known.iter().map(String::as_str).collect::<Vec<_>>());
                let failure = Failure::usage(format!("there is no column \"{name}\""));
                match near {
                    Some(near) => failure.why(format!("did you mean {}?", written(near))),
                    None => failure,
                }
                .advice(format!("choose among --columns {all}"))
            })
        };
        names.iter().map(find).collect::<Result<_, _>>().map(Selection)
    }

    /// The table as text with a closing newline, fitted to the terminal if there is one.
    pub fn render(&self, wide: bool) -> String {
        self.render_as(&View::of_stdout(wide))
    }

    /// The whole table as text with a closing newline.
    pub fn render_as(&self, view: &View) -> String {
        if self.is_empty() {
            return self.nothing(view);
        }
        self.page(&self.layout(view), view, true)
    }

    /// Every row with all its columns, one below the other: for a single thing.
    pub fn describe(&self, view: &View) -> String {
        self.page(&Layout::Records, &View { wide: true, ..view.clone() }, true)
    }

    /// What stands for a table without rows: words for a person, nothing for a program that counts lines.
    pub fn nothing(&self, view: &View) -> String {
        match &self.empty {
            _ if !view.headers => String::new(),
            Some(empty) => format!("{empty}\n"),
            None => self.page(&self.layout(view), view, true),
        }
    }

    /// How the rows that are here, and those that follow them, are arranged.
    pub fn layout(&self, view: &View) -> Layout {
        let mut shown: Vec<(usize, usize)> =
            self.shown(view).into_iter().map(|at| (at, self.natural(at, view))).collect();
        let Some(width) = view.width else { return Layout::Columns(shown) };
        let whole_width = |shown: &[(usize, usize)]| {
            shown.iter().map(|(_, width)| width).sum::<usize>() + GAP * shown.len().saturating_sub(1)
        };
        if whole_width(&shown) > width && view.selection.is_none() {
            shown.retain(|(at, _)| self.columns[*at].kind != Kind::Spare);
        }
        if whole_width(&shown) <= width {
            return Layout::Columns(shown);
        }
        let kind = |place: &usize| self.columns[shown[*place].0].kind;
        let (brief, folding): (Vec<usize>, Vec<usize>) =
            (0..shown.len()).filter(|place| !kind(place).is_whole()).partition(|place| kind(place) == Kind::Brief);
        let wanted = |places: &[usize], least: usize| -> Vec<(usize, usize)> {
            let of = |(at, natural): (usize, usize)| (natural, natural.min(least.max(self.heading(at, view))));
            places.iter().map(|&place| of(shown[place])).collect()
        };
        let (of_folding, of_brief) = (wanted(&folding, LEAST), wanted(&brief, LEAST_BRIEF));
        let fixed = whole_width(&shown) - of_folding.iter().chain(&of_brief).map(|(natural, _)| natural).sum::<usize>();
        let shares = width.checked_sub(fixed).and_then(|room| {
            let kept = of_brief.iter().map(|(_, least)| least).sum();
            let mut shares = share(room.checked_sub(kept)?, &of_folding)?;
            shares.extend(share(room - shares.iter().sum::<usize>(), &of_brief)?);
            Some(shares)
        });
        let Some(shares) = shares else { return Layout::Records };
        for (place, share) in folding.into_iter().chain(brief).zip(shares) {
            shown[place].1 = share;
        }
        Layout::Columns(shown)
    }

    /// The layout for rows that follow others: the same, unless what must stay whole leaves no room for it.
    pub fn keep(&self, layout: &Layout, view: &View) -> Layout {
        let (Layout::Columns(shown), Some(most)) = (layout, view.width) else { return layout.clone() };
        let widths = shown.iter().map(|&(at, width)| self.width(at, width, view));
        if widths.sum::<usize>() + GAP * shown.len().saturating_sub(1) > most
            && let anew @ Layout::Columns(_) = self.layout(view)
        {
            return anew;
        }
        layout.clone()
    }

    /// How wide a column is that was made so wide: whole cells may be wider than those of an earlier page.
    fn width(&self, at: usize, width: usize, view: &View) -> usize {
        if self.columns[at].kind.is_whole() || view.width.is_none() { width.max(self.natural(at, view)) } else { width }
    }

    /// The rows as text; `first` when nothing stands above them yet.
    pub fn page(&self, layout: &Layout, view: &View, first: bool) -> String {
        match layout {
            Layout::Columns(shown) => self.side_by_side(shown, view, first),
            Layout::Records => self.one_below_the_other(view, first),
        }
    }

    fn side_by_side(&self, shown: &[(usize, usize)], view: &View, first: bool) -> String {
        let mut table = blank();
        if first && view.headers {
            table.set_header(shown.iter().map(|(at, _)| self.columns[*at].name));
        }
        for row in &self.rows {
            table.add_row(shown.iter().map(|&(at, width)| {
                let brief = self.columns[at].kind == Kind::Brief && view.width.is_some();
                cell(row, at, view, brief.then_some(2 * width))
            }));
        }
        if view.colour {
            table.enforce_styling().style_text_only();
        }
        set_widths(&mut table, shown.iter().map(|&(at, width)| self.width(at, width, view)));
        ended(&table)
    }

    /// Empty cells are left out: a name without a value says nothing. Words are never folded here.
    fn one_below_the_other(&self, view: &View, first: bool) -> String {
        let shown = self.shown(view);
        let names = shown.iter().map(|&at| self.heading(at, view)).max().unwrap_or_default();
        let room = view.width.map(|width| width.saturating_sub(if view.headers { names + GAP } else { 0 }));
        let mut text = String::new();
        for (nth, row) in self.rows.iter().enumerate() {
            let mut table = blank();
            let mut widest = 1;
            for &at in &shown {
                let value = cell(row, at, view, None);
                let content = value.content();
                if content.is_empty() {
                    continue;
                }
                let parts = |line: &str| match room {
                    Some(room) => line.split(' ').map(|word| word.width().max(line.width().min(room))).max(),
                    None => Some(line.width()),
                };
                widest = content.lines().filter_map(parts).fold(widest, usize::max);
                let name = view.headers.then(|| comfy_table::Cell::new(self.columns[at].name));
                table.add_row(name.into_iter().chain([value]));
            }
            if view.colour {
                table.enforce_styling().style_text_only();
            }
            let widths = if view.headers { vec![names, widest] } else { vec![widest] };
            set_widths(&mut table, widths.into_iter());
            if nth > 0 || !first {
                text.push('\n');
            }
            text.push_str(&ended(&table));
        }
        text
    }

    /// The columns that are shown, by their places.
    fn shown(&self, view: &View) -> Vec<usize> {
        match &view.selection {
            Some(Selection(places)) => places.clone(),
            None => (0..self.columns.len()).filter(|&at| view.wide || self.columns[at].kind != Kind::Wide).collect(),
        }
    }

    /// How wide a column is when nothing is folded.
    fn natural(&self, at: usize, view: &View) -> usize {
        let cells = self.rows.iter().filter_map(|row| row.get(at));
        let widest = cells.filter_map(|cell| cell.show(view.times).lines().map(str::width).max()).max();
        widest.unwrap_or_default().max(self.heading(at, view))
    }

    fn heading(&self, at: usize, view: &View) -> usize {
        if view.headers { self.columns[at].name.width() } else { 0 }
    }
}

/// Shares the room among columns, each with what it needs and what is the least for it: whoever needs less than an
/// equal share gets what it needs. `None` when there is not even room for the least.
fn share(mut room: usize, wanted: &[(usize, usize)]) -> Option<Vec<usize>> {
    if wanted.iter().map(|(_, least)| least).sum::<usize>() > room {
        return None;
    }
    let mut shares = vec![0; wanted.len()];
    let mut open: Vec<usize> = (0..wanted.len()).collect();
    while !open.is_empty() {
        let equal = room / open.len();
        let settled = open.iter().position(|&one| wanted[one].0 <= equal || wanted[one].1 > equal);
        let one = open.remove(settled.unwrap_or_default());
        let (natural, least) = wanted[one];
        shares[one] = natural.min(equal.max(least));
        room = room.saturating_sub(shares[one]);
    }
    Some(shares)
}

fn cell(row: &[Cell], at: usize, view: &View, most: Option<usize>) -> comfy_table::Cell {
    let Some(cell) = row.get(at) else { return comfy_table::Cell::new("") };
    let mut text = cell.show(view.times);
    if let Some(most) = most {
        cut(&mut text, most);
    }
    let shown = comfy_table::Cell::new(text);
    match cell.tone.colour() {
        Some(colour) if view.colour => shown.fg(colour),
        _ => shown,
    }
}

/// Cuts a text that is wider than this, where a word ends if one ends near.
fn cut(text: &mut String, most: usize) {
    if text.as_str().width() <= most {
        return;
    }
    // Folding wastes some room at the end of a line.
    let room = most - most / 6;
    let (mut width, mut end) = (0, 0);
    for (at, c) in text.char_indices() {
        width += c.width().unwrap_or_default();
        if width >= room {
            break;
        }
        end = at + c.len_utf8();
    }
    let word = text[..end].rfind(' ').filter(|word| end - word < 10).unwrap_or(end);
    text.truncate(word);
    text.push('…');
}

fn blank() -> comfy_table::Table {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    // Widths and colours are decided here.
    table.set_content_arrangement(ContentArrangement::Disabled).force_no_tty();
    table
}

/// Makes columns exactly so wide.
fn set_widths(table: &mut comfy_table::Table, widths: impl Iterator<Item = usize>) {
    for (place, width) in widths.enumerate() {
        let Some(column) = table.column_mut(place) else { continue };
        let width = (width + GAP).min(usize::from(u16::MAX)) as u16;
        column.set_padding((0, GAP as u16)).set_constraint(ColumnConstraint::Absolute(Width::Fixed(width)));
    }
}

fn ended(table: &comfy_table::Table) -> String {
    let mut text = table.trim_fmt();
    text.push('\n');
    text
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

    fn view(width: usize) -> View {
        let now = Timestamp::parse_strict("2025-02-03T04:05:06Z").unwrap();
        View {
            wide: false,
            headers: true,
            selection: None,
            width: Some(width),
            colour: false,
            times: Times::Since(now),
        }
    }

    fn runs() -> Table {
        let mut table =
            Table::new().whole("ID").whole("STATUS").column("PLAN").whole("SINCE").brief("RESULT").wide("PLAN ID");
        let ids = ["0b1c2d3e-aaaa-4bbb-8ccc-0123456789ab", "77aa2d3e-aaaa-4bbb-8ccc-0123456789ab"];
        let times = ["2025-02-03T04:02:00Z", "2025-02-01T04:02:00Z"].map(|text| Timestamp::parse_strict(text).unwrap());
        table.row([
            Cell::from(ids[0]),
            Cell::toned("running", Tone::Busy),
            "train:v1".into(),
            Cell::time(times[0]),
            "".into(),
            "p1".into(),
        ]);
        table.row([
            Cell::from(ids[1]),
            Cell::toned("failed", Tone::Bad),
            "検証/評価:v2".into(),
            Cell::time(times[1]),
            "exit code 137: the worker was killed, out of memory 🙈".into(),
            "p2".into(),
        ]);
        table
    }

    #[test]
    fn columns_are_aligned_and_rows_may_have_several_lines() {
        assert_eq!(sample().render_as(&view(200)), "ID      TAGS\na1      x:y\n        name:z\nb22222  q\n");
    }

    #[test]
    fn the_wide_form_has_more_columns_and_no_control_characters() {
        let text = sample().render(true);
        assert!(text.starts_with("ID      TAGS    MORE\n"), "{text}");
        assert!(!text.contains('\u{1b}'), "{text}");
    }

    #[test]
    fn a_table_fits_into_any_terminal() {
        assert_eq!(
            runs().render_as(&view(200)),
            "\
ID                                    STATUS   PLAN          SINCE   RESULT
0b1c2d3e-aaaa-4bbb-8ccc-0123456789ab  running  train:v1      3m ago
77aa2d3e-aaaa-4bbb-8ccc-0123456789ab  failed   検証/評価:v2  2d ago  exit code 137: the worker was killed, out of memory 🙈
"
        );
        assert_eq!(
            runs().render_as(&view(80)),
            "\
ID                                    STATUS   PLAN          SINCE   RESULT
0b1c2d3e-aaaa-4bbb-8ccc-0123456789ab  running  train:v1      3m ago
77aa2d3e-aaaa-4bbb-8ccc-0123456789ab  failed   検証/評価:v2  2d ago  exit code
                                                                     137:…
"
        );
        assert_eq!(
            runs().render_as(&view(40)),
            "\
ID      0b1c2d3e-aaaa-4bbb-8ccc-0123456789ab
STATUS  running
PLAN    train:v1
SINCE   3m ago

ID      77aa2d3e-aaaa-4bbb-8ccc-0123456789ab
STATUS  failed
PLAN    検証/評価:v2
SINCE   2d ago
RESULT  exit code 137: the worker was
        killed, out of memory 🙈
"
        );
    }

    #[test]
    fn no_line_is_longer_than_the_terminal_and_no_id_is_folded() {
        for width in 65..200 {
            let text = runs().render_as(&view(width));
            assert!(text.lines().all(|line| line.width() <= width), "{width}:\n{text}");
            assert!(text.contains("77aa2d3e-aaaa-4bbb-8ccc-0123456789ab"), "{width}:\n{text}");
        }
    }

    #[test]
    fn a_spare_column_is_there_where_all_fit_and_where_it_is_asked_for() {
        let mut table = Table::new().whole("ID").column("TAGS").spare("MADE BY").whole("N");
        table.row(["d1", "project:digits", "knit#uploaded", "1"]);
        assert_eq!(table.render_as(&view(36)).lines().next(), Some("ID  TAGS            MADE BY        N"));
        assert_eq!(table.render_as(&view(35)), "ID  TAGS            N\nd1  project:digits  1\n");
        let selection = table.select(&["made-by".to_owned(), "tags".to_owned()]).unwrap();
        let chosen = table.render_as(&View { selection: Some(selection), ..view(20) });
        assert_eq!(chosen, "MADE BY    TAGS\nknit#uplo  project:d\naded       igits\n");
    }

    #[test]
    fn a_text_is_cut_where_a_word_ends() {
        for (text, most, shown) in [
            ("one two three", 13, "one two three"),
            ("one two three", 12, "one two…"),
            ("0123456789012345678901234567890", 24, "0123456789012345678…"),
            ("検証検証検証", 6, "検証…"),
            ("検証", 1, "…"),
        ] {
            let mut text = text.to_owned();
            cut(&mut text, most);
            assert_eq!(text, shown);
        }
    }

    #[test]
    fn room_is_shared_without_loss_and_nobody_gets_less_than_its_least() {
        assert_eq!(share(30, &[(5, 5), (40, 8), (40, 8)]), Some(vec![5, 12, 13]));
        assert_eq!(share(30, &[(40, 14), (40, 8), (9, 8)]), Some(vec![14, 8, 8]));
        assert_eq!(share(21, &[(40, 14), (40, 8)]), None);
        assert_eq!(share(0, &[]), Some(vec![]));
    }

    #[test]
    fn columns_are_chosen_by_name_however_it_is_written() {
        let table = runs();
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let selection = table.select(&names(&["plan-id", "Status", "PLAN ID", "plan_id"])).unwrap();
        let view = View { selection: Some(selection), headers: false, ..view(80) };
        assert_eq!(table.render_as(&view), "p1  running  p1  p1\np2  failed   p2  p2\n");
        let failure = table.select(&names(&["statsu"])).unwrap_err();
        assert_eq!(
            failure.to_string(),
            "there is no column \"statsu\": did you mean status?\n  try: choose among --columns id,status,plan,since,result,plan-id"
        );
        let failure = table.select(&names(&["colour"])).unwrap_err().to_string();
        assert!(failure.starts_with("there is no column \"colour\"\n  try: choose among"), "{failure}");
    }

    #[test]
    fn later_pages_keep_the_widths_of_the_first() {
        let mut table = Table::new().whole("ID").column("TEXT").whole("N");
        table.row(["a", "some words that fill a line", "1"]);
        let view = view(24);
        let layout = table.layout(&view);
        let first = table.page(&layout, &view, true);
        assert_eq!(first, "ID  TEXT               N\na   some words that    1\n    fill a line\n");
        table.clear();
        table.row(["b", "more words that are here", "2"]);
        assert_eq!(table.page(&layout, &view, false), "b   more words that    2\n    are here\n");
        table.clear();
        table.row(["long-id", "x", "3"]);
        let anew = table.keep(&layout, &view);
        assert_eq!(table.page(&anew, &view, false), "long-id  x     3\n");
        table.clear();
        table.row(["c", "words", "4"]);
        assert_eq!(table.keep(&layout, &view), layout);
    }

    #[test]
    fn an_empty_table_says_so_to_a_person_alone() {
        let table = Table::new().column("ID").when_empty("No Data.");
        assert_eq!(table.render_as(&view(80)), "No Data.\n");
        assert_eq!(table.render_as(&View { headers: false, ..view(80) }), "");
    }

    #[test]
    fn a_single_thing_is_told_line_by_line_without_what_is_empty() {
        let mut table = Table::new().whole("ID").column("TAGS").wide("RUN ID").column("REASON");
        table.row(["d1", "a:b\nc:d", "r1", ""]);
        assert_eq!(table.describe(&view(30)), "ID      d1\nTAGS    a:b\n        c:d\nRUN ID  r1\n");
    }

    #[test]
    fn a_cell_has_a_longest_text() {
        let mut table = Table::new().column("TEXT");
        table.row(["x".repeat(1_000_000)]);
        assert_eq!(
            table.render_as(&View { width: None, ..view(80) }).lines().nth(1).map(str::width),
            Some(LONGEST + 1)
        );
    }
}
