//! `knit init`, and how a folder comes to its profile.

mod fake;

use fake::{Fake, Home, json};
use serde_json::json as value;

#[test]
fn init_in_a_folder_below_leaves_the_profile_above_alone() {
    let (above, below) = (Fake::start(|_| json(200, &value!([]))), Fake::start(|_| json(200, &value!([]))));
    let home = Home::of(&above.api_root(), None);
    home.write("deep/handout", &format!("apiRoot: {}\ncert: {{}}\n", below.api_root()));
    let deep = home.project().join("deep");
    let ended = home.knit_in(&deep, &["init", "handout"]);
    assert_eq!((ended.code, ended.text().as_str()), (Some(0), ""), "{ended:?}");
    assert_eq!(home.knit_in(&deep, &["data", "find"]).code, Some(0));
    assert_eq!(home.knit(&["data", "find"]).code, Some(0));
    assert_eq!((above.requests().len(), below.requests().len()), (1, 1));
}

#[test]
fn the_current_profile_is_the_last_resort() {
    let server = Fake::start(|_| json(200, &value!([])));
    let home = Home::of(&server.api_root(), None);
    std::fs::remove_file(home.project().join(".knitprofile")).unwrap();
    let ended = home.knit(&["data", "find"]);
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.stderr.contains("no profile is set for this folder"), "{ended:?}");
    std::fs::write(home.store().with_file_name("current"), "p\n").unwrap();
    let ended = home.knit(&["data", "find"]);
    assert_eq!((ended.code, ended.text().as_str()), (Some(0), "[]\n"), "{ended:?}");
}

#[test]
fn a_command_without_a_server_needs_no_profile() {
    let home = Home::of("nonsense", None);
    std::fs::write(home.store(), "[").unwrap();
    let ended = home.knit(&["version"]);
    assert_eq!((ended.code, ended.text()), (Some(0), format!("v{}\n", knit_api::VERSION)));
}

#[test]
fn a_missing_environment_file_is_told_when_it_was_asked_for() {
    let home = Home::of("http://127.0.0.1:1/api", None);
    home.write("src/a", "");
    let ended = home.knit(&["data", "push", "--env", "nowhere", "src"]);
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.stderr.contains("environment file nowhere"), "{ended:?}");
}

#[test]
fn a_plan_file_is_refused_by_name_line_and_column_before_anything_is_sent() {
    let home = Home::of("http://127.0.0.1:1/api", None);
    home.write("plan.yaml", "image: ab\nlogs:\n  - x\n");
    let ended = home.knit(&["plan", "apply", "plan.yaml"]);
    assert_eq!(ended.code, Some(2));
    assert_eq!(
        ended.stderr,
        "error: plan.yaml is not a Plan: line 2, column 1: unknown key \"logs\": did you mean \"log\"?\n"
    );
}
