//! Drawings of graphs: what lineage and Plan graphs have in common, and the forms in which they are printed.
//!
//! A graph that is printed as DOT or JSON goes through a [`spool`] and may be as large as it likes. The other
//! forms need a look at the whole, and work on a [`Drawing`].

pub mod dot;
pub mod mermaid;
pub mod spool;
pub mod svg;
pub mod tree;

use crate::args;
use crate::terminal::{Failure, note, plain, print, stdout_is_terminal};
use knit_api::graph::{Depth, Reach};
use std::collections::HashMap;

/// The flags of commands that draw a graph.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Flags {
    /// Draw what it comes from
    #[arg(short, long, num_args = 0..=1, require_equals = true, default_missing_value = "true",
          value_name = "BOOL", value_parser = args::switch, action = clap::ArgAction::Set)]
    upstream: Option<bool>,
    /// Draw what it leads to
    #[arg(short, long, num_args = 0..=1, require_equals = true, default_missing_value = "true",
          value_name = "BOOL", value_parser = args::switch, action = clap::ArgAction::Set)]
    downstream: Option<bool>,
    /// How many steps are followed: a number, or all
    #[arg(short, long = "numbers", value_name = "N|all", default_value_t = Depth::DEFAULT, allow_hyphen_values = true)]
    numbers: Depth,
    /// How to draw it [default: tree on a terminal, dot otherwise]
    #[arg(short, long, value_name = "FORMAT", value_enum)]
    output: Option<Form>,
}

impl Flags {
    /// Which part of the graph is asked for.
    pub fn reach(self) -> Reach {
        Reach::new(self.upstream, self.downstream, self.numbers)
    }

    /// The chosen form, or the one that fits whoever reads stdout.
    pub fn form(self) -> Form {
        self.output.unwrap_or(if stdout_is_terminal() { Form::Tree } else { Form::Dot })
    }
}

/// The forms in which a graph can be drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Form {
    /// Text for Graphviz.
    Dot,
    /// Text for a terminal.
    Tree,
    /// A picture.
    Svg,
    /// Nodes and arrows for programs.
    Json,
    /// Text for Mermaid, as Markdown pages draw it.
    Mermaid,
}

/// Most nodes of a picture: beyond that nobody sees anything in it.
const MOST_IN_A_PICTURE: usize = 5000;
/// Most arrows that Mermaid draws unless its page allows more.
const MERMAIDS_ARROWS: usize = 500;

impl Form {
    /// How many nodes are drawn in this form.
    pub fn most(self) -> usize {
        match self {
            Self::Svg | Self::Mermaid => MOST_IN_A_PICTURE,
            Self::Dot | Self::Json | Self::Tree => usize::MAX,
        }
    }

    /// The failure of a graph with more nodes than that.
    pub fn too_large(self, what: &str) -> Failure {
        Failure::new(what)
            .why(format!("it has more than {} nodes, too many for one picture", self.most()))
            .advice("follow fewer steps (-n 2), or print it as dot or json, which may be of any size")
    }

    /// Prints a drawing.
    pub fn print(self, drawing: &Drawing) -> Result<(), Failure> {
        match self {
            Self::Svg => print(&svg::draw(drawing)),
            Self::Mermaid => {
                if drawing.arrows.len() > MERMAIDS_ARROWS {
                    note(&format!(
                        "{} arrows: Mermaid draws more than {MERMAIDS_ARROWS} only where maxEdges and maxTextSize are raised",
                        drawing.arrows.len()
                    ));
                }
                print(&mermaid::draw(drawing))
            }
            Self::Tree | Self::Dot | Self::Json => print(&tree::draw(drawing)),
        }
    }
}

/// A graph, ready to be drawn. The first node is the one that was asked about.
#[derive(Clone, Debug, Default)]
pub struct Drawing {
    /// What it is, for a person.
    pub title: String,
    /// What stands above the tree of what the first node comes from.
    pub above: &'static str,
    /// What stands above the tree of what it leads to.
    pub below: &'static str,
    /// The nodes, as they were found.
    pub nodes: Vec<Node>,
    /// The arrows, as they were found.
    pub arrows: Vec<Arrow>,
    /// Titles of the frames around nodes.
    pub frames: Vec<String>,
    places: HashMap<String, usize>,
}

/// One node.
#[derive(Clone, Debug, Default)]
pub struct Node {
    /// What it is, with its id; empty for a point.
    pub title: String,
    /// More about it.
    pub lines: Vec<String>,
    /// All of it in one line.
    pub line: String,
    /// How it looks.
    pub look: Look,
    /// Which of the frames it stands in.
    pub frame: Option<usize>,
}

/// How a node looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Look {
    /// Of its edge.
    pub colour: &'static str,
    /// Of its inside.
    pub background: &'static str,
    /// Of its title, which stands on the colour of the edge.
    pub title_colour: &'static str,
    /// A dot without text.
    pub is_point: bool,
}

/// One arrow, by the places of nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrow {
    /// Where it begins.
    pub from: usize,
    /// Where it ends.
    pub to: usize,
    /// What stands at it.
    pub label: String,
}

impl Drawing {
    /// Nothing is on it yet.
    pub fn new(title: String, above: &'static str, below: &'static str) -> Self {
        Self { title, above, below, ..Self::default() }
    }

    /// Adds a node under a name of its own.
    pub fn add(&mut self, name: String, node: Node) {
        self.places.insert(name, self.nodes.len());
        self.nodes.push(node);
    }

    /// Adds an arrow between two nodes that are there.
    pub fn connect(&mut self, from: &str, to: &str, label: &str) {
        if let (Some(from), Some(to)) = (self.places.get(from), self.places.get(to)) {
            self.arrows.push(Arrow { from: *from, to: *to, label: label.to_owned() });
        }
    }
}

/// One line of a drawing: bounded, and without anything that steers a terminal.
fn shortened(line: &str, columns: usize) -> String {
    let line = plain(line).replace(['\n', '\t'], " ");
    match line.char_indices().nth(columns) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

/// The text with what means something in XML and HTML replaced, and without control characters.
pub fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&#34;"),
            '\'' => out.push_str("&#39;"),
            '\t' | '\n' => out.push(' '),
            letter if letter.is_control() || matches!(letter, '\u{fffe}' | '\u{ffff}') => {
                out.push(char::REPLACEMENT_CHARACTER);
            }
            letter => out.push(letter),
        }
    }
    out
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn node(title: &str, lines: &[&str]) -> Node {
        let look = Look { colour: "#1c9930", background: "#FFFFFF", title_colour: "#FFFFFF", is_point: false };
        let lines: Vec<String> = lines.iter().map(|&line| line.to_owned()).collect();
        Node { title: title.to_owned(), line: format!("{title} {}", lines.join(" ")), lines, look, frame: None }
    }

    /// Nodes named by letters, with these arrows.
    pub(crate) fn drawing(names: &str, arrows: &[(&str, &str, &str)]) -> Drawing {
        let mut drawing = Drawing::new("Lineage of a".to_owned(), "made from", "led to");
        for name in names.split_whitespace() {
            drawing.add(name.to_owned(), node(name, &[]));
        }
        for (from, to, label) in arrows {
            drawing.connect(from, to, label);
        }
        drawing
    }

    #[test]
    fn an_arrow_to_a_node_that_is_not_there_is_left_out() {
        assert_eq!(
            drawing("a b", &[("a", "b", "x"), ("a", "c", ""), ("c", "a", "")]).arrows,
            [Arrow { from: 0, to: 1, label: "x".to_owned() }]
        );
    }
}
