//! Lineage as a drawing, for the forms that need a look at the whole.

use super::{DataNode, Form, Mark, executes, mark};
use crate::drawing::{self, Drawing, Look, Node};
use crate::terminal::Failure;
use knit_api::graph::{LineageEdge, LineageEnd};
use knit_api::run::Run;
use knit_api::tag;
use knit_api::time::Timestamp;

/// A drawing that grows.
#[derive(Debug)]
pub struct Picture {
    drawing: Drawing,
    form: drawing::Form,
    what: String,
}

impl Picture {
    /// For a form; `what` is said when the graph is too large for it.
    pub fn new(form: drawing::Form, what: &str) -> Self {
        Self { drawing: Drawing::new(String::new(), "made from", "led to"), form, what: what.to_owned() }
    }

    /// Prints it.
    pub fn print(&self) -> Result<(), Failure> {
        self.form.print(&self.drawing)
    }

    fn add(&mut self, name: String, node: Node) -> Result<(), Failure> {
        if self.drawing.nodes.len() == self.form.most() {
            return Err(self.form.too_large(&self.what));
        }
        self.drawing.add(name, node);
        Ok(())
    }
}

impl Form for Picture {
    type Data = DataNode;

    fn data(&mut self, data: DataNode) -> Result<(), Failure> {
        let is_start = self.drawing.nodes.is_empty();
        if is_start {
            self.drawing.title = format!("Lineage of {}", data.id);
        }
        let title = format!("Data {}", data.id);
        let times = data.tags.iter().filter(|tag| tag.key == tag::TIMESTAMP);
        let mut lines: Vec<String> = times
            .map(|tag| Timestamp::parse_strict(&tag.value).map_or(tag.value.clone(), |t| t.in_local_zone().to_string()))
            .collect();
        lines.extend(data.transient().map(str::to_owned));
        lines.extend(data.user_tags().map(ToString::to_string));
        let mut line = title.clone();
        for tag in data.user_tags() {
            line.push_str(&format!("  {tag}").replace('\n', " "));
        }
        if let Some(state) = data.transient() {
            line.push_str("  [");
            line.push_str(state);
            line.push(']');
        }
        let background = if is_start { "#d4ecc6" } else { "#FFFFFF" };
        let look = Look { colour: "#1c9930", background, title_colour: "#FFFFFF", is_point: false };
        self.add(format!("d{}", data.id), Node { title, lines, line, look, frame: None })
    }

    fn run(&mut self, run: Run) -> Result<(), Failure> {
        let background = match mark(run.summary.status) {
            Mark::Badly => "#FFD0D0",
            Mark::Parked => "#E8E8E8",
            Mark::Well | Mark::Plain => "#FFFFFF",
        };
        let (title, status, executes) =
            (format!("Run {}", run.summary.id), run.summary.status, executes(&run.summary.plan));
        let line = format!("{title}  {executes}  [{status}]");
        let lines = vec![status.to_string(), executes, format!("since {}", run.summary.updated_at.in_local_zone())];
        let look = Look { colour: "#FFA500", background, title_colour: "#000000", is_point: false };
        self.add(format!("r{}", run.summary.id), Node { title, lines, line, look, frame: None })
    }

    /// Roots are not drawn.
    fn edge(&mut self, edge: LineageEdge) -> Result<(), Failure> {
        let name = |end: &LineageEnd| match end {
            LineageEnd::KnitId(id) => Some(format!("d{id}")),
            LineageEnd::RunId(id) => Some(format!("r{id}")),
            LineageEnd::Root(_) => None,
        };
        if let (Some(from), Some(to)) = (name(&edge.from), name(&edge.to)) {
            self.drawing.connect(&from, &to, &edge.label);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::sample;
    use super::*;
    use crate::drawing::tree;

    #[test]
    fn what_a_data_was_made_from_stands_below_it() {
        let mut picture = Picture::new(drawing::Form::Tree, "");
        sample().draw(&mut picture).unwrap();
        let expected = "\
Data model  type:\"model\" <b> & \\
made from
└─ /out Run train  image = img:v1  [done]
   └─ /in Data set  type:dataset
      └─ /upload Run upl  knit#uploaded  [done]
";
        assert_eq!(tree::draw(&picture.drawing), expected);
        assert_eq!(picture.drawing.title, "Lineage of model");
    }

    #[test]
    fn a_picture_has_no_more_nodes_than_can_be_seen() {
        let mut picture = Picture::new(drawing::Form::Svg, "cannot draw it");
        let data = |n: usize| DataNode { id: format!("d{n}").into(), tags: Vec::new() };
        for n in 0..drawing::Form::Svg.most() {
            picture.data(data(n)).unwrap();
        }
        let failure = picture.data(data(usize::MAX)).unwrap_err().to_string();
        assert!(failure.contains("more than 5000 nodes") && failure.contains("dot or json"), "{failure}");
    }
}
