//! Looking into Data without fetching it: lists, single files, parts, comparisons; and that nobody sees more that way than
//! what is in the Data.

use knit_tests::able::{BUSYBOX, NODE, ROOT};
use knit_tests::wire::{Answer, Request};
use knit_tests::world::tree;
use knit_tests::{Chance, Step, World, able, cluster};
use serde_json::{Value, json};
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Stands in a file of the host.
const SECRET: &str = "the-secret-of-the-host-7c1d";

/// Transfers that a server lets go on at one time.
const AT_ONCE: usize = 32;

/// A folder with something of every kind in it.
fn sample(world: &World) -> PathBuf {
    let folder = world.folder(
        "sample",
        &[
            ("a.txt", b"alpha\n"),
            ("empty/", b""),
            ("sub/b.bin", &vec![7; 300_000]),
            ("sub/deep/c.txt", b"gamma\n"),
            ("zero", b""),
            ("sub/new\nline", b"x"),
        ],
    );
    symlink("../a.txt", folder.join("sub/link")).expect("a link");
    symlink("sub", folder.join("way")).expect("a link");
    fs::write(world.base().join("secret"), SECRET).expect("a file");
    symlink(world.base().join("secret"), folder.join("out")).expect("a link");
    fs::write(folder.join(std::ffi::OsStr::from_bytes(b"caf\xe9")), "latin").expect("a file");
    fs::set_permissions(folder.join("a.txt"), fs::Permissions::from_mode(0o640)).expect("its mode");
    folder
}

fn get(world: &World, path: &str) -> Answer {
    world.request(Request::new("GET", path))
}

fn header<'a>(answer: &'a Answer, name: &str) -> &'a str {
    answer.header(name).unwrap_or_default()
}

fn paths(list: &Value) -> Vec<&str> {
    list.as_array().expect("a list").iter().filter_map(|item| item["path"].as_str()).collect()
}

#[test]
fn a_data_is_looked_into_without_fetching_it() {
    if !able(&[ROOT]) {
        return;
    }
    let world = World::start();
    let folder = sample(&world);
    let data = world.push(&folder, &["a:b"]);

    let list = world.knit(&["data", "ls", &data]).ok().json();
    assert_eq!(paths(&list), ["a.txt", "caf\u{fffd}", "empty", "out", "sub", "way", "zero"]);
    assert_eq!(list[0]["mode"], "0640");
    assert_eq!((&list[0]["kind"], &list[0]["size"]), (&json!("file"), &json!(6)));
    assert_eq!(list[1]["pathBase64"], "Y2Fm6Q==");
    assert_eq!((&list[2]["kind"], &list[5]["target"]["path"]), (&json!("folder"), &json!("sub")));
    let names =
        |arguments: &[&str]| world.knit(&[&["data", "ls", "-o", "name", &data], arguments].concat()).ok().text();
    assert_eq!(names(&["sub"]), "sub/b.bin\nsub/deep\nsub/link\nsub/new\\nline\n");
    assert_eq!(names(&["-R", "./sub/deep/"]), "sub/deep/c.txt\n");
    assert_eq!(names(&["/zero"]), "zero\n");
    assert_eq!(names(&["empty"]), "");
    assert_eq!(names(&["-R"]).lines().count(), 12);
    let long = world.knit(&["data", "ls", "-l", &data, "a.txt"]).ok().text();
    assert!(long.contains("-rw-r-----") && long.ends_with("  a.txt\n"), "{long}");
    world.knit(&["data", "ls", &data, "none"]).fails(5, &["none"]);
    world.knit(&["data", "ls", &data, "way/b.bin"]).fails(1, &["way", "link to \"sub\""]);
    world.knit(&["data", "ls", &data, "../x"]).fails(2, &["../x"]);
    world.knit(&["data", "ls", "no-such-id"]).fails(5, &["no-such-id"]);

    let cat = |arguments: &[&str]| world.knit(&[&["data", "cat", &data], arguments].concat());
    assert_eq!(cat(&["a.txt"]).ok().text(), "alpha\n");
    assert_eq!(cat(&["sub/b.bin"]).ok().stdout, vec![7; 300_000]);
    assert_eq!(cat(&["sub/new\nline"]).ok().text(), "x");
    assert_eq!(cat(&["zero"]).ok().text(), "");
    assert_eq!(cat(&["--head", "3", "a.txt"]).ok().text(), "alp");
    assert_eq!(cat(&["--head", "3", "zero"]).ok().text(), "");
    assert_eq!(cat(&["--range", "1-2", "a.txt"]).ok().text(), "lp");
    assert_eq!(cat(&["--range", "-2", "a.txt"]).ok().text(), "a\n");
    cat(&["--range", "6-", "a.txt"]).fails(1, &["6 bytes"]);
    cat(&["sub"]).fails(1, &["is a folder"]);
    cat(&["."]).fails(2, &["is a folder"]);
    cat(&["out"]).fails(1, &["is a link to", "not followed"]);
    cat(&["way/b.bin"]).fails(1, &["is beyond", "not followed"]);
    cat(&["none"]).fails(5, &["none"]);

    let sums = world.knit(&["data", "du", &data]).ok().json();
    let of = |path: &str| sums.as_array().expect("a list").iter().find(|sum| sum["path"] == path).cloned();
    assert_eq!(of("sub"), Some(json!({"path": "sub", "bytes": 300_007, "files": 3})));
    assert_eq!(of("."), Some(json!({"path": ".", "bytes": 300_018, "files": 6})));
    assert_eq!(paths(&world.knit(&["data", "du", "-s", &data]).ok().json()), ["."]);
    assert_eq!(paths(&world.knit(&["data", "du", "-d", "1", &data]).ok().json()), ["empty", "sub", "."]);
    assert_eq!(paths(&world.knit(&["data", "du", &data, "sub"]).ok().json()), ["sub/deep", "sub"]);
    world.knit(&["data", "du", &data, "none"]).fails(5, &["none"]);
}

