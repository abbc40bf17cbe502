//! When two Plans are equal: same image, inputs, outputs, log tags, entrypoint, args and nodes.
//! Resources, service account, annotations and activity do not count.

use knit_api::plan::{LogPoint, Mountpoint, OnNode, PlanSpec};
use serde::Serialize;

/// The digest (BLAKE3, 64 lower-case hex digits) of a Plan's canonical form. The specification must be
/// normalised by [`super::plan::check`]. Wide enough that equal digests mean equal Plans.
pub fn digest(spec: &PlanSpec) -> String {
    blake3::hash(canonical(spec).as_bytes()).to_hex().to_string()
}

/// Every part stands in its own JSON value, so no two different Plans can be written alike. Inputs and
/// outputs are sorted by path; the order of entrypoint and args counts.
fn canonical(spec: &PlanSpec) -> String {
    #[derive(Serialize)]
    struct Canonical<'a> {
        repository: &'a str,
        tag: &'a str,
        entrypoint: &'a [String],
        args: &'a [String],
        inputs: Vec<&'a Mountpoint>,
        outputs: Vec<&'a Mountpoint>,
        log: Option<&'a LogPoint>,
        on_node: &'a OnNode,
    }
    let form = Canonical {
        repository: &spec.image.repository,
        tag: &spec.image.tag,
        entrypoint: &spec.entrypoint,
        args: &spec.args,
        inputs: by_path(&spec.inputs),
        outputs: by_path(&spec.outputs),
        log: spec.log.as_ref(),
        on_node: &spec.on_node,
    };
    serde_json::to_string(&form).expect("texts and lists of texts always have a JSON form")
}

fn by_path(mounts: &[Mountpoint]) -> Vec<&Mountpoint> {
    let mut sorted: Vec<&Mountpoint> = mounts.iter().collect();
    sorted.sort_by(|a, b| a.path.cmp(&b.path));
    sorted
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::plan::check;

    fn spec(json: &str) -> PlanSpec {
        check(knit_api::json::from_slice(json.as_bytes()).unwrap()).unwrap()
    }

    const BASE: &str = r#"{"image":"train:v1","entrypoint":["sh"],"args":["a","b"],
        "inputs":[{"path":"/in/1","tags":["a:b","c:d"]},{"path":"/in/2","tags":["e:f"]}],
        "outputs":[{"path":"/out","tags":["g:h"]}],"log":{"tags":["i:j"]},"on_node":{"may":["k=v"]}}"#;

    #[test]
    fn order_of_mountpoints_and_tags_and_what_does_not_count_leave_the_identity_alone() {
        let same = r#"{"image":"train:v1","entrypoint":["sh"],"args":["a","b"],"active":false,
            "inputs":[{"path":"/in/2/","tags":["e:f","e:f"]},{"path":"/in/1","tags":["c:d","a:b"]}],
            "outputs":[{"path":"/out","tags":["g:h"]}],"log":{"tags":["i:j"]},"on_node":{"may":["k=v"]},
            "resources":{"cpu":"3"},"service_account":"x","annotations":["n=m"]}"#;
        assert_eq!(digest(&spec(BASE)), digest(&spec(same)));
    }

    #[test]
    fn everything_else_counts() {
        for (from, to) in [
            ("train:v1", "train:v2"),
            ("train:v1", "trainer:v1"),
            (r#""entrypoint":["sh"]"#, r#""entrypoint":["bash"]"#),
            (r#"["a","b"]"#, r#"["b","a"]"#),
            (r#"["a","b"]"#, r#"["a b"]"#),
            ("/in/1", "/in/3"),
            ("a:b", "a:c"),
            ("/out", "/output"),
            ("g:h", "g:i"),
            (r#""log":{"tags":["i:j"]}"#, r#""log":{"tags":[]}"#),
            (r#""log":{"tags":["i:j"]}"#, r#""log":null"#),
            (r#""may""#, r#""must""#),
            ("k=v", "k=w"),
        ] {
            assert!(BASE.contains(from), "{from}");
            assert_ne!(digest(&spec(BASE)), digest(&spec(&BASE.replace(from, to))), "{from} -> {to}");
        }
    }

    #[test]
    fn a_time_is_one_time_however_it_is_written() {
        let with = |time: &str| {
            spec(&format!(r#"{{"image":"a/b:v1","inputs":[{{"path":"/in","tags":["knit#timestamp:{time}"]}}]}}"#))
        };
        assert_eq!(digest(&with("2025-02-03T04:05:06.1234Z")), digest(&with("2025-02-03T13:05:06.123+09:00")));
        assert_ne!(digest(&with("2025-02-03T04:05:06.123Z")), digest(&with("2025-02-03T04:05:06.124Z")));
    }
}
