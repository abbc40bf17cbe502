//! JSON habits of the wire: member names are matched without regard to case, `null` means absent,
//! unknown members are ignored, and only the first value of a body counts.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// Member names with which requests and answers are read; any other spelling in case is folded to these.
const MEMBERS: &[&str] = &[
    "active",
    "add",
    "annotations",
    "args",
    "code",
    "digest",
    "downstreams",
    "entrypoint",
    "exit",
    "image",
    "imageDigest",
    "inputs",
    "knitId",
    "log",
    "may",
    "message",
    "mountpoint",
    "must",
    "name",
    "nomination",
    "on_node",
    "outputs",
    "path",
    "plan",
    "planId",
    "prefer",
    "remove",
    "remove_key",
    "resources",
    "run",
    "runId",
    "service_account",
    "set",
    "status",
    "tags",
    "unset",
    "updatedAt",
    "upstream",
    "upstreams",
];

/// Objects below these members are maps of the user's own keys: nothing in them is folded.
const MAPS: &[&str] = &["resources", "set"];

/// Reads the first JSON value of `text` as a `T`, folding the case of known member names.
pub fn from_slice<T: DeserializeOwned>(text: &[u8]) -> Result<T, serde_json::Error> {
    let mut values = serde_json::Deserializer::from_slice(text).into_iter::<Value>();
    let mut value = match values.next() {
        Some(value) => value?,
        None => return Err(serde::de::Error::custom("the body is empty")),
    };
    fold_names(&mut value);
    T::deserialize(value)
}

fn fold_names(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(fold_names),
        Value::Object(object) => {
            let mut folded = serde_json::Map::with_capacity(object.len());
            for (name, mut inner) in std::mem::take(object) {
                let known = MEMBERS.iter().find(|member| member.eq_ignore_ascii_case(&name)).copied();
                if !known.is_some_and(|member| MAPS.contains(&member)) {
                    fold_names(&mut inner);
                }
                folded.insert(known.map_or(name, str::to_owned), inner);
            }
            *object = folded;
        }
        _ => {}
    }
}

/// For `#[serde(deserialize_with)]`: `null` reads as the type's default.
pub fn null_is_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn member_names_are_read_in_any_case_but_map_keys_keep_theirs() {
        #[derive(Deserialize)]
        struct Body {
            #[serde(rename = "planId")]
            plan_id: String,
            resources: std::collections::BTreeMap<String, String>,
        }
        let body: Body = from_slice(br#"{"PLANID":"p","Resources":{"Image":"1"},"other":2} trailing"#).unwrap();
        assert_eq!(body.plan_id, "p");
        assert!(body.resources.contains_key("Image"));
    }
}