#[test]
fn two_data_are_compared_without_fetching_either() {
    if !able(&[ROOT]) {
        return;
    }
    let world = World::start();
    let folder = sample(&world);
    let before = world.push(&folder, &[]);
    let same = world.push(&folder, &[]);
    let diff = |more: &[&str], after: &str| world.knit(&[&["data", "diff"], more, &[&before, after]].concat());
    assert_eq!(diff(&["--exit-code"], &same).ok().json(), json!([]));
    fs::write(folder.join("a.txt"), "omega\n").expect("a file");
    fs::set_permissions(folder.join("zero"), fs::Permissions::from_mode(0o600)).expect("its mode");
    fs::remove_dir(folder.join("empty")).expect("it is empty");
    fs::write(folder.join("empty"), "").expect("a file");
    fs::remove_file(folder.join("sub/b.bin")).expect("it is there");
    fs::write(folder.join("sub/added"), "12345").expect("a file");
    let after = world.push(&folder, &[]);
    let found = diff(&[], &after).ok().json();
    let shown: Vec<String> = found
        .as_array()
        .expect("a list")
        .iter()
        .map(|one| format!("{} {} {}", one["change"], one["path"], one["what"]).replace('"', ""))
        .collect();
    assert_eq!(
        shown,
        [
            "changed a.txt [content]",
            "changed empty [kind]",
            "added sub/added null",
            "removed sub/b.bin null",
            "changed zero [mode]",
        ]
    );
    assert_eq!(found[3]["before"]["size"], 300_000);
    assert_eq!(diff(&["-o", "table"], &after).ok().text().lines().nth(2), Some("+ sub/added  5"));
    assert_eq!(diff(&["-o", "name", "--exit-code"], &after).code(1).text().lines().count(), 5);
    diff(&[], "no-such-id").fails(5, &["no-such-id"]);
}

