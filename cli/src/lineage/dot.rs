//! Lineage as DOT, for Graphviz: nodes, colours and order as v1.6.1 has them. It may be of any size.

use super::{DataNode, Form, Mark, executes, mark};
use crate::drawing::dot::{FOOT, HEAD, arrow, quoted};
use crate::drawing::escaped;
use crate::drawing::spool::{self, Piece, Spool};
use crate::terminal::Failure;
use knit_api::graph::{LineageEdge, LineageEnd};
use knit_api::id::DataId;
use knit_api::run::Run;
use knit_api::tag;
use knit_api::time::Timestamp;
use std::fmt::Write as _;

/// A text that grows. All names are quoted, so that they mean themselves whatever they hold.
#[derive(Debug, Default)]
pub struct Dot {
    /// The Data whose lineage it is.
    start: Option<DataId>,
    data: Spool,
    runs: Spool,
    roots: Spool,
    edges: Spool,
}

impl Form for Dot {
    type Data = DataNode;

    fn data(&mut self, data: DataNode) -> Result<(), Failure> {
        let start = self.start.get_or_insert_with(|| data.id.clone());
        let rows = data_rows(&data, data.id == *start);
        self.data.push(&node(&format!("d{}", data.id), "#1c9930", &rows))
    }

    fn run(&mut self, run: Run) -> Result<(), Failure> {
        self.runs.push(&node(&format!("r{}", run.summary.id), "#FFA500", &run_rows(&run)))
    }

    fn edge(&mut self, edge: LineageEdge) -> Result<(), Failure> {
        if let LineageEnd::Root(_) = edge.from {
            self.roots.push(&format!("\t\"{}\"[shape=Mdiamond];\n", name(&edge.from)))?;
        }
        self.edges.push(&arrow(&name(&edge.from), &name(&edge.to), &edge.label))
    }
}

impl Dot {
    /// Prints the whole text.
    pub fn print(self) -> Result<(), Failure> {
        spool::print(self.into_pieces()?)
    }

    fn into_pieces(self) -> Result<Vec<Piece>, Failure> {
        let Self { data, runs, roots, edges, .. } = self;
        Ok(vec![
            HEAD.into(),
            data.into_piece()?,
            runs.into_piece()?,
            roots.into_piece()?,
            "\n".into(),
            edges.into_piece()?,
            FOOT.into(),
        ])
    }
}

fn name(end: &LineageEnd) -> String {
    match end {
        LineageEnd::KnitId(id) => format!("d{id}"),
        LineageEnd::RunId(id) => format!("r{id}"),
        LineageEnd::Root(root) => format!("root#{root}"),
    }
}

/// A row that is empty leaves an empty line, as it always did.
fn node(name: &str, colour: &str, rows: &[String]) -> String {
    let mut text = format!("\t\"{}\"[\n\t\tshape=none\n\t\tcolor=\"{colour}\"\n", quoted(name));
    text.push_str("\t\tlabel=<\n\t\t\t<TABLE CELLSPACING=\"0\">\n");
    for row in rows {
        let _ = if row.is_empty() { writeln!(text, "\t\t\t\t") } else { writeln!(text, "\t\t\t\t<TR>{row}</TR>") };
    }
    text.push_str("\t\t\t</TABLE>\n\t\t>\n\t];\n");
    text
}

fn data_rows(data: &DataNode, is_start: bool) -> [String; 3] {
    let background = if is_start { "#d4ecc6" } else { "#FFFFFF" };
    let head = format!(
        "<TD BGCOLOR=\"#1c9930\"><FONT COLOR=\"#FFFFFF\"><B>Data</B></FONT></TD>\
         <TD BGCOLOR=\"{background}\">knit#id: {}</TD>",
        escaped(data.id.as_str())
    );
    let system: Vec<String> = data.tags.iter().filter_map(system_tag).collect();
    let system = if system.is_empty() {
        String::new()
    } else {
        format!("<TD COLSPAN=\"2\"><FONT POINT-SIZE=\"8\">{}</FONT></TD>", system.join(" | "))
    };
    let user: Vec<String> =
        data.user_tags().map(|tag| format!("<B>{}</B>:{}", escaped(&tag.key), escaped(&tag.value))).collect();
    [head, system, format!("<TD COLSPAN=\"2\">{}</TD>", user.join("<BR/>"))]
}

/// The time in the zone of this machine, or the state.
fn system_tag(tag: &tag::Tag) -> Option<String> {
    match tag.key.as_str() {
        tag::TIMESTAMP => Some(match Timestamp::parse_strict(&tag.value) {
            Ok(time) => time.in_local_zone().to_string(),
            Err(_) => escaped(&tag.value),
        }),
        tag::TRANSIENT => Some(escaped(&tag.to_string())),
        _ => None,
    }
}

fn run_rows(run: &Run) -> [String; 3] {
    let status = run.summary.status;
    let shown = match mark(status) {
        Mark::Parked => format!("<FONT COLOR=\"gray\"><B>{status}</B></FONT>"),
        Mark::Well => format!("<FONT COLOR=\"#007700\"><B>{status}</B></FONT>"),
        Mark::Badly => format!("<FONT COLOR=\"red\"><B>{status}</B></FONT>"),
        Mark::Plain => status.to_string(),
    };
    [
        format!(
            "<TD BGCOLOR=\"#FFA500\"><FONT COLOR=\"#FFFFFF\"><B>Run</B></FONT></TD><TD>{shown}</TD>\
             <TD BGCOLOR=\"#FFFFFF\">id: {}</TD>",
            escaped(run.summary.id.as_str())
        ),
        format!(
            "<TD COLSPAN=\"3\"><FONT POINT-SIZE=\"8\">last updated: {}</FONT></TD>",
            run.summary.updated_at.in_local_zone()
        ),
        format!("<TD COLSPAN=\"3\">{}</TD>", escaped(&executes(&run.summary.plan))),
    ]
}

#[cfg(test)]
mod tests {
    use super::super::tests::sample;
    use super::*;
    use std::io::Read as _;

    #[test]
    fn names_and_tags_mean_themselves_whatever_they_hold() {
        let mut dot = Dot::default();
        sample().draw(&mut dot).unwrap();
        let mut text = String::new();
        for piece in dot.into_pieces().unwrap() {
            match piece {
                Piece::Spooled(mut piece) => drop(piece.read_to_string(&mut text).unwrap()),
                Piece::Text(piece) => text.push_str(&piece),
            }
        }
        assert!(text.contains("<B>type</B>:&#34;model&#34; &lt;b&gt; &amp; \\</TD>"), "{text}");
        assert!(text.contains("\t\"dset\" -> \"rtrain\" [label=\"/in\"];\n"), "{text}");
        assert!(
            text.ends_with("\t\"rupl\" -> \"dset\" [label=\"/upload\"];\n\t\"root#0\" -> \"rupl\";\n\n}"),
            "{text}"
        );
    }
}
