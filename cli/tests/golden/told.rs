//! Graphs that a server of ours tells line by line: what is drawn is what a walk through the same world draws.

use crate::fake::{Answer, Ended, Fake, Home, json};
use crate::world::world;
use serde_json::{Value, json as value};

const FORMS: [&str; 5] = ["dot", "json", "tree", "svg", "mermaid"];

fn drawn(api_root: &str, arguments: &[&str]) -> Ended {
    Home::of(api_root, None).knit(arguments)
}

/// A server that announces what it can, and tells these lines of whatever graph it is asked for.
fn telling(lines: &[Value]) -> Fake {
    let body: String = lines.iter().flat_map(|line| [line.to_string(), "\n".to_owned()]).collect();
    Fake::start(move |request| match request.target.split('?').next().unwrap() {
        "/api/server" => json(200, &value!({"version": "1", "capabilities": ["lineage"]})),
        path if path.ends_with("/lineage") || path.ends_with("/graph") => {
            let head = "HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n";
            let mut answer = head.as_bytes().to_vec();
            // Pieces end anywhere, also within a letter.
            for piece in body.as_bytes().chunks(777) {
                answer.extend([format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat());
            }
            answer.extend(b"0\r\n\r\n");
            Answer::Bytes(answer)
        }
        _ => json(404, &value!({"message": "not found"})),
    })
}

/// The lines of a lineage, from its document.
fn lines_of_lineage(document: &Value) -> Vec<Value> {
    let list = |name: &str| document[name].as_array().unwrap().iter();
    let mut lines: Vec<Value> = list("data").map(|data| value!({"data": data})).collect();
    let mut edges: Vec<Value> = list("edges").cloned().collect();
    for run in list("runs") {
        lines.push(value!({"run": run}));
        if run["inputs"].as_array().unwrap().is_empty() {
            let from = value!({"root": edges.iter().filter(|edge| !edge["from"]["root"].is_null()).count()});
            edges.push(value!({"from": from, "to": {"runId": run["runId"]}, "label": ""}));
        }
    }
    let size = value!({"data": list("data").count(), "runs": list("runs").count(), "edges": edges.len()});
    lines.extend(edges.into_iter().map(|edge| value!({"edge": edge})));
    lines.push(value!({"end": size}));
    lines
}

#[test]
fn lineage_is_drawn_alike_whether_it_is_told_or_walked() {
    let walked = world().serve(None);
    // From here all arrows to the root come last either way.
    let document = drawn(&walked.api_root(), &["data", "lineage", "-u", "-n", "all", "-o", "json", "out-done"]);
    let told = telling(&lines_of_lineage(&serde_json::from_slice(&document.stdout).unwrap()));
    for form in FORMS {
        let arguments = ["data", "lineage", "-u", "-n", "all", "-o", form, "out-done"];
        let (walked, told) = (drawn(&walked.api_root(), &arguments), drawn(&told.api_root(), &arguments));
        assert_eq!((told.code, told.stderr.as_str()), (Some(0), ""));
        assert_eq!(told.text(), walked.text(), "{form}");
    }
    let asked = told.requests();
    assert_eq!(asked.len(), FORMS.len(), "one request for each graph");
    assert_eq!(asked[0].target, "/api/data/out-done/lineage?upstream=true&downstream=false&depth=all&view=full");
}

#[test]
fn plans_are_drawn_alike_whether_they_are_told_or_walked() {
    let walked = world().serve(None);
    let plans = ["plan-valid", "plan-train", "plan-report"].map(|id| world().find("plans", id).unwrap());
    let mut lines: Vec<Value> = plans.iter().map(|plan| value!({"plan": plan})).collect();
    lines.push(value!({"end": {"plans": plans.len()}}));
    let told = telling(&lines);
    for form in FORMS {
        let arguments = ["plan", "graph", "-o", form, "plan-valid"];
        let (walked, told) = (drawn(&walked.api_root(), &arguments), drawn(&told.api_root(), &arguments));
        assert_eq!((told.code, told.stderr.as_str()), (Some(0), ""));
        assert_eq!(told.text(), walked.text(), "{form}");
    }
    assert_eq!(told.requests()[0].target, "/api/plans/plan-valid/graph?upstream=true&downstream=true&depth=3");
}

#[test]
fn half_a_graph_is_not_printed() {
    let walked = world().serve(None);
    let document = drawn(&walked.api_root(), &["data", "lineage", "-o", "json", "data-set"]);
    let lines = lines_of_lineage(&serde_json::from_slice(&document.stdout).unwrap());
    let mut holed = lines.clone();
    holed.remove(1);
    for lines in [&lines[..lines.len() - 1], &holed] {
        let told = telling(lines);
        for form in FORMS {
            let ended = drawn(&told.api_root(), &["data", "lineage", "-o", form, "data-set"]);
            assert_eq!((ended.code, ended.text().as_str()), (Some(1), ""), "{form}");
            assert!(ended.stderr.contains("cannot draw the lineage of data-set"), "{ended:?}");
        }
    }
    let ended = drawn(&telling(&[]).api_root(), &["plan", "graph", "plan-valid"]);
    assert_eq!((ended.code, ended.text().as_str()), (Some(1), ""), "{ended:?}");
}

#[test]
fn what_is_not_there_is_said_with_what_to_do() {
    let server = Fake::start(|request| match request.target.as_str() {
        "/api/server" => json(200, &value!({"version": "1", "capabilities": ["lineage"]})),
        _ => json(404, &value!({"message": "there is no such thing"})),
    });
    for (arguments, advice) in
        [(["data", "lineage", "x"], "knit data find -t KEY:VALUE"), (["plan", "graph", "x"], "knit plan find")]
    {
        let ended = drawn(&server.api_root(), &arguments);
        assert_eq!((ended.code, ended.text().as_str()), (Some(5), ""));
        assert!(ended.stderr.contains("there is no such thing") && ended.stderr.contains(advice), "{ended:?}");
    }
}

/// Every form of the small world's `log-failed`, as it stands.
#[test]
fn each_form_of_a_small_lineage_is_as_it_was() {
    let walked = world().serve(None);
    let draw = |form| drawn(&walked.api_root(), &["data", "lineage", "-u", "-n", "1", "-o", form, "log-failed"]).text();
    assert_eq!(draw("tree"), include_str!("forms/lineage.txt"));
    assert_eq!(draw("mermaid"), include_str!("forms/lineage.mmd"));
    assert_eq!(draw("svg"), include_str!("forms/lineage.svg"));
    assert_eq!(draw("json"), include_str!("forms/lineage.json"));
    let draw = |form| drawn(&walked.api_root(), &["plan", "graph", "-o", form, "plan-valid"]).text();
    assert_eq!(draw("tree"), include_str!("forms/plans.txt"));
    assert_eq!(draw("mermaid"), include_str!("forms/plans.mmd"));
    assert_eq!(draw("svg"), include_str!("forms/plans.svg"));
    assert_eq!(draw("json"), include_str!("forms/plans.json"));
}

#[test]
fn a_plan_is_drawn_alone_where_a_direction_is_denied() {
    let served = world().serve(None);
    let home = Home::of(&served.api_root(), None);
    let ended = home.knit(&["plan", "graph", "--upstream=false", "plan-valid"]);
    assert_eq!((ended.code, ended.text().matches("subgraph").count()), (Some(0), 1), "{ended:?}");
}