#[test]
fn a_part_of_a_data_is_pulled_and_compared_with_what_was_registered() {
    if !able(&[NODE, ROOT]) {
        return;
    }
    let world = World::start();
    let folder = sample(&world);
    let data = world.push(&folder, &[]);
    let into = world.base().join("into");
    let pull = |more: &[&str]| {
        let _ = fs::remove_dir_all(&into);
        world.knit(&[&["data", "pull", &data], more, &[into.to_str().expect("UTF-8")]].concat())
    };
    let whole = tree(&folder);
    for (globs, expected) in [
        (&["*.txt"][..], &["a.txt", "sub", "sub/deep", "sub/deep/c.txt"][..]),
        (&["/*.txt", "way"], &["a.txt", "way"]),
        (&["sub/deep"], &["sub", "sub/deep", "sub/deep/c.txt"]),
        (&["empty"], &["empty"]),
    ] {
        let includes: Vec<&str> = globs.iter().flat_map(|glob| ["--include", glob]).collect();
        pull(&[&["-x"][..], &includes].concat()).ok();
        let got = tree(&into.join(&data));
        assert_eq!(got.keys().map(|path| path.to_str().expect("UTF-8")).collect::<Vec<_>>(), expected, "{globs:?}");
        assert!(got.iter().all(|(path, kind)| whole[path] == *kind), "{globs:?}");
    }
    pull(&["-x", "--include", "none*"]).fails(5, &["nothing in it"]);
    pull(&["--include", "a.txt"]).fails(2, &["--extract"]);
    pull(&["-x", "--include", "[a"]).fails(2, &["--include", "[a"]);
    assert!(!into.join(&data).exists());

    // Damaged on the server's disk, as long as before.
    fs::write(world.volume(&data).join("a.txt"), "alphA\n").expect("a file");
    pull(&["-x", "--include", "a.txt"]).fails(8, &["a.txt", "other than it was registered"]);
    assert_eq!(fs::read_dir(&into).map_or(0, Iterator::count), 0, "nothing of it stays");
    pull(&["-x", "--include", "c.txt"]).ok();
}

#[test]
fn what_is_no_longer_as_registered_is_named() {
    if !able(&[NODE, ROOT]) {
        return;
    }
    let world = World::start();
    let folder = sample(&world);
    let data = world.push(&folder, &[]);
    assert_eq!(world.knit(&["data", "verify", &data]).ok().says(&["is as registered", "12 entries"]).json(), json!([]));
    let pulled = world.pull(&data);
    let pulled_text = pulled.to_str().expect("UTF-8");
    world.knit(&["data", "verify", &data, pulled_text]).ok();
    let linked = world.base().join("linked");
    symlink(&pulled, &linked).expect("a link");
    world.knit(&["data", "verify", &data, linked.to_str().expect("UTF-8")]).ok();

    let damage = |root: &Path| {
        fs::write(root.join("a.txt"), "alphA\n").expect("a file");
        fs::write(root.join("zero"), "no more").expect("a file");
        fs::set_permissions(root.join("empty"), fs::Permissions::from_mode(0o700)).expect("its mode");
        fs::remove_file(root.join("sub/deep/c.txt")).expect("it is there");
        fs::write(root.join("sub/deep/extra"), "").expect("a file");
        fs::remove_file(root.join("way")).and_then(|()| fs::create_dir(root.join("way"))).expect("a folder");
    };
    let expected = json!([
        {"path": "a.txt", "difference": "content"},
        {"path": "empty", "difference": "mode"},
        {"path": "sub/deep/c.txt", "difference": "missing"},
        {"path": "sub/deep/extra", "difference": "extra"},
        {"path": "way", "difference": "kind"},
        {"path": "zero", "difference": "size"},
    ]);
    damage(&pulled);
    let here = world.knit(&["data", "verify", &data, pulled_text]).fails(8, &[pulled_text, "6 entries differ"]);
    assert_eq!(here.json(), expected);
    world.knit(&["data", "verify", &data]).ok();
    damage(&world.volume(&data));
    let there = world.knit(&["data", "verify", &data]).fails(8, &["not what was registered", "6 entries differ"]);
    assert_eq!(there.json(), expected);
    assert!(world.knit(&["data", "verify", "-o", "table", &data]).code(8).text().starts_with("content     a.txt\n"));

    world.knit(&["data", "cat", &data, "a.txt"]).fails(8, &["is not what was registered"]);
    world.knit(&["data", "cat", &data, "zero"]).fails(8, &["is not what was registered", "data verify"]);
    world.knit(&["data", "cat", &data, "sub/deep/c.txt"]).fails(8, &["is not what was registered"]);
    world.knit(&["data", "verify", &data, "no-such-folder"]).fails(1, &["no-such-folder"]);
    world.knit(&["data", "verify", "no-such-id"]).fails(5, &["no-such-id"]);

    // Many differences are counted, and some named.
    for number in 0..1500 {
        fs::write(world.volume(&data).join(format!("more-{number:04}")), "").expect("a file");
    }
    let many = world.knit(&["data", "verify", "-o", "name", &data]).fails(8, &["1506 entries differ", "first 1000"]);
    assert_eq!(many.text().lines().count(), 1000);

    // Whoever changes the server's disk leads nobody out of the volume.
    let file = world.volume(&data).join("sub/b.bin");
    fs::remove_file(&file).and_then(|()| symlink(world.base().join("secret"), &file)).expect("a link");
    let refused = world.knit(&["data", "cat", &data, "sub/b.bin"]).fails(8, &["is not what was registered"]);
    assert!(!refused.text().contains(SECRET));
    let sub = world.volume(&data).join("sub");
    fs::rename(&sub, world.base().join("moved"))
        .and_then(|()| symlink(world.base().join("moved"), &sub))
        .expect("a link");
    world.knit(&["data", "cat", &data, "sub/new\nline"]).fails(8, &["is not what was registered"]);
}

