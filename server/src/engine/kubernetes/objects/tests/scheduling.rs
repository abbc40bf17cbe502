//! The matrix of `on_node`, object by object.

use crate::engine::kubernetes::objects::scheduling::scheduling;
use knit_api::plan::{NodeLabel, OnNode};
use serde_json::{Value, json};

fn labels(texts: &[&str]) -> Vec<NodeLabel> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

/// `key=value:Effect`, as kubectl writes it.
fn tolerated(texts: &[&str]) -> Value {
    let one = |text: &&str| {
        let (label, effect) = text.split_once(':').unwrap();
        let (key, value) = label.split_once('=').unwrap();
        json!({"key": key, "operator": "Equal", "value": value, "effect": effect})
    };
    json!(texts.iter().map(one).collect::<Vec<_>>())
}

fn preferred(key: &str, value: &str) -> Value {
    json!({"weight": 1, "preference": {"matchExpressions": [required(key, &[value])]}})
}

fn required(key: &str, values: &[&str]) -> Value {
    json!({"key": key, "operator": "In", "values": values})
}

/// `may`, `prefer`, `must`; tolerations, preferred terms, required terms.
type Row<'a> = (&'a [&'a str], &'a [&'a str], &'a [&'a str], Value, Value, Value);

#[test]
fn on_node_is_the_matrix_of_the_reference() {
    let terms = |all: Value| json!({"nodeSelectorTerms": [{"matchExpressions": all}]});
    let rows: [Row; 9] = [
        (&[], &[], &[], Value::Null, Value::Null, Value::Null),
        (&["a=1"], &[], &[], tolerated(&["a=1:NoSchedule"]), Value::Null, Value::Null),
        (
            &[],
            &["a=1"],
            &[],
            tolerated(&["a=1:NoSchedule", "a=1:PreferNoSchedule"]),
            json!([preferred("a", "1")]),
            Value::Null,
        ),
        (
            &[],
            &[],
            &["a=1"],
            tolerated(&["a=1:NoSchedule", "a=1:PreferNoSchedule"]),
            Value::Null,
            terms(json!([required("a", &["1"])])),
        ),
        (
            &["a=1"],
            &["b=2"],
            &["c=3"],
            tolerated(&[
                "a=1:NoSchedule",
                "b=2:NoSchedule",
                "b=2:PreferNoSchedule",
                "c=3:NoSchedule",
                "c=3:PreferNoSchedule",
            ]),
            json!([preferred("b", "2")]),
            terms(json!([required("c", &["3"])])),
        ),
        // The same label in every list is tolerated once for each effect.
        (
            &["a=1", "a=1"],
            &["a=1", "a=1"],
            &["a=1", "a=1"],
            tolerated(&["a=1:NoSchedule", "a=1:PreferNoSchedule"]),
            json!([preferred("a", "1")]),
            terms(json!([required("a", &["1"])])),
        ),
        // Several values of a key: any of them will do. Several keys: all of them must be met.
        (
            &[],
            &[],
            &["b=1", "a=2", "a=1"],
            tolerated(&[
                "a=1:NoSchedule",
                "a=1:PreferNoSchedule",
                "a=2:NoSchedule",
                "a=2:PreferNoSchedule",
                "b=1:NoSchedule",
                "b=1:PreferNoSchedule",
            ]),
            Value::Null,
            terms(json!([required("a", &["1", "2"]), required("b", &["1"])])),
        ),
        // Each preferred value counts by itself.
        (
            &[],
            &["a=2", "a=1"],
            &[],
            tolerated(&["a=1:NoSchedule", "a=1:PreferNoSchedule", "a=2:NoSchedule", "a=2:PreferNoSchedule"]),
            json!([preferred("a", "1"), preferred("a", "2")]),
            Value::Null,
        ),
        // An empty value is a value.
        (&["a="], &[], &[], tolerated(&["a=:NoSchedule"]), Value::Null, Value::Null),
    ];
    for (may, prefer, must, tolerations, soft, hard) in rows {
        let on_node = OnNode { may: labels(may), prefer: labels(prefer), must: labels(must) };
        let made = scheduling(&on_node);
        assert_eq!(json!(made.tolerations), tolerations, "{on_node:?}");
        let affinity = json!(made.affinity);
        if soft.is_null() && hard.is_null() {
            assert_eq!(affinity, Value::Null, "{on_node:?}");
        }
        let node = &affinity["nodeAffinity"];
        assert_eq!(node["preferredDuringSchedulingIgnoredDuringExecution"], soft, "{on_node:?}");
        assert_eq!(node["requiredDuringSchedulingIgnoredDuringExecution"], hard, "{on_node:?}");
    }
}
