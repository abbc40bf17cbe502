//! A drawing as SVG, made without Graphviz: layers from left to right, each node in the layer after the last of
//! those it comes from, and within a layer where its neighbours are.

use super::{Arrow, Drawing, Node, escaped, shortened};
use std::fmt::Write as _;
use unicode_width::UnicodeWidthStr as _;

/// Pixels of one column of text of 11 pixels.
const COLUMN: usize = 7;
/// Pixels between the baselines of two lines.
const LINE: usize = 16;
/// Pixels around the text in a box.
const PADDING: usize = 8;
/// Pixels between two layers at least; labels of arrows stand there.
const GAP: usize = 60;
/// Pixels between two boxes of a layer.
const SPACE: usize = 24;
/// Pixels from side to side of a point.
const POINT: usize = 8;
/// Times that each layer is put in order by its neighbours.
const SWEEPS: usize = 6;
/// Longest line in a box, in columns.
const LONGEST: usize = 60;

struct Shape<'a> {
    node: &'a Node,
    title: String,
    lines: Vec<String>,
    width: usize,
    height: usize,
    layer: usize,
    x: usize,
    y: usize,
}

/// The whole document.
pub fn draw(drawing: &Drawing) -> String {
    let mut shapes: Vec<Shape<'_>> = drawing.nodes.iter().map(shape).collect();
    arrange(&mut shapes, &drawing.arrows);
    let width = shapes.iter().map(|s| s.x + s.width).max().unwrap_or(0) + GAP;
    let height = shapes.iter().map(|s| s.y + s.height).max().unwrap_or(0) + SPACE;
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         viewBox=\"0 0 {width} {height}\" font-family=\"DejaVu Sans Mono, Menlo, Consolas, monospace\" font-size=\"11\">\n\
         <title>{}</title>\n\
         <defs><marker id=\"arrow\" viewBox=\"0 0 8 8\" refX=\"8\" refY=\"4\" markerWidth=\"8\" markerHeight=\"8\" \
         orient=\"auto\"><path d=\"M0,0 L8,4 L0,8 z\" fill=\"#555555\"/></marker></defs>\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#FFFFFF\"/>\n",
        escaped(&drawing.title)
    );
    for one in &drawing.arrows {
        arrow(&mut text, &shapes[one.from], &shapes[one.to], &one.label);
    }
    for shape in &shapes {
        if shape.node.look.is_point { point(&mut text, shape) } else { boxed(&mut text, shape) }
    }
    text.push_str("</svg>\n");
    text
}

fn shape(node: &Node) -> Shape<'_> {
    let (title, lines) = (shortened(&node.title, LONGEST), node.lines.iter().map(|line| shortened(line, LONGEST)));
    let lines: Vec<String> = lines.collect();
    let columns = lines.iter().chain([&title]).map(|line| line.width()).max().unwrap_or(0);
    let (width, height) = if node.look.is_point {
        (POINT, POINT)
    } else {
        (columns * COLUMN + 2 * PADDING, LINE * (lines.len() + 1) + 2 * PADDING)
    };
    Shape { node, title, lines, width, height, layer: 0, x: 0, y: 0 }
}

