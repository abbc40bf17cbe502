//! Plans as a drawing: with their points and a frame around each, or, for a tree, by themselves.

use super::{Graph, LOG};
use crate::drawing::{Drawing, Form, Look, Node};
use crate::lineage::executes;
use crate::terminal::Failure;
use knit_api::plan::Plan;

/// The drawing for a form; `what` is said when the graph is too large for it.
pub fn picture(graph: &Graph, form: Form, what: &str) -> Result<Drawing, Failure> {
    let title = graph.plans().first().map_or_else(String::new, |plan| format!("Plans around {}", plan.summary.id));
    let mut drawing = Drawing::new(title, "fed by", "feeds");
    let points = form != Form::Tree;
    for (at, plan) in graph.plans().iter().enumerate() {
        add(&mut drawing, at, plan, points);
        if drawing.nodes.len() > form.most() {
            return Err(form.too_large(what));
        }
    }
    for edge in graph.edges() {
        if points {
            drawing.connect(&output(edge.from, edge.output.as_deref()), &input(edge.to, &edge.input), "");
        } else {
            let label = format!("{} → {}", edge.output(), edge.input);
            drawing.connect(&name(edge.from), &name(edge.to), &label);
        }
    }
    Ok(drawing)
}

fn name(plan: usize) -> String {
    format!("{plan}")
}

fn input(plan: usize, path: &str) -> String {
    format!("{plan}<{path}")
}

fn output(plan: usize, path: Option<&str>) -> String {
    path.map_or_else(|| format!("{plan}>"), |path| format!("{plan}>{path}"))
}

fn add(drawing: &mut Drawing, at: usize, plan: &Plan, points: bool) {
    let title = format!("Plan {}", plan.summary.id);
    let (active, executes) = (if plan.active { "active" } else { "inactive" }, executes(&plan.summary));
    let annotations = || plan.summary.annotations.iter().map(ToString::to_string);
    let mut line = format!("{title}  {executes}  [{active}]");
    for annotation in annotations() {
        line.push_str("  ");
        line.push_str(&annotation);
    }
    let mut lines = vec![active.to_owned(), executes];
    lines.extend(annotations());
    let background = match (at, plan.active) {
        (0, _) => "#EDD9B4",
        (_, true) => "#FFFFFF",
        (_, false) => "#E8E8E8",
    };
    let look = Look { colour: "#DAA520", background, title_colour: "#000000", is_point: false };
    let frame = points.then(|| {
        drawing.frames.push(title.clone());
        drawing.frames.len() - 1
    });
    drawing.add(name(at), Node { title, lines, line, look, frame });
    if !points {
        return;
    }
    let look = Look { colour: "#1c9930", background: "#1c9930", title_colour: "#FFFFFF", is_point: true };
    let point = || Node { look, frame, ..Node::default() };
    for one in &plan.inputs {
        let path = &one.mountpoint.path;
        drawing.add(input(at, path), point());
        drawing.connect(&input(at, path), &name(at), path);
    }
    let outputs = plan.outputs.iter().map(|one| Some(one.mountpoint.path.as_str()));
    for path in outputs.chain(plan.log.iter().map(|_| None)) {
        drawing.add(output(at, path), point());
        drawing.connect(&name(at), &output(at, path), path.unwrap_or(LOG));
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::sample;
    use super::*;
    use crate::drawing::{mermaid, svg, tree};

    #[test]
    fn a_tree_leads_from_plan_to_plan() {
        let expected = "\
Plan train  image = train:v1  [active]  team=<a> & \"b\"
feeds
├─ /out/model → /in/model Plan check  image = check:v1  [inactive]
└─ (log) → /in/log Plan report  image = report:v1  [active]
";
        assert_eq!(tree::draw(&picture(&sample(), Form::Tree, "").unwrap()), expected);
    }

    #[test]
    fn mermaid_frames_each_plan_with_its_points() {
        let expected = "\
flowchart LR
    subgraph f0 [\"Plan train\"]
        n0[\"<b>Plan train</b><br/>active<br/>image = train:v1<br/>team=#60;a#62; #38; #34;b#34;\"]
        n1((\" \"))
        n2((\" \"))
        n3((\" \"))
    end
    subgraph f1 [\"Plan check\"]
        n4[\"<b>Plan check</b><br/>inactive<br/>image = check:v1\"]
        n5((\" \"))
    end
    subgraph f2 [\"Plan report\"]
        n6[\"<b>Plan report</b><br/>active<br/>image = report:v1\"]
        n7((\" \"))
    end
    n1 -->|\"/in\"| n0
    n0 -->|\"/out/model\"| n2
    n0 -->|\"(log)\"| n3
    n5 -->|\"/in/model\"| n4
    n7 -->|\"/in/log\"| n6
    n2 --> n5
    n3 --> n7
    classDef c0 fill:#EDD9B4,stroke:#DAA520,color:#000000
    class n0 c0
    classDef c1 fill:#1c9930,stroke:#1c9930,color:#000000
    class n1,n2,n3,n5,n7 c1
    classDef c2 fill:#E8E8E8,stroke:#DAA520,color:#000000
    class n4 c2
    classDef c3 fill:#FFFFFF,stroke:#DAA520,color:#000000
    class n6 c3
";
        assert_eq!(mermaid::draw(&picture(&sample(), Form::Mermaid, "").unwrap()), expected);
    }

    #[test]
    fn a_picture_has_a_dot_for_each_point_and_a_box_for_each_plan() {
        let text = svg::draw(&picture(&sample(), Form::Svg, "").unwrap());
        assert_eq!((text.matches("<circle").count(), text.matches("<g>").count()), (5, 3));
        assert_eq!(text.matches("marker-end").count(), 7);
    }
}