/// Does something to a volume on the server's disk.
type Damage = fn(&Path) -> std::io::Result<()>;

#[test]
fn what_is_no_longer_as_registered_is_never_pulled() {
    if !able(&[NODE, ROOT]) {
        return;
    }
    if cluster::embedded_only(
        "an agent refuses a small Data before its first byte, and the client tells that otherwise",
    ) {
        return;
    }
    let world = World::start();
    let folder = sample(&world);
    let into = world.base().join("into");
    let pull = |data: &str, way: &[&str]| {
        let _ = fs::remove_dir_all(&into);
        world.knit(&[&["data", "pull"], way, &[data, into.to_str().expect("UTF-8")]].concat())
    };
    let curl = |data: &str, accept: &str| {
        let path = format!("/api/data/{data}");
        let mut request = Request::new("GET", &path).header("TE", "trailers").header("Accept", accept);
        if let Some(token) = world.token() {
            request = request.bearer(&token);
        }
        request.exchange(&world.api())
    };
    let bundles = ["application/vnd.knit.bundle", "application/vnd.knit.bundle+zstd"];
    let forms = [bundles[0], bundles[1], "*/*"];
    let whole = world.push(&folder, &[]);
    for way in [&["-x"][..], &[], &["--format", "tar"], &["--format", "tar.zst"]] {
        pull(&whole, way).ok();
    }
    for accept in forms {
        let answer = curl(&whole, accept).expect("all of it").status(200);
        assert_eq!(header(&answer, "x-knit-digest").len(), 64, "{accept}");
    }

    let damages: [(&str, Damage); 6] = [
        ("damaged", |root| fs::write(root.join("a.txt"), "alphA\n")),
        ("replaced by a link", |root| {
            fs::remove_file(root.join("a.txt"))?;
            symlink("/etc/passwd", root.join("a.txt"))
        }),
        ("missing", |root| fs::remove_file(root.join("zero"))),
        ("extra", |root| fs::write(root.join("sub/deep/extra"), "")),
        ("missing folder", |root| fs::remove_dir(root.join("empty"))),
        ("other mode", |root| fs::set_permissions(root.join("a.txt"), fs::Permissions::from_mode(0o600))),
    ];
    for (how, damage) in damages {
        let data = world.push(&folder, &[]);
        damage(&world.volume(&data)).expect(how);
        for way in [&["-x"][..], &["--format", "tar"], &["--format", "tar.zst"]] {
            let told = ["at the server is not what was registered", "knit data verify"];
            pull(&data, way).fails(8, &told);
            assert_eq!(fs::read_dir(&into).expect("the folder").count(), 0, "{how}: nothing of it stays");
        }
        pull(&data, &[]).fails(1, &["broke", "knit data verify"]);
        assert_eq!(fs::read_dir(&into).expect("the folder").count(), 0, "{how}: nothing of it stays");
        world.knit(&["data", "pull", "--format", "tar", &data, "-"]).fails(8, &["not what was registered"]);
        world.knit(&["data", "pull", &data, "-"]).fails(1, &["broke", "knit data verify"]);
        for accept in forms {
            assert!(curl(&data, accept).is_err(), "{how}: {accept} has no end");
        }
        let log = fs::read_to_string(world.dir().join("knitd.log")).expect("the log");
        assert!(log.lines().any(|line| line.contains(&data) && line.contains("not what was registered")), "{log}");
    }
    world.knit(&["data", "pull", "-x", "--include", &"{".repeat(500), &whole]).fails(2, &["--include", "{{{"]);
}

