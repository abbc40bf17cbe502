//! A drawing as Mermaid, for Markdown pages that draw it.
//!
//! Names of nodes are numbers, so that no id is taken for a word of Mermaid's, and every text stands in quotes.
//! Inside them, Mermaid writes a character that means something to it as `#` with its number and `;`.

use super::{Drawing, Node, shortened};
use std::fmt::Write as _;

/// Longest line in a node, in columns.
const LONGEST: usize = 60;

/// The whole text.
pub fn draw(drawing: &Drawing) -> String {
    let mut text = String::from("flowchart LR\n");
    for (at, node) in drawing.nodes.iter().enumerate().filter(|(_, node)| node.frame.is_none()) {
        let _ = writeln!(text, "    {}", shape(at, node));
    }
    for (frame, title) in drawing.frames.iter().enumerate() {
        let _ = writeln!(text, "    subgraph f{frame} [\"{}\"]", quoted(title));
        for (at, node) in drawing.nodes.iter().enumerate().filter(|(_, node)| node.frame == Some(frame)) {
            let _ = writeln!(text, "        {}", shape(at, node));
        }
        text.push_str("    end\n");
    }
    for arrow in &drawing.arrows {
        if arrow.label.is_empty() {
            let _ = writeln!(text, "    n{} --> n{}", arrow.from, arrow.to);
        } else {
            let _ = writeln!(text, "    n{} -->|\"{}\"| n{}", arrow.from, quoted(&arrow.label), arrow.to);
        }
    }
    colours(&mut text, drawing);
    text
}

fn shape(at: usize, node: &Node) -> String {
    if node.look.is_point {
        return format!("n{at}((\" \"))");
    }
    let mut label = format!("<b>{}</b>", quoted(&node.title));
    for line in &node.lines {
        label.push_str("<br/>");
        label.push_str(&quoted(line));
    }
    format!("n{at}[\"{label}\"]")
}

/// One class for each look that occurs.
fn colours(text: &mut String, drawing: &Drawing) {
    let mut looks = Vec::new();
    let mut members: Vec<Vec<String>> = Vec::new();
    for (at, node) in drawing.nodes.iter().enumerate() {
        let class = looks.iter().position(|look| *look == node.look).unwrap_or_else(|| {
            looks.push(node.look);
            members.push(Vec::new());
            looks.len() - 1
        });
        members[class].push(format!("n{at}"));
    }
    for (class, (look, members)) in looks.iter().zip(&members).enumerate() {
        let fill = if look.is_point { look.colour } else { look.background };
        let _ = writeln!(text, "    classDef c{class} fill:{fill},stroke:{},color:#000000", look.colour);
        let _ = writeln!(text, "    class {} c{class}", members.join(","));
    }
}

/// A text inside quotes.
fn quoted(text: &str) -> String {
    let mut out = String::new();
    for letter in shortened(text, LONGEST).chars() {
        match letter {
            // Quotes end the text; the others begin Markdown, HTML, escapes, formulas, directives.
            '"' | '`' | '*' | '_' | '#' | '&' | '<' | '>' | '\\' | ';' | '$' | '%' => {
                let _ = write!(out, "#{};", u32::from(letter));
            }
            letter => out.push(letter),
        }
    }
    // Mermaid takes the last `;` away from a line that looks like one of these statements.
    out.replace("style", "#115;tyle").replace("classDef", "#99;lassDef")
}

#[cfg(test)]
mod tests {
    use super::super::tests::{drawing, node};
    use super::*;

    #[test]
    fn nodes_have_numbers_and_frames_hold_theirs() {
        let mut drawing = drawing("end b", &[("end", "b", "/out"), ("b", "end", "")]);
        drawing.frames.push("Plan p".to_owned());
        drawing.nodes[1].frame = Some(0);
        drawing.nodes[1].look.is_point = true;
        let expected = "\
flowchart LR
    n0[\"<b>end</b>\"]
    subgraph f0 [\"Plan p\"]
        n1((\" \"))
    end
    n0 -->|\"/out\"| n1
    n1 --> n0
    classDef c0 fill:#FFFFFF,stroke:#1c9930,color:#000000
    class n0 c0
    classDef c1 fill:#1c9930,stroke:#1c9930,color:#000000
    class n1 c1
";
        assert_eq!(draw(&drawing), expected);
    }

    #[test]
    fn texts_mean_themselves_whatever_they_hold() {
        let text =
            shape(3, &node("a \"b\"", &["`x`", "<i>&#1;\\n", "style:#fff; classDef", "a\u{1b}\nb", "%%{x}%% $$ __*"]));
        assert_eq!(
            text,
            "n3[\"<b>a #34;b#34;</b><br/>#96;x#96;<br/>#60;i#62;#38;#35;1#59;#92;n<br/>\
             #115;tyle:#35;fff#59; #99;lassDef<br/>a\u{fffd} b<br/>#37;#37;{x}#37;#37; #36;#36; #95;#95;#42;\"]"
        );
    }
}
