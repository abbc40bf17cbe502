//! Extension commands: what they are given, how they end, how they are told.

#![expect(clippy::unwrap_used, reason = "a test ends at its first surprise")]

mod fake;

use fake::{Ended, Home};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// What the records of v1.6.1 call `knit-hello`.
const HELLO: &str = "#!/bin/sh\necho \"args:$*\"; env | grep ^KNIT_ | sort; cat; exit 3\n";

/// A home with a folder of programs on PATH.
struct Place {
    home: Home,
}

impl Place {
    fn with(programs: &[(&str, &str, u32)]) -> Self {
        let home = Home::of("http://127.0.0.1:1/api", None);
        let place = Self { home };
        std::fs::create_dir_all(place.bin()).unwrap();
        for (name, text, mode) in programs {
            let path = place.bin().join(name);
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(*mode)).unwrap();
        }
        place
    }

    fn bin(&self) -> PathBuf {
        self.home.project().join("bin")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.home.command(&self.home.project(), arguments);
        command.env("PATH", format!("{}:/usr/bin:/bin", self.bin().display()));
        command
    }

    fn knit(&self, arguments: &[&str]) -> Ended {
        Ended::from(self.command(arguments).output().unwrap())
    }
}

#[test]
fn an_extension_gets_its_arguments_its_input_and_what_the_common_flags_say() {
    let place = Place::with(&[("knit-hello", HELLO, 0o755)]);
    let mut child =
        place.command(&["--profile", "p", "hello", "a", "--foo", "b=c"]).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"from stdin\n").unwrap();
    let ended = Ended::from(child.wait_with_output().unwrap());
    // As recorded with v1.6.1, but for the exit code, which it made a 1, and its words about that.
    let project = place.home.project();
    let said = format!(
        "args:a --foo b=c\nKNIT_ENV={}/knitenv\nKNIT_PROFILE=p\nKNIT_PROFILE_STORE={}\nfrom stdin\n",
        project.display(),
        place.home.store().display()
    );
    assert_eq!((ended.code, ended.text(), ended.stderr.as_str()), (Some(3), said, ""));
}

#[test]
fn everything_behind_its_name_is_the_extensions_own() {
    let place = Place::with(&[("knit-hello", HELLO, 0o755)]);
    // v1.6.1 took these away from it.
    let arguments = ["hello", "-h", "--help", "--profile", "other", "--", "--env=e", "-"];
    let ended = place.knit(&arguments);
    assert!(ended.text().starts_with(&format!("args:{}\n", arguments[1..].join(" "))), "{ended:?}");
    assert!(ended.text().contains("KNIT_PROFILE=p\n"), "the flag behind the name is not ours: {ended:?}");
    let ended = place.knit(&["--env", "/x/e", "--profile-store=/s", "hello"]);
    assert!(ended.text().contains("KNIT_ENV=/x/e\nKNIT_PROFILE=p\nKNIT_PROFILE_STORE=/s\n"), "{ended:?}");
}

#[test]
fn an_extension_calls_knit_with_the_same_profile() {
    let text = format!("#!/bin/sh\nexec '{}' profile show -o name\n", env!("CARGO_BIN_EXE_knit"));
    let place = Place::with(&[("knit-which", &text, 0o755)]);
    std::fs::write(
        place.home.store(),
        "p:\n    apiRoot: http://x/api\n    cert: {}\nq:\n    apiRoot: http://y/api\n    cert: {}\n",
    )
    .unwrap();
    assert_eq!(place.knit(&["which"]).text(), "p\n");
    assert_eq!(place.knit(&["--profile", "q", "which"]).text(), "q\n");
}

#[test]
fn a_signal_that_ends_an_extension_ends_knit_the_same_way() {
    let place = Place::with(&[("knit-killed", "#!/bin/sh\nkill -TERM $$\n", 0o755)]);
    let status = place.command(&["killed"]).status().unwrap();
    assert_eq!(status.signal(), Some(15), "{status:?}");
}

#[test]
fn a_name_of_a_builtin_is_told_and_changes_nothing() {
    let place = Place::with(&[("knit-data", "#!/bin/sh\necho taken over\n", 0o755)]);
    let ended = place.knit(&["version"]);
    assert_eq!((ended.code, ended.text()), (Some(0), format!("v{}\n", knit_api::VERSION)), "{ended:?}");
    assert!(!place.knit(&["data", "--help"]).text().contains("taken over"));
    let help = place.knit(&["--help"]).text();
    assert!(help.contains("Never called") && help.contains("bin/knit-data"), "{help}");
}

#[test]
fn help_lists_what_can_be_called_and_nothing_else() {
    let place = Place::with(&[
        ("knit-hello", HELLO, 0o755),
        ("knit-more.sh", HELLO, 0o755),
        ("knit-win.exe", HELLO, 0o755),
        ("knit-noexec", "#!/bin/sh\n", 0o644),
        ("knit-", HELLO, 0o755),
        ("other", HELLO, 0o755),
    ]);
    std::fs::create_dir(place.bin().join("knit-folder")).unwrap();
    let help = place.knit(&["--help"]).text();
    let (_, listed) = help.split_once("Extensions:\n").unwrap();
    let names: Vec<&str> = listed
        .lines()
        .take_while(|line| !line.is_empty())
        .map(|line| line.split_whitespace().next().unwrap())
        .collect();
    assert_eq!(names, ["hello", "more.sh", "win"], "{help}");
    assert!(help.contains(&place.bin().join("knit-hello").display().to_string()), "{help}");
    for name in ["noexec", "folder", ""] {
        assert_eq!(place.knit(&[name]).code, Some(2), "{name:?}");
    }
    assert_eq!(place.knit(&["win"]).code, Some(3));
}

#[test]
fn the_first_one_on_path_is_the_one() {
    let place = Place::with(&[("knit-hello", "#!/bin/sh\necho first\n", 0o755)]);
    let second = place.home.project().join("second");
    std::fs::create_dir(&second).unwrap();
    std::fs::copy(place.bin().join("knit-hello"), second.join("knit-hello")).unwrap();
    std::fs::write(second.join("knit-hello"), "#!/bin/sh\necho second\n").unwrap();
    for (path, said) in [
        (format!("/nowhere:{}:{}:/bin", place.bin().display(), second.display()), "first\n"),
        (format!("{}:{}:/bin", second.display(), place.bin().display()), "second\n"),
    ] {
        let ended = Ended::from(place.command(&["hello"]).env("PATH", path).output().unwrap());
        assert_eq!(ended.text(), said, "{ended:?}");
    }
    // An empty folder in PATH is the current one.
    let mut command = place.home.command(&place.bin(), &["hello"]);
    let ended = Ended::from(command.env("PATH", ":/bin").output().unwrap());
    assert_eq!(ended.text(), "first\n", "{ended:?}");
}

#[test]
fn a_word_that_nobody_knows_gets_the_nearest_one_proposed() {
    let place = Place::with(&[("knit-hello", HELLO, 0o755)]);
    for (typed, meant) in [("helo", "'hello'"), ("dta", "'data'")] {
        let ended = place.knit(&[typed]);
        assert_eq!(ended.code, Some(2), "{ended:?}");
        assert!(ended.stderr.contains(meant), "{ended:?}");
    }
}

#[test]
fn what_cannot_be_executed_is_told_with_its_file() {
    let place = Place::with(&[("knit-broken", "#!/nowhere/interpreter\n", 0o755)]);
    let ended = place.knit(&["broken"]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains("bin/knit-broken") && ended.stderr.contains("try: "), "{ended:?}");
}
