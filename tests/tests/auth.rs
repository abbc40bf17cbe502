//! Who is let in: whoever reaches the API can start containers, so a token is asked for everywhere
//! but at the health routes, and it is not to be seen anywhere.

use knit_tests::able::{BUSYBOX, ROOT};
use knit_tests::wire::Request;
use knit_tests::{Step, World, able, processes};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Every route of the API, with a method that it knows.
const API: [(&str, &str); 19] = [
    ("GET", "/api/server"),
    ("GET", "/api/server/status"),
    ("GET", "/api/cluster"),
    ("GET", "/api/data"),
    ("POST", "/api/data"),
    ("GET", "/api/data/some-id"),
    ("PUT", "/api/data/some-id"),
    ("GET", "/api/plans"),
    ("POST", "/api/plans"),
    ("GET", "/api/plans/some-id"),
    ("PUT", "/api/plans/some-id/active"),
    ("GET", "/api/plans/some-id/wait"),
    ("GET", "/api/runs"),
    ("GET", "/api/runs/some-id"),
    ("DELETE", "/api/runs/some-id"),
    ("GET", "/api/runs/some-id/log"),
    ("PUT", "/api/runs/some-id/abort"),
    ("GET", "/api/runs/some-id/wait"),
    ("GET", "/api/no/such/route"),
];

/// Routes of the registry.
const REGISTRY: [(&str, &str); 9] = [
    ("GET", "/v2/"),
    ("GET", "/v2/_catalog"),
    ("GET", "/v2/some/image/tags/list"),
    ("GET", "/v2/some/image/manifests/v1"),
    ("HEAD", "/v2/some/image/manifests/v1"),
    ("PUT", "/v2/some/image/manifests/v1"),
    ("GET", "/v2/some/image/blobs/sha256:0000000000000000000000000000000000000000000000000000000000000000"),
    ("POST", "/v2/some/image/blobs/uploads/"),
    ("DELETE", "/v2/some/image/manifests/v1"),
];

#[test]
fn without_the_token_nothing_answers_but_health() {
    if !able(&[ROOT]) {
        return;
    }
    let world = World::start();
    let (api, registry) = (world.api(), world.registry());
    let token = world.token().expect("a token is asked for by default");
    for path in ["/healthz", "/readyz"] {
        Request::new("GET", path).send(&api).status(200);
    }
    for (method, path) in API {
        for request in strangers(method, path, &token) {
            let answer = request.send(&api);
            assert_eq!(answer.status, 401, "{method} {path} of the API: {request:?}");
        }
    }
    for (method, path) in REGISTRY {
        for request in strangers(method, path, &token) {
            let answer = request.send(&registry);
            assert_eq!(answer.status, 401, "{method} {path} of the registry: {request:?}");
            let challenge = answer.header("www-authenticate").unwrap_or_default();
            assert!(challenge.starts_with("Basic"), "clients learn how to answer: {challenge:?}");
        }
    }
    Request::new("GET", "/api/data").bearer(&token).send(&api).status(200);
    Request::new("GET", "/v2/").basic("knit", &token).send(&registry).status(200);
}

/// Requests of those who do not know the token, or not all of it.
fn strangers(method: &str, path: &str, token: &str) -> Vec<Request> {
    let request = || Request::new(method, path);
    let (half, longer) = (&token[..token.len() / 2], format!("{token}0"));
    vec![
        request(),
        request().bearer("wrong"),
        request().bearer(half),
        request().bearer(&longer),
        request().header("Authorization", "Bearer "),
        request().header("Authorization", token),
        request().basic("knit", "wrong"),
        request().header("Authorization", "Basic !!!"),
    ]
}

#[test]
fn the_token_lies_only_in_private_files() {
    if !able(&[ROOT]) {
        return;
    }
    let world = World::start();
    let token = world.token().expect("a token is asked for by default");
    world.knit(&["data", "find"]).ok();
    let server = world.server().expect("the server runs");
    for process in processes::all(|_| true) {
        let words = processes::arguments(process.pid).join(" ");
        assert!(!words.contains(&token), "the token stands in a command line: {words}");
    }
    let environment = String::from_utf8_lossy(&processes::environment(server.pid)).into_owned();
    assert!(!environment.contains(&token), "the token stands in the server's environment");

    let mut holders = Vec::new();
    files_with(world.base(), &token, &mut holders);
    assert!(holders.iter().any(|path| path.ends_with("handout/knitprofile")), "{holders:?}");
    for path in holders {
        let mode = fs::metadata(&path).expect("it was just read").permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{} holds the token", path.display());
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        assert!(["token", "knitprofile", "profile"].contains(&name.as_str()), "{} holds the token", path.display());
    }
}

fn files_with(folder: &Path, text: &str, found: &mut Vec<std::path::PathBuf>) {
    for entry in fs::read_dir(folder).expect("a readable folder").filter_map(Result::ok) {
        let (path, kind) = (entry.path(), entry.file_type().expect("it was just listed"));
        if kind.is_dir() {
            files_with(&path, text, found);
        } else if kind.is_file() {
            let content = fs::read(&path).unwrap_or_default();
            if content.windows(text.len()).any(|window| window == text.as_bytes()) {
                found.push(path);
            }
        }
    }
}

