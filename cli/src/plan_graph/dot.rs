//! Plans as DOT, for Graphviz: a frame around each Plan and its points, as v1.6.1 has it.

use super::{Graph, LOG};
use crate::drawing::dot::{FOOT, HEAD, arrow, quoted};
use crate::drawing::escaped;
use crate::lineage::executes;
use knit_api::plan::Plan;
use std::fmt::Write as _;

/// The whole text.
pub fn draw(graph: &Graph) -> String {
    let mut text = String::from(HEAD);
    for (at, plan) in graph.plans().iter().enumerate() {
        frame(&mut text, plan, at == 0);
    }
    text.push('\n');
    for edge in graph.edges() {
        let (from, to) = (&graph.plans()[edge.from], &graph.plans()[edge.to]);
        text.push_str(&arrow(&point(from, edge.output.as_deref()), &point(to, Some(&edge.input)), ""));
    }
    text.push_str(FOOT);
    text
}

/// The name of a Plan's input, output or log.
fn point(plan: &Plan, path: Option<&str>) -> String {
    format!("p{}@{}", plan.summary.id, path.unwrap_or("log"))
}

fn frame(text: &mut String, plan: &Plan, is_start: bool) {
    let name = quoted(&format!("p{}", plan.summary.id));
    text.push_str("\tsubgraph { cluster=true; style=solid; penwidth=0.3; color=\"#DAA520\"; margin=\"0,0\";\n");
    for input in &plan.inputs {
        let path = &input.mountpoint.path;
        let point = quoted(&point(plan, Some(path)));
        let _ = writeln!(text, "\t\t\"{point}\"[shape=point, color=\"#1c9930\"];");
        let _ = writeln!(text, "\t\t\"{point}\" -> \"{name}\" [label=\"{}\", weight=10, penwidth=0.3];", quoted(path));
    }
    let _ = write!(text, "\t\t\"{name}\"[\n\t\t\tshape=none\n\t\t\tcolor=\"#DAA520\"\n");
    text.push_str("\t\t\tlabel=<\n\t\t\t\t<TABLE CELLSPACING=\"0\">\n");
    for row in rows(plan, is_start) {
        let _ = writeln!(text, "\t\t\t\t\t<TR>{row}</TR>");
    }
    text.push_str("\t\t\t\t</TABLE>\n\t\t\t>\n\t\t];\n");
    let outputs = plan.outputs.iter().map(|output| Some(output.mountpoint.path.as_str()));
    for path in outputs.chain(plan.log.iter().map(|_| None)) {
        let point = quoted(&point(plan, path));
        let label = quoted(path.unwrap_or(LOG));
        let _ = writeln!(text, "\t\t\"{point}\"[shape=point, color=\"#1c9930\", margin=\"0,0\"];");
        let _ = writeln!(text, "\t\t\"{name}\" -> \"{point}\" [label=\"{label}\", weight=10, penwidth=0.3];");
    }
    text.push_str("\t}\n");
}

fn rows(plan: &Plan, is_start: bool) -> [String; 3] {
    let active =
        if plan.active { "<FONT COLOR=\"#007700\">active</FONT>" } else { "<FONT COLOR=\"gray\">inactive</FONT>" };
    let background = if is_start { "#EDD9B4" } else { "#FFFFFF" };
    let annotations: Vec<String> = (plan.summary.annotations.iter())
        .map(|one| format!("<B>{}</B>={}", escaped(&one.key), escaped(&one.value)))
        .collect();
    [
        format!(
            "<TD BGCOLOR=\"#DAA520\"><FONT COLOR=\"#FFFFFF\"><B>Plan</B></FONT></TD><TD>{active}</TD>\
             <TD BGCOLOR=\"{background}\">id: {}</TD>",
            escaped(plan.summary.id.as_str())
        ),
        format!("<TD COLSPAN=\"3\">{}</TD>", escaped(&executes(&plan.summary))),
        format!("<TD COLSPAN=\"3\">{}</TD>", annotations.join("<BR/>")),
    ]
}

#[cfg(test)]
mod tests {
    use super::super::tests::sample;
    use super::*;

    #[test]
    fn points_stand_in_the_frame_of_their_plan_and_lead_to_each_other() {
        let text = draw(&sample());
        for line in [
            "\t\t\"ptrain@/in\" -> \"ptrain\" [label=\"/in\", weight=10, penwidth=0.3];\n",
            "\t\t\"ptrain\" -> \"ptrain@log\" [label=\"(log)\", weight=10, penwidth=0.3];\n",
            "<B>team</B>=&lt;a&gt; &amp; &#34;b&#34;",
            "\n\t}\n\n\t\"ptrain@/out/model\" -> \"pcheck@/in/model\";\n\t\"ptrain@log\" -> \"preport@/in/log\";\n\n}",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
    }

    #[test]
    fn paths_and_ids_mean_themselves_whatever_they_hold() {
        let plan = serde_json::from_value(serde_json::json!({
            "planId": "a\"b", "active": true, "inputs": [{"path": "/i\\n\"<x>"}],
        }));
        let text = draw(&Graph::new(plan.unwrap()));
        assert!(text.contains("\"pa\\\"b@/i\\\\n\\\"<x>\" -> \"pa\\\"b\" [label=\"/i\\\\n\\\"<x>\","), "{text}");
        assert!(text.contains("id: a&#34;b"), "{text}");
    }
}
