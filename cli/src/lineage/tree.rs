//! Lineage as text for a terminal: two trees that grow from the Data, one of what it was made from, one
//! of what was made from it.

use super::{Graph, Node, executes};
use crate::terminal::plain;
use std::collections::HashSet;

/// The whole text.
pub fn draw(graph: &Graph) -> String {
    let mut drawing =
        Drawing { graph, into: vec![Vec::new(); size(graph)], out: vec![Vec::new(); size(graph)], text: String::new() };
    for (at, edge) in graph.edges().iter().enumerate() {
        if let (Some(from), Some(to)) = (drawing.slot(edge.from), drawing.slot(edge.to)) {
            drawing.out[from].push(at);
            drawing.into[to].push(at);
        }
    }
    let start = Node::Data(0);
    drawing.line("", &drawing.title(start));
    let (made_from, led_to) = (drawing.has(start, false), drawing.has(start, true));
    if made_from {
        drawing.line("", "made from");
        drawing.grow(start, false);
    }
    if led_to {
        drawing.line("", "led to");
        drawing.grow(start, true);
    }
    drawing.text
}

fn size(graph: &Graph) -> usize {
    graph.data().len() + graph.runs().len()
}

struct Drawing<'a> {
    graph: &'a Graph,
    /// Edges by the node they end at.
    into: Vec<Vec<usize>>,
    /// Edges by the node they begin at.
    out: Vec<Vec<usize>>,
    text: String,
}

impl Drawing<'_> {
    /// The place of a node in the tables; roots have none.
    fn slot(&self, node: Node) -> Option<usize> {
        match node {
            Node::Data(at) => Some(at),
            Node::Run(at) => Some(self.graph.data().len() + at),
            Node::Root(_) => None,
        }
    }

    fn edges(&self, node: Node, downwards: bool) -> &[usize] {
        match self.slot(node) {
            Some(slot) if downwards => &self.out[slot],
            Some(slot) => &self.into[slot],
            None => &[],
        }
    }

    fn has(&self, node: Node, downwards: bool) -> bool {
        !self.edges(node, downwards).is_empty()
    }

    fn line(&mut self, lead: &str, line: &str) {
        self.text.push_str(lead);
        self.text.push_str(line);
        self.text.push('\n');
    }

    /// Everything in one direction below a node. A node that stands in the tree already is not grown again.
    fn grow(&mut self, start: Node, downwards: bool) {
        let mut grown = HashSet::from([start]);
        // A stack instead of recursion: lineage may be as deep as it likes.
        let mut stack: Vec<(usize, String, bool)> = Vec::new();
        let push = |drawing: &Self, stack: &mut Vec<_>, node: Node, lead: &str| {
            for (place, edge) in drawing.edges(node, downwards).iter().rev().enumerate() {
                stack.push((*edge, lead.to_owned(), place == 0));
            }
        };
        push(self, &mut stack, start, "");
        while let Some((at, lead, is_last)) = stack.pop() {
            let edge = &self.graph.edges()[at];
            let node = if downwards { edge.to } else { edge.from };
            let branch = if is_last { "└─ " } else { "├─ " };
            let again = !grown.insert(node) && self.has(node, downwards);
            let again = if again { " (see above)" } else { "" };
            let line = format!("{} {}{again}", plain(&edge.label), self.title(node));
            self.line(&format!("{lead}{branch}"), line.trim_start());
            if again.is_empty() {
                let lead = format!("{lead}{}", if is_last { "   " } else { "│  " });
                push(self, &mut stack, node, &lead);
            }
        }
    }

    fn title(&self, node: Node) -> String {
        let text = match node {
            Node::Data(at) => {
                let data = &self.graph.data()[at];
                let mut text = format!("Data {}", data.id);
                for tag in data.user_tags() {
                    text.push_str(&format!("  {tag}").replace('\n', " "));
                }
                if let Some(state) = data.transient() {
                    text.push_str("  [");
                    text.push_str(state);
                    text.push(']');
                }
                text
            }
            Node::Run(at) => {
                let run = &self.graph.runs()[at];
                format!("Run {}  {}  [{}]", run.summary.id, executes(run), run.summary.status)
            }
            Node::Root(_) => String::new(),
        };
        plain(&text).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{data, run, sample};
    use super::*;

    #[test]
    fn what_a_data_was_made_from_stands_below_it() {
        let expected = "\
Data model  type:\"model\" <b> & \\
made from
└─ /out Run train  image = img:v1  [done]
   └─ /in Data set  type:dataset
      └─ /upload Run upl  knit#uploaded  [done]
";
        assert_eq!(draw(&sample()), expected);
    }

    #[test]
    fn what_stands_there_already_is_not_repeated() {
        let mut graph = Graph::new(data("s", "u", &["a", "b"], &[]));
        graph.add_run(run("a", "done", &[("/in", "s")], &[("/out", "x")], None));
        graph.add_data(data("x", "a", &["b"], &[]));
        graph.add_run(run("b", "failed", &[("/1", "s"), ("/2", "x")], &[("/out", "y")], None));
        graph.add_data(data("y", "b", &[], &[]));
        let expected = "\
Data s
led to
├─ /in Run a  image = img:v1  [done]
│  └─ /out Data x
│     └─ /2 Run b  image = img:v1  [failed]
│        └─ /out Data y
└─ /1 Run b  image = img:v1  [failed] (see above)
";
        assert_eq!(draw(&graph), expected);
    }
}