/// Another user of this machine, with no rights of its own.
const NOBODY: [&str; 3] = ["--reuid=nobody", "--regid=nogroup", "--clear-groups"];

#[test]
fn other_users_of_the_machine_see_nothing_of_what_is_stored() {
    if !able(&[ROOT, BUSYBOX, "setpriv"]) {
        return;
    }
    let world = World::new();
    // Else the world's own folder would hide it all.
    open_to_all(world.base());
    world.up(&[]).ok();
    let image = world.busybox();
    let leaves = "cp /bin/busybox /out/tool; chmod 4755 /out/tool; chmod 777 /out; echo secret > /out/a; \
                  echo begun; sleep 600";
    let plan = world.apply(&Step::new(&image, leaves).input("/in", &["a:b"]).output("/out", &["c:d"]).log(&["e:f"]));
    world.push(&world.folder("x", &[("x", b"secret")]), &["a:b"]);
    let run = world.the_run_once_it_is_there(&plan);
    world.follow_log(&run).until("begun");
    nobody_reaches_what_is_in(&world);

    // An installation that an earlier version left open is closed by the next start, while its container goes on.
    world.kill_server();
    for entry in fs::read_dir(world.dir()).expect("the installation").filter_map(Result::ok) {
        let stored = ["volumes", "manifests", "content", "layers", "workers"];
        let name = entry.file_name().to_string_lossy().into_owned();
        if stored.contains(&name.as_str()) || name.starts_with("state.db") {
            open_to_all(&entry.path());
        }
    }
    assert_ne!(reached_by_nobody(&world), Vec::<String>::new(), "what is open is seen");
    world.up(&[]).ok();
    nobody_reaches_what_is_in(&world);
    world.knit(&["run", "stop", &run]).ok();
    world.follow_log(&run).finish();
    world.down(&["--grace", "0s"]).ok();
    nobody_reaches_what_is_in(&world);
}

fn open_to_all(path: &Path) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("root sets modes");
}

#[track_caller]
fn nobody_reaches_what_is_in(world: &World) {
    assert_eq!(reached_by_nobody(world), Vec::<String>::new());
}

/// All that lies below the folders of the server, and its database, as far as somebody else can read, enter,
/// write or execute it.
fn reached_by_nobody(world: &World) -> Vec<String> {
    let mut all = Vec::new();
    let mut open = vec![world.dir().to_owned()];
    while let Some(folder) = open.pop() {
        // Files of the database come and go.
        for entry in fs::read_dir(&folder).into_iter().flatten().filter_map(Result::ok) {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                open.push(entry.path());
            }
            // Tells only how the server was started, which users may know.
            if entry.file_name() != "installation.json" {
                all.push(entry.path().to_string_lossy().into_owned());
            }
        }
    }
    let ask = r#"for f; do if [ -r "$f" ] || [ -w "$f" ] || [ -x "$f" ]; then echo "$f"; fi; done"#;
    let mut arguments: Vec<&str> = NOBODY.to_vec();
    arguments.extend(["sh", "-c", ask, "sh"]);
    arguments.extend(all.iter().map(String::as_str));
    world.run("setpriv", &arguments).ok().text().lines().map(str::to_owned).collect()
}

#[test]
fn a_user_with_a_wrong_token_is_told_so() {
    if !able(&[ROOT]) {
        return;
    }
    let world = World::start();
    let token = world.token().expect("a token is asked for by default");
    let wrong = fs::read_to_string(world.knitprofile()).expect("the handout").replace(&token, "another-token-entirely");
    let file = world.work().join("wrong-profile");
    fs::write(&file, wrong).expect("a file");
    world.knit(&["init", "wrong-profile"]).ok();
    world.knit(&["data", "find"]).fails(4, &["token"]);
}

#[test]
fn everyone_is_let_in_where_the_operator_says_so() {
    if !able(&[ROOT]) {
        return;
    }
    let world = World::start_without_tokens();
    assert_eq!(world.token(), None);
    Request::new("GET", "/api/data").send(&world.api()).status(200);
    Request::new("GET", "/v2/").send(&world.registry()).status(200);
    world.knit(&["data", "find"]).ok();
}

#[test]
fn both_ports_listen_on_this_machine_alone() {
    if !able(&[ROOT, "ss"]) {
        return;
    }
    let world = World::start();
    for address in [world.api(), world.registry()] {
        let (_, port) = address.rsplit_once(':').expect("host:port");
        let shown = world.run("ss", &["-ltnH", &format!("sport = :{port}")]).ok().text();
        let local: Vec<&str> = shown.lines().filter_map(|line| line.split_whitespace().nth(3)).collect();
        assert_eq!(local, [format!("127.0.0.1:{port}")], "{shown}");
    }
}
