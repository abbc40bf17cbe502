//! Lineage as DOT, for Graphviz: nodes, colours and order as v1.6.1 has them.

use super::{Graph, Mark, Node, escaped, executes, mark};
use knit_api::data::Data;
use knit_api::run::Run;
use knit_api::tag;
use knit_api::time::Timestamp;
use std::fmt::Write as _;

/// The whole text. All names are quoted, so that they mean themselves whatever they hold.
pub fn draw(graph: &Graph) -> String {
    let mut text = String::from("digraph G {\n\tnode [shape=record fontsize=10]\n\tedge [fontsize=10]\n\n");
    for data in graph.data() {
        node(&mut text, &format!("d{}", data.id), "#1c9930", &data_rows(data, data.id == *graph.start()));
    }
    for run in graph.runs() {
        node(&mut text, &format!("r{}", run.summary.id), "#FFA500", &run_rows(run));
    }
    for root in 0..graph.roots() {
        let _ = writeln!(text, "\t\"root#{root}\"[shape=Mdiamond];");
    }
    text.push('\n');
    for edge in graph.edges() {
        let _ = write!(text, "\t\"{}\" -> \"{}\"", name(graph, edge.from), name(graph, edge.to));
        if !edge.label.is_empty() {
            let _ = write!(text, " [label=\"{}\"]", quoted(&edge.label));
        }
        text.push_str(";\n");
    }
    text.push_str("\n}");
    text
}

fn name(graph: &Graph, node: Node) -> String {
    match node {
        Node::Data(at) => quoted(&format!("d{}", graph.data()[at].id)),
        Node::Run(at) => quoted(&format!("r{}", graph.runs()[at].summary.id)),
        Node::Root(at) => format!("root#{at}"),
    }
}

fn node(text: &mut String, name: &str, colour: &str, rows: &[String]) {
    let _ = write!(text, "\t\"{}\"[\n\t\tshape=none\n\t\tcolor=\"{colour}\"\n", quoted(name));
    text.push_str("\t\tlabel=<\n\t\t\t<TABLE CELLSPACING=\"0\">\n");
    for row in rows {
        let _ = writeln!(text, "\t\t\t\t<TR>{row}</TR>");
    }
    text.push_str("\t\t\t</TABLE>\n\t\t>\n\t];\n");
}

fn data_rows(data: &Data, is_start: bool) -> Vec<String> {
    let background = if is_start { "#d4ecc6" } else { "#FFFFFF" };
    let head = format!(
        "<TD BGCOLOR=\"#1c9930\"><FONT COLOR=\"#FFFFFF\"><B>Data</B></FONT></TD>\
         <TD BGCOLOR=\"{background}\">knit#id: {}</TD>",
        escaped(data.id.as_str())
    );
    let mut rows = vec![head];
    let system: Vec<String> = data.tags.iter().filter_map(system_tag).collect();
    if !system.is_empty() {
        rows.push(format!("<TD COLSPAN=\"2\"><FONT POINT-SIZE=\"8\">{}</FONT></TD>", system.join(" | ")));
    }
    let user: Vec<String> =
        data.user_tags().map(|tag| format!("<B>{}</B>:{}", escaped(&tag.key), escaped(&tag.value))).collect();
    rows.push(format!("<TD COLSPAN=\"2\">{}</TD>", user.join("<BR/>")));
    rows
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

fn run_rows(run: &Run) -> Vec<String> {
    let status = run.summary.status;
    let shown = match mark(status) {
        Mark::Parked => format!("<FONT COLOR=\"gray\"><B>{status}</B></FONT>"),
        Mark::Well => format!("<FONT COLOR=\"#007700\"><B>{status}</B></FONT>"),
        Mark::Badly => format!("<FONT COLOR=\"red\"><B>{status}</B></FONT>"),
        Mark::Plain => status.to_string(),
    };
    vec![
        format!(
            "<TD BGCOLOR=\"#FFA500\"><FONT COLOR=\"#FFFFFF\"><B>Run</B></FONT></TD><TD>{shown}</TD>\
             <TD BGCOLOR=\"#FFFFFF\">id: {}</TD>",
            escaped(run.summary.id.as_str())
        ),
        format!(
            "<TD COLSPAN=\"3\"><FONT POINT-SIZE=\"8\">last updated: {}</FONT></TD>",
            run.summary.updated_at.in_local_zone()
        ),
        format!("<TD COLSPAN=\"3\">{}</TD>", escaped(&executes(run))),
    ]
}

/// Inside double quotes.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '"' | '\\' => out.extend(['\\', letter]),
            letter if letter.is_control() => out.push(char::REPLACEMENT_CHARACTER),
            letter => out.push(letter),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::tests::sample;
    use super::*;

    #[test]
    fn names_and_tags_mean_themselves_whatever_they_hold() {
        let text = draw(&sample());
        assert!(text.contains("<B>type</B>:&#34;model&#34; &lt;b&gt; &amp; \\</TD>"), "{text}");
        assert!(text.contains("\t\"dset\" -> \"rtrain\" [label=\"/in\"];\n"), "{text}");
        assert!(
            text.ends_with("\t\"rupl\" -> \"dset\" [label=\"/upload\"];\n\t\"root#0\" -> \"rupl\";\n\n}"),
            "{text}"
        );
        assert_eq!(quoted("a\"b\\\n"), "a\\\"b\\\\\u{fffd}");
    }
}