#[test]
fn ranges_are_served_as_http_says() {
    if !able(&[ROOT]) {
        return;
    }
    let world = World::start();
    let data = world.push(&sample(&world), &[]);
    let path = format!("/api/data/{data}/files/a.txt");
    let whole = get(&world, &path).status(200);
    assert_eq!(whole.body, b"alpha\n");
    let tag = header(&whole, "etag").to_owned();
    assert_eq!(tag.len(), 66, "{tag}");
    assert_eq!((header(&whole, "content-length"), header(&whole, "accept-ranges")), ("6", "bytes"));
    assert_eq!(header(&whole, "content-type"), "application/octet-stream");
    for (range, status, told, body) in [
        ("bytes=0-1", 206, "bytes 0-1/6", "al"),
        ("bytes=4-", 206, "bytes 4-5/6", "a\n"),
        ("bytes=-3", 206, "bytes 3-5/6", "ha\n"),
        ("bytes=0-99", 206, "bytes 0-5/6", "alpha\n"),
        ("bytes=6-", 416, "bytes */6", ""),
        ("bytes=-0", 416, "bytes */6", ""),
        ("bytes=0-0,2-2", 200, "", "alpha\n"),
        ("bytes=3-1", 200, "", "alpha\n"),
        ("lines=1-2", 200, "", "alpha\n"),
    ] {
        let answer = world.request(Request::new("GET", &path).header("Range", range)).status(status);
        assert_eq!(header(&answer, "content-range"), told, "{range}");
        if status != 416 {
            assert_eq!(String::from_utf8_lossy(&answer.body), body, "{range}");
            assert_eq!(header(&answer, "content-length"), body.len().to_string(), "{range}");
            assert_eq!(header(&answer, "etag"), tag, "{range}");
        }
    }
    for (condition, status) in [(tag.as_str(), 206), ("\"other\"", 200)] {
        let request = Request::new("GET", &path).header("Range", "bytes=0-1").header("If-Range", condition);
        world.request(request).status(status);
    }
    world.request(Request::new("HEAD", &path)).status(405);
    world.request(Request::new("POST", &path)).status(405);
}

#[test]
fn no_path_leads_out_of_a_data() {
    if !able(&[ROOT]) {
        return;
    }
    let world = World::start();
    let data = world.push(&sample(&world), &[]);
    let long = "a".repeat(5000);
    for (path, status) in [
        ("caf%E9", 200),
        ("caf%e9", 200),
        ("a%2Etxt", 200),
        ("sub%2Fb.bin", 200),
        ("sub/new%0Aline", 200),
        ("a.txt%00", 400),
        ("..", 400),
        ("%2E%2E/%2E%2E/knit.db", 400),
        ("../../knit.db", 400),
        ("sub/../a.txt", 400),
        ("./a.txt", 400),
        ("/etc/passwd", 400),
        ("%2Fetc%2Fpasswd", 400),
        ("sub//b.bin", 400),
        ("caf%C3%A9", 404),
        ("%ff%fe", 404),
        ("%", 404),
        ("A.TXT", 404),
        (long.as_str(), 404),
        ("a.txt/x", 404),
        ("sub", 422),
        ("out", 422),
        ("out/x", 422),
        ("sub/link", 422),
        ("way/b.bin", 422),
    ] {
        let answer = get(&world, &format!("/api/data/{data}/files/{path}"));
        assert_eq!(answer.status, status, "{path}: {}", String::from_utf8_lossy(&answer.body));
        assert!(!String::from_utf8_lossy(&answer.body).contains(SECRET), "{path}");
        if status != 200 {
            let message = answer.json()["message"].as_str().unwrap_or_default().to_owned();
            assert!(!message.is_empty() && message.len() < 1000, "{path}: {message}");
        }
    }
    for (query, status) in [
        ("", 200),
        ("?under=", 200),
        ("?under=sub", 200),
        ("?under=sub/b.bin", 200),
        ("?under=sub%2Fdeep", 200),
        ("?under=caf%E9", 200),
        ("?under=none", 404),
        ("?under=way/deep", 422),
        ("?under=..", 400),
        ("?under=/sub", 400),
        ("?under=a%00", 400),
    ] {
        let answer = get(&world, &format!("/api/data/{data}/manifest{query}")).status(status);
        if status == 200 {
            assert_eq!(header(&answer, "content-type"), "application/vnd.knit.manifest+zstd");
            assert_eq!(header(&answer, "x-knit-digest").len(), 64);
        }
    }
    for (query, status) in [("?include=", 400), ("?include=[", 400), ("?include=../x", 400), ("?include=a.txt", 200)] {
        get(&world, &format!("/api/data/{data}{query}")).status(status);
    }
    let many = vec!["include=a"; 100].join("&");
    get(&world, &format!("/api/data/{data}?{many}")).status(400);
    for path in
        ["/api/data/none/manifest", "/api/data/none/files/a", "/api/data/%FF/files/a", "/api/data/none?include=a"]
    {
        get(&world, path).status(404);
    }
    world.request(Request::new("POST", "/api/data/none/verify")).status(404);
    let stranger = Request::new("GET", &format!("/api/data/{data}/files/a.txt")).send(&world.api());
    assert_eq!(stranger.status, 401, "it asks for the token as everything does");
}

