//! The environment file of a project: tags for everything that is pushed, resources for new Plans.

use crate::terminal::{Failure, note};
use crate::yaml;
use knit_api::plan::Resources;
use knit_api::tag::Tag;
use serde::Deserialize;
use std::collections::HashMap;
use std::path::Path;

/// What stands in an environment file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KnitEnv {
    /// Added to pushed Data.
    pub tags: Vec<Tag>,
    /// Put into Plans that are made from a template.
    pub resources: Resources,
}

#[derive(Default, Deserialize)]
struct File {
    #[serde(default)]
    tag: Option<Vec<Tag>>,
    #[serde(default)]
    resource: Option<Resources>,
    #[serde(flatten)]
    others: HashMap<String, serde_json::Value>,
}

impl KnitEnv {
    /// Reads an environment file.
    pub fn load(path: &Path) -> Result<Self, Failure> {
        let wrong =
            |why: String| Failure::usage(format!("cannot read the environment file {}", path.display())).why(why);
        let text = yaml::read_text(path, false).map_err(wrong)?;
        let (environment, slips) = Self::parse(&text).map_err(|e| wrong(e.to_string()))?;
        for slip in slips {
            note(&format!("ignored in {}: {slip}", path.display()));
        }
        Ok(environment)
    }

    /// Reads the text of an environment file; unknown keys that look like a slip are told beside it.
    fn parse(text: &str) -> Result<(Self, Vec<String>), yaml::YamlError> {
        const KNOWN: [&str; 2] = ["tag", "resource"];
        let file = yaml::from_str::<Option<File>>(text)?.unwrap_or_default();
        let slips = file
            .others
            .keys()
            .filter(|key| yaml::nearest(key, &KNOWN).is_some())
            .map(|key| yaml::unknown_key(key, &KNOWN))
            .collect();
        Ok((Self { tags: file.tag.unwrap_or_default(), resources: file.resource.unwrap_or_default() }, slips))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_come_in_both_forms_and_quantities_as_numbers_or_text() {
        let text = "tag:\n  - \"project: x \"\n  - {key: a, value: b}\nresource:\n  cpu: 0.5\n  memory: 1Gi\nmore: 1\n";
        let (environment, slips) = KnitEnv::parse(text).unwrap();
        assert_eq!(environment.tags, [Tag::new("project", "x"), Tag::new("a", "b")]);
        assert_eq!(environment.resources["cpu"].to_string(), "500m");
        assert_eq!(slips, Vec::<String>::new());
    }

    #[test]
    fn an_empty_file_is_an_empty_environment_and_slips_are_told() {
        assert_eq!(KnitEnv::parse("").unwrap().0, KnitEnv::default());
        assert_eq!(KnitEnv::parse("# nothing\n").unwrap().0, KnitEnv::default());
        let (_, slips) = KnitEnv::parse("tags: []\n").unwrap();
        assert_eq!(slips, ["unknown key \"tags\": did you mean \"tag\"?"]);
    }

    #[test]
    fn what_is_wrong_is_said() {
        for text in ["tag: 3\n", "tag:\n - nocolon\n", "resource:\n  cpu: lots\n", "tag: [\n", "- 1\n"] {
            assert!(KnitEnv::parse(text).is_err(), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_gives_an_environment_or_an_error(text in "([ \n]|tag|resource|cpu|: |- |[0-9a-z]|\\{|\\}|\"){0,40}") {
            let _ = KnitEnv::parse(&text);
        }
    }
}
