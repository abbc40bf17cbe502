//! A drawing as text for a terminal: two trees that grow from the first node, one of what it comes from, one of
//! what it leads to. It is bounded: more than that nobody reads.

use super::{Drawing, shortened};
use crate::terminal::plain;
use std::collections::HashSet;
use std::fmt::Write as _;

/// Most lines of one tree.
const LINES: usize = 1000;
/// Most levels of one tree.
const LEVELS: usize = 60;
/// Longest label of a branch and longest line of a node, in columns.
const LONGEST: usize = 400;

/// The whole text.
pub fn draw(drawing: &Drawing) -> String {
    let mut tree = Tree {
        drawing,
        into: vec![Vec::new(); drawing.nodes.len()],
        out: vec![Vec::new(); drawing.nodes.len()],
        text: String::new(),
    };
    for (at, arrow) in drawing.arrows.iter().enumerate() {
        tree.out[arrow.from].push(at);
        tree.into[arrow.to].push(at);
    }
    let Some(start) = drawing.nodes.first() else { return String::new() };
    tree.line("", &shortened(&start.line, LONGEST));
    for (downwards, title) in [(false, drawing.above), (true, drawing.below)] {
        if !tree.arrows(0, downwards).is_empty() {
            tree.line("", title);
            tree.grow(downwards);
        }
    }
    tree.text
}

struct Tree<'a> {
    drawing: &'a Drawing,
    /// Arrows by the node they end at.
    into: Vec<Vec<usize>>,
    /// Arrows by the node they begin at.
    out: Vec<Vec<usize>>,
    text: String,
}

/// A branch that is still to be drawn.
struct Branch {
    arrow: usize,
    lead: String,
    level: usize,
    is_last: bool,
}

impl Tree<'_> {
    fn arrows(&self, node: usize, downwards: bool) -> &[usize] {
        if downwards { &self.out[node] } else { &self.into[node] }
    }

    fn line(&mut self, lead: &str, line: &str) {
        let _ = writeln!(self.text, "{lead}{line}");
    }

    /// Everything in one direction below the first node. What stands in the tree already is not grown again.
    fn grow(&mut self, downwards: bool) {
        let mut grown = HashSet::from([0]);
        // A stack instead of recursion, with the branches of a node in their order from the top.
        let mut stack = Vec::new();
        self.push(&mut stack, 0, downwards, "", 0);
        let mut lines = 0;
        while let Some(Branch { arrow, lead, level, is_last }) = stack.pop() {
            if lines == LINES {
                let more = self.nodes_beyond(&grown, downwards);
                self.line("", &format!("… {more} more nodes; fewer steps (-n) or -o json show them"));
                return;
            }
            lines += 1;
            let arrow = &self.drawing.arrows[arrow];
            let node = if downwards { arrow.to } else { arrow.from };
            let (is_new, grows) = (grown.insert(node), !self.arrows(node, downwards).is_empty());
            let mark = match (is_new, grows) {
                (false, true) => " (see above)",
                (true, true) if level == LEVELS => " …",
                _ => "",
            };
            let line = format!(
                "{} {}{mark}",
                plain(&shortened(&arrow.label, LONGEST)),
                shortened(&self.drawing.nodes[node].line, LONGEST)
            );
            self.line(&format!("{lead}{}", if is_last { "└─ " } else { "├─ " }), line.trim_start());
            if mark.is_empty() && is_new {
                let lead = format!("{lead}{}", if is_last { "   " } else { "│  " });
                self.push(&mut stack, node, downwards, &lead, level);
            }
        }
    }

    fn push(&self, stack: &mut Vec<Branch>, node: usize, downwards: bool, lead: &str, level: usize) {
        let arrows = self.arrows(node, downwards).iter().take(LINES + 1).rev().enumerate();
        let all = self.arrows(node, downwards).len() <= LINES + 1;
        stack.extend(arrows.map(|(place, arrow)| Branch {
            arrow: *arrow,
            lead: lead.to_owned(),
            level: level + 1,
            is_last: place == 0 && all,
        }));
    }

    /// How many nodes in this direction have no line yet.
    fn nodes_beyond(&self, shown: &HashSet<usize>, downwards: bool) -> usize {
        let mut seen = HashSet::from([0]);
        let mut edge = vec![0];
        while let Some(node) = edge.pop() {
            for arrow in self.arrows(node, downwards) {
                let arrow = &self.drawing.arrows[*arrow];
                let next = if downwards { arrow.to } else { arrow.from };
                if seen.insert(next) {
                    edge.push(next);
                }
            }
        }
        seen.difference(shown).count()
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::drawing;
    use super::*;

    #[test]
    fn what_stands_there_already_is_marked_and_not_repeated() {
        let drawing = drawing(
            "s a x b y",
            &[("s", "a", "/in"), ("a", "x", "/out"), ("s", "b", "/1"), ("x", "b", "/2"), ("b", "y", "")],
        );
        let expected = "\
s 
led to
├─ /in a 
│  └─ /out x 
│     └─ /2 b 
│        └─ y 
└─ /1 b  (see above)
";
        assert_eq!(draw(&drawing), expected);
    }

    #[test]
    fn a_tree_is_bounded_in_length_and_depth() {
        let many: Vec<String> = (0..5000).map(|n| format!("n{n}")).collect();
        let fan: Vec<(&str, &str, &str)> = many[1..].iter().map(|name| ("n0", name.as_str(), "")).collect();
        let text = draw(&drawing(&many.join(" "), &fan));
        assert_eq!(text.lines().count(), LINES + 3);
        assert!(text.ends_with("… 3999 more nodes; fewer steps (-n) or -o json show them\n"), "{text}");

        let chain: Vec<(&str, &str, &str)> =
            many.windows(2).map(|pair| (pair[1].as_str(), pair[0].as_str(), "")).collect();
        let text = draw(&drawing(&many.join(" "), &chain));
        assert_eq!(text.lines().count(), LEVELS + 2);
        assert!(text.ends_with("└─ n60  …\n"), "{text}");
    }

    #[test]
    fn a_circle_ends() {
        let text = draw(&drawing("a b", &[("a", "b", ""), ("b", "a", "")]));
        assert_eq!(text, "a \nmade from\n└─ b \n   └─ a  (see above)\nled to\n└─ b \n   └─ a  (see above)\n");
    }
}