#[test]
fn a_data_that_is_still_being_made_is_not_looked_into() {
    if !able(&[ROOT, BUSYBOX]) {
        return;
    }
    let world = World::start();
    let image = world.busybox();
    let step = Step::new(&image, "echo x > /out/x; echo begun; sleep 600")
        .input("/in", &["a:b"])
        .output("/out", &["c:d"])
        .log(&["e:f"]);
    let plan = world.apply(&step);
    world.push(&world.folder("x", &[("x", b"x")]), &["a:b"]);
    let run = world.the_run_once_it_is_there(&plan);
    world.follow_log(&run).until("begun");
    let data = world.run_of(&run)["outputs"][0]["knitId"].as_str().expect("an id").to_owned();
    let into = world.base().join("into");
    for command in [
        &["ls", &data][..],
        &["cat", &data, "x"],
        &["du", &data],
        &["diff", &data, &data],
        &["verify", &data],
        &["pull", "-x", "--include", "x", &data, into.to_str().expect("UTF-8")],
    ] {
        world.knit(&[&["data"], command].concat()).fails(6, &["still being made"]);
    }
    world.knit(&["run", "stop", &run]).ok();
    world.all_done(&plan);
    assert_eq!(world.knit(&["data", "cat", &data, "x"]).ok().text(), "x\n");
    world.knit(&["data", "verify", &data]).ok();
}

#[test]
fn readers_that_do_not_read_keep_nobody_waiting_but_each_other() {
    if !able(&[ROOT]) {
        return;
    }
    let world = World::start();
    let bytes = Chance::of("readers_that_do_not_read_keep_nobody_waiting_but_each_other", 11).bytes(32 << 20);
    let data = world.push(&world.folder("x", &[("large", &bytes), ("small", b"s")]), &[]);
    let token = world.token().expect("a token");
    let ask = |path: &str| {
        let mut stream = TcpStream::connect(world.api()).expect("the server listens");
        let text =
            format!("GET /api/data/{data}/{path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n");
        stream.write_all(text.as_bytes()).expect("the server reads");
        stream
    };
    let readers: Vec<TcpStream> = (0..AT_ONCE + 8).map(|_| ask("files/large")).collect();
    let answered = |reader: &&TcpStream| {
        reader.set_nonblocking(true).expect("a mode");
        reader.peek(&mut [0]).is_ok()
    };
    let patience = Instant::now() + Duration::from_mins(1);
    while readers.iter().filter(answered).count() < AT_ONCE {
        assert!(Instant::now() < patience, "the first ones get their turn");
        std::thread::sleep(Duration::from_millis(20));
    }
    let mut last = ask("files/small");
    last.set_read_timeout(Some(Duration::from_secs(2))).expect("a time");
    assert!(last.read(&mut [0; 100]).is_err(), "it waits for its turn");
    // What goes through no files is answered at once.
    if !cluster::chosen() {
        world.status(&[]).ok();
    }
    assert_eq!(world.find_data(&[]).len(), 1);
    drop(readers);
    last.set_read_timeout(Some(Duration::from_mins(1))).expect("a time");
    let mut head = [0; 15];
    last.read_exact(&mut head).expect("its turn comes");
    assert_eq!(&head, b"HTTP/1.1 200 OK");
    assert_eq!(world.knit(&["data", "cat", &data, "large"]).ok().stdout, bytes);
}