/// Gives every shape its layer and its place.
fn arrange(shapes: &mut [Shape<'_>], arrows: &[Arrow]) {
    let mut before = vec![Vec::new(); shapes.len()];
    let mut after = vec![Vec::new(); shapes.len()];
    for Arrow { from, to, .. } in arrows {
        after[*from].push(*to);
        before[*to].push(*from);
    }
    layer(shapes, &before, &after);
    let mut layers = vec![Vec::new(); shapes.iter().map(|s| s.layer + 1).max().unwrap_or(0)];
    for (at, shape) in shapes.iter().enumerate() {
        layers[shape.layer].push(at);
    }
    for sweep in 0..SWEEPS {
        order(&mut layers, if sweep % 2 == 0 { &before } else { &after }, sweep % 2 == 0);
    }
    let labels = arrows.iter().map(|arrow| arrow.label.width()).max().unwrap_or(0);
    let gap = GAP + labels.min(LONGEST) * COLUMN;
    let tallest = layers.iter().map(|layer| tall(shapes, layer)).max().unwrap_or(0);
    let mut x = SPACE;
    for layer in &layers {
        let mut y = SPACE + (tallest - tall(shapes, layer)) / 2;
        let widest = layer.iter().map(|at| shapes[*at].width).max().unwrap_or(0);
        for at in layer {
            (shapes[*at].x, shapes[*at].y) = (x, y);
            y += shapes[*at].height + SPACE;
        }
        x += widest + gap;
    }
}

fn tall(shapes: &[Shape<'_>], layer: &[usize]) -> usize {
    layer.iter().map(|at| shapes[*at].height + SPACE).sum()
}

/// The layer of a node is the length of the longest way to it. Lineage has no circles; should a server
/// claim one, its nodes stay where they are first.
fn layer(shapes: &mut [Shape<'_>], before: &[Vec<usize>], after: &[Vec<usize>]) {
    let mut waiting_for: Vec<usize> = before.iter().map(Vec::len).collect();
    let mut ready: Vec<usize> = (0..shapes.len()).filter(|at| waiting_for[*at] == 0).collect();
    while let Some(at) = ready.pop() {
        for &next in &after[at] {
            shapes[next].layer = shapes[next].layer.max(shapes[at].layer + 1);
            waiting_for[next] -= 1;
            if waiting_for[next] == 0 {
                ready.push(next);
            }
        }
    }
}

/// Puts the nodes of each layer in the order of the middle of their neighbours in the layers done before.
fn order(layers: &mut [Vec<usize>], neighbours: &[Vec<usize>], forwards: bool) {
    let mut rank = vec![0.0_f64; neighbours.len()];
    let count = layers.len();
    for step in 0..count {
        let layer = &mut layers[if forwards { step } else { count - 1 - step }];
        let mut keyed: Vec<(f64, usize)> = layer
            .iter()
            .enumerate()
            .map(|(place, &at)| {
                let ranks: Vec<f64> = neighbours[at].iter().map(|n| rank[*n]).collect();
                let middle =
                    if ranks.is_empty() { place as f64 } else { ranks.iter().sum::<f64>() / ranks.len() as f64 };
                (middle, at)
            })
            .collect();
        keyed.sort_by(|a, b| a.0.total_cmp(&b.0));
        for (place, (_, at)) in keyed.iter().enumerate() {
            rank[*at] = place as f64;
        }
        *layer = keyed.into_iter().map(|(_, at)| at).collect();
    }
}

fn arrow(text: &mut String, from: &Shape<'_>, to: &Shape<'_>, label: &str) {
    let (x1, y1) = (from.x + from.width, from.y + from.height / 2);
    let (x2, y2) = (to.x, to.y + to.height / 2);
    let bend = usize::midpoint(x1, x2);
    let _ = writeln!(
        text,
        "<path d=\"M{x1},{y1} C{bend},{y1} {bend},{y2} {x2},{y2}\" fill=\"none\" stroke=\"#555555\" \
         marker-end=\"url(#arrow)\"/>"
    );
    if !label.is_empty() {
        let _ = writeln!(
            text,
            "<text x=\"{bend}\" y=\"{}\" text-anchor=\"middle\" fill=\"#333333\">{}</text>",
            usize::midpoint(y1, y2).saturating_sub(4),
            escaped(&shortened(label, LONGEST))
        );
    }
}

fn point(text: &mut String, shape: &Shape<'_>) {
    let (middle, colour) = (POINT / 2, shape.node.look.colour);
    let _ = writeln!(
        text,
        "<circle cx=\"{}\" cy=\"{}\" r=\"{middle}\" fill=\"{colour}\"/>",
        shape.x + middle,
        shape.y + middle
    );
}

fn boxed(text: &mut String, shape: &Shape<'_>) {
    let Shape { node, x, y, width, height, .. } = shape;
    let (colour, background) = (node.look.colour, node.look.background);
    let head = LINE + PADDING;
    let _ = writeln!(
        text,
        "<g><rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" fill=\"{background}\" stroke=\"{colour}\"/>\
         <rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{head}\" fill=\"{colour}\"/>\
         <text x=\"{}\" y=\"{}\" font-weight=\"bold\" fill=\"{}\">{}</text>",
        x + PADDING,
        y + LINE,
        node.look.title_colour,
        escaped(&shape.title)
    );
    for (place, line) in shape.lines.iter().enumerate() {
        let baseline = y + head + LINE * (place + 1) - 2;
        let _ = writeln!(text, "<text x=\"{}\" y=\"{baseline}\">{}</text>", x + PADDING, escaped(line));
    }
    text.push_str("</g>\n");
}

#[cfg(test)]
mod tests {
    use super::super::tests::{drawing, node};
    use super::*;

    #[test]
    fn arrows_lead_to_the_right_and_boxes_do_not_overlap() {
        let mut drawing = drawing(
            "a b c d e f",
            &[("a", "b", "/x"), ("b", "c", ""), ("a", "c", "/long/label"), ("a", "d", ""), ("e", "d", "")],
        );
        drawing.nodes[3].look.is_point = true;
        let mut shapes: Vec<Shape<'_>> = drawing.nodes.iter().map(shape).collect();
        arrange(&mut shapes, &drawing.arrows);
        for Arrow { from, to, .. } in &drawing.arrows {
            assert!(shapes[*from].x + shapes[*from].width < shapes[*to].x);
        }
        for (at, a) in shapes.iter().enumerate() {
            for b in &shapes[at + 1..] {
                let apart =
                    a.x + a.width <= b.x || b.x + b.width <= a.x || a.y + a.height <= b.y || b.y + b.height <= a.y;
                assert!(apart, "{} and {}", a.title, b.title);
            }
        }
    }

    #[test]
    fn text_is_escaped_and_a_circle_does_no_harm() {
        let mut drawing = drawing("a", &[("a", "a", "<x>")]);
        drawing.nodes[0] = node("Data <d>", &["k:<script>"]);
        let text = draw(&drawing);
        assert!(text.contains("k:&lt;script&gt;") && !text.contains("<script>") && !text.contains("<x>"), "{text}");
    }
}
