//! `knit init`, `profile` and `env`, and how a folder comes to its profile and environment file.

#![expect(clippy::unwrap_used, reason = "a test ends at its first surprise")]

mod fake;

use fake::{Fake, Home, json};
use serde_json::json as value;

/// An original server with nothing in it.
fn empty() -> Fake {
    Fake::start(|request| {
        if request.target == "/api/server" {
            return json(404, &value!({"message": "Not Found"}));
        }
        json(200, &value!([]))
    })
}

#[test]
fn init_in_a_folder_below_leaves_the_profile_above_alone() {
    let (above, below) = (empty(), empty());
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
    let server = empty();
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

/// A store with two profiles, the second with a token.
fn two(home: &Home, first: &str, second: &str) {
    let text = format!(
        "p:\n    apiRoot: {first}\n    cert: {{}}\nq:\n    apiRoot: {second}\n    cert: {{}}\n    token: s3cret\n"
    );
    std::fs::write(home.store(), text).unwrap();
}

#[test]
fn a_flag_is_stronger_than_the_environment_and_that_than_files() {
    let (first, second) = (empty(), empty());
    let home = Home::of("http://unused/api", None);
    two(&home, &first.api_root(), &second.api_root());
    let asked = |variable: &str, arguments: &[&str]| {
        let before = (first.requests().len(), second.requests().len());
        let mut command = home.command(&home.project(), arguments);
        let ended = fake::Ended::from(command.env("KNIT_PROFILE", variable).output().unwrap());
        assert_eq!(ended.code, Some(0), "{ended:?}");
        (first.requests().len() - before.0, second.requests().len() - before.1)
    };
    assert_eq!(asked("q", &["data", "find"]), (0, 1));
    assert_eq!(asked("q", &["data", "find", "--profile", "p"]), (1, 0));
    assert_eq!(asked("", &["data", "find"]), (1, 0), "an empty one is as none");
    let elsewhere = home.project().join("store");
    std::fs::rename(home.store(), &elsewhere).unwrap();
    let mut command = home.command(&home.project(), &["data", "find"]);
    let ended = fake::Ended::from(command.env("KNIT_PROFILE_STORE", &elsewhere).output().unwrap());
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let ended = home.knit(&["data", "find"]);
    assert_eq!(ended.code, Some(2), "{ended:?}");
}

#[test]
fn a_profile_that_is_missing_or_cannot_be_reached_is_told_with_what_named_it() {
    let home = Home::of("http://127.0.0.1:1/api", None);
    let named = format!("{}/.knitprofile names it", home.project().display());
    let ended = home.knit(&["data", "find"]);
    assert!(ended.stderr.contains(&named) && ended.stderr.contains(".knit/profile"), "{ended:?}");
    let mut command = home.command(&home.project(), &["data", "find"]);
    let ended = fake::Ended::from(command.env("KNIT_PROFILE", "zzz").output().unwrap());
    assert_eq!(ended.code, Some(2), "{ended:?}");
    for part in ["no profile \"zzz\"", "the environment variable KNIT_PROFILE names it", "choose one of: p"] {
        assert!(ended.stderr.contains(part), "{part} is missing: {ended:?}");
    }
}

#[test]
fn profiles_are_listed_with_the_one_that_is_used_and_why() {
    let home = Home::of("http://unused/api", None);
    two(&home, "http://a/api", "https://b/api");
    let ended = home.knit(&["profile", "ls"]);
    let list: serde_json::Value = serde_json::from_str(&ended.text()).unwrap();
    let why = format!("{}/.knitprofile names it", home.project().display());
    assert_eq!(
        list,
        value!([
            {"name": "p", "current": true, "why": why, "apiRoot": "http://a/api", "hasToken": false, "hasCa": false},
            {"name": "q", "current": false, "apiRoot": "https://b/api", "hasToken": true, "hasCa": false},
        ])
    );
    assert_eq!(home.knit(&["profile", "ls", "-o", "name"]).text(), "p\nq\n");
    let text = home.knit(&["profile", "ls", "-o", "wide"]).text();
    assert!(text.lines().any(|line| line.starts_with("*  p")) && !text.contains("s3cret"), "{text}");
}

#[test]
fn a_token_is_shown_only_when_it_is_asked_for() {
    let home = Home::of("http://unused/api", None);
    two(&home, "http://a/api", "https://b/api");
    for form in ["json", "yaml", "table", "wide", "name"] {
        let hidden = home.knit(&["profile", "show", "q", "-o", form]);
        assert_eq!((hidden.code, hidden.text().contains("s3cret")), (Some(0), false), "{form}: {hidden:?}");
        let shown = home.knit(&["profile", "show", "q", "-o", form, "--show-token"]);
        assert_eq!(shown.text().contains("s3cret"), form != "name", "{form}: {shown:?}");
    }
    assert_eq!(home.knit(&["profile", "show", "-o", "name"]).text(), "p\n");
    assert_eq!(home.knit(&["profile", "show", "zzz"]).code, Some(5));
}

#[test]
fn a_profile_is_chosen_everywhere_or_for_a_folder() {
    let home = Home::of("http://unused/api", None);
    two(&home, "http://a/api", "https://b/api");
    let used = |folder: &std::path::Path| home.knit_in(folder, &["profile", "show", "-o", "name"]).text();
    let outside = home.project().with_file_name("outside");
    std::fs::create_dir_all(home.project().join("deep")).unwrap();
    std::fs::create_dir(&outside).unwrap();
    let ended = home.knit(&["profile", "use", "q"]);
    assert_eq!((ended.code, ended.text().as_str()), (Some(0), ""), "{ended:?}");
    assert!(ended.stderr.contains("\"p\" is still used"), "{ended:?}");
    assert_eq!((used(&outside).as_str(), used(&home.project()).as_str()), ("q\n", "p\n"));
    assert_eq!(home.knit(&["profile", "use", "q", "--here"]).code, Some(0));
    assert_eq!(used(&home.project().join("deep")), "q\n");
    let ended = home.knit(&["profile", "use", "zzz"]);
    assert_eq!(ended.code, Some(5), "{ended:?}");
}

#[test]
fn a_profile_is_forgotten_only_with_consent_and_its_currency_with_it() {
    let home = Home::of("http://unused/api", None);
    two(&home, "http://a/api", "https://b/api");
    home.knit(&["profile", "use", "p"]);
    let ended = home.knit(&["profile", "rm", "p"]);
    assert_eq!(ended.code, Some(2), "nobody can be asked here: {ended:?}");
    assert_eq!(home.knit(&["profile", "ls", "-o", "name"]).text(), "p\nq\n");
    let ended = home.knit(&["profile", "rm", "p", "--yes"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    for part in ["forgot the profile \"p\"", "it was the current one", ".knitprofile still names it"] {
        assert!(ended.stderr.contains(part), "{part} is missing: {ended:?}");
    }
    assert_eq!(home.knit(&["profile", "ls", "-o", "name"]).text(), "q\n");
    assert!(!home.store().with_file_name("current").exists());
    assert_eq!(home.knit(&["profile", "rm", "p", "--yes"]).code, Some(5));
}

#[test]
fn init_asks_the_server_whether_it_is_there_and_only_warns() {
    let server = Fake::start(|_| json(200, &value!({"version": "0.1.0", "capabilities": []})));
    let home = Home::of("http://unused/api", None);
    home.write("up", &format!("apiRoot: {}\n", server.api_root()));
    home.write("down", "apiRoot: http://127.0.0.1:1/api\n");
    let ended = home.knit(&["init", "up"]);
    assert_eq!((ended.code, ended.stderr.contains("warning")), (Some(0), false), "{ended:?}");
    assert_eq!(server.all_requests().len(), 1);
    let ended = home.knit(&["init", "down"]);
    assert_eq!((ended.code, ended.text().as_str()), (Some(0), ""), "{ended:?}");
    assert!(ended.stderr.contains("warning: the profile is registered, but its server cannot be asked"), "{ended:?}");
    let ended = home.knit(&["init", "--no-check", "down"]);
    assert_eq!((ended.code, ended.stderr.contains("warning")), (Some(0), false), "{ended:?}");
}

#[test]
fn init_again_in_the_same_folder_replaces_its_own_profile() {
    let home = Home::of("http://unused/api", None);
    home.write("handout", "apiRoot: http://new/api\n");
    assert_eq!(home.knit(&["init", "--no-check", "handout"]).code, Some(0));
    assert_eq!(home.knit(&["profile", "ls", "-o", "name"]).text(), "p\n", "the name in .knitprofile stays");
    let shown = home.knit(&["profile", "show"]).text();
    assert!(shown.contains("http://new/api"), "{shown}");
}

#[test]
fn the_environment_file_is_shown_with_what_named_it() {
    let home = Home::of("http://unused/api", None);
    let none = home.knit(&["env"]);
    assert_eq!(none.code, Some(0), "{none:?}");
    let none: serde_json::Value = serde_json::from_str(&none.text()).unwrap();
    assert_eq!(none, value!({"file": null, "why": null, "tag": [], "resource": {}}));
    home.write("knitenv", "tag: [\"a:b\"]\nresource: {cpu: 0.5}\n");
    home.write("other", "tag: [\"c:d\"]\n");
    let shown: serde_json::Value = serde_json::from_str(&home.knit(&["env"]).text()).unwrap();
    assert_eq!((&shown["tag"], &shown["resource"]), (&value!(["a:b"]), &value!({"cpu": "500m"})));
    let mut command = home.command(&home.project(), &["env", "-o", "table"]);
    let ended = fake::Ended::from(command.env("KNIT_ENV", "other").output().unwrap());
    assert!(ended.text().contains("KNIT_ENV names it") && ended.text().contains("c:d"), "{ended:?}");
    // v1.6.1 tells extensions of a file that need not be there.
    let mut command = home.command(&home.project(), &["env"]);
    assert_eq!(command.env("KNIT_ENV", "nowhere").output().unwrap().status.code(), Some(0));
    assert_eq!(home.knit(&["env", "--env", "nowhere"]).code, Some(2));
}
