//! The grammar over command lines recorded with v1.6.1: what it took is taken, what it refused is
//! refused, and every difference stands in a column of the table.

use clap::Parser as _;
use knit_cli::args::Knit;

/// Each line: what v1.6.1 did (`taken` or `usage`), what this program does, and the arguments as JSON.
const TABLE: &str = include_str!("data/command-lines.tsv");

#[test]
fn recorded_command_lines_are_taken_or_refused_as_the_table_says() {
    let mut wrong = Vec::new();
    for line in TABLE.lines().filter(|line| !line.starts_with('#')) {
        let fields: Vec<&str> = line.split('\t').collect();
        let [_, now, arguments] = fields[..] else { panic!("{line}") };
        let arguments: Vec<String> = serde_json::from_str(arguments).expect("arguments are JSON");
        let outcome = Knit::try_parse_from(std::iter::once("knit".to_owned()).chain(arguments));
        let found = if outcome.is_ok() { "taken" } else { "usage" };
        if found != now {
            wrong.push(format!("{found} instead of {line}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_table_has_rows_for_every_verb() {
    for verb in [
        "\"init\"",
        "\"push\"",
        "\"pull\"",
        "\"lineage\"",
        "\"apply\"",
        "\"active\"",
        "\"template\"",
        "\"resource\"",
        "\"annotate\"",
        "\"serviceaccount\"",
        "\"stop\"",
        "\"retry\"",
        "\"rm\"",
    ] {
        assert!(TABLE.contains(verb), "{verb}");
    }
}

#[test]
fn a_form_of_output_is_not_taken_for_an_id_or_a_tag() {
    for (noun, id) in [("run", "0b1c"), ("plan", "type:model")] {
        for form in ["table", "json", "yaml", "name", "wide"] {
            let refused = Knit::try_parse_from(["knit", noun, "find", "-o", form]).expect_err(form);
            assert_eq!(refused.exit_code(), 2, "{noun} {form}");
            assert!(refused.to_string().contains(&format!("write --output {form}")), "{refused}");
        }
        assert!(Knit::try_parse_from(["knit", noun, "find", "-o", id, "--output", "json"]).is_ok(), "{noun}");
    }
}
