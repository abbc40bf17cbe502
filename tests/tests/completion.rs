//! Completion as a person meets it: bash, zsh and fish in a real terminal (tmux), the script of the repository, and
//! a server that knows a Data and its tags, and is then gone.

use knit_tests::able::{BUSYBOX, ROOT};
use knit_tests::{Step, World, able};
use serde_json::{Value, json};
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const DATA: &str = "0b6f1f2e-5a39-4c4f-9a41-000000000001";
/// How long a shell may take on a busy machine until something is wrong.
const PATIENCE: Duration = Duration::from_mins(1);

/// A server that knows one Data, its tags, and two Plans by name.
struct Server {
    address: SocketAddr,
    open: Arc<AtomicBool>,
    asked: Arc<AtomicUsize>,
}

impl Server {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it listens");
        let (open, asked) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicUsize::new(0)));
        let server = Self { address, open: Arc::clone(&open), asked: Arc::clone(&asked) };
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if !open.load(Ordering::SeqCst) {
                    return;
                }
                let asked = Arc::clone(&asked);
                std::thread::spawn(move || serve(&stream, &asked));
            }
        });
        server
    }

    /// Lets go of the port: whoever connects is refused.
    fn stop(&self) {
        self.open.store(false, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
        let began = Instant::now();
        while TcpStream::connect(self.address).is_ok() {
            assert!(began.elapsed() < PATIENCE, "the port is still open");
            std::thread::yield_now();
        }
    }
}

fn serve(stream: &TcpStream, asked: &AtomicUsize) {
    let mut lines = BufReader::new(stream).lines();
    while let Some(Ok(first)) = lines.next() {
        while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
        let target = first.split(' ').nth(1).unwrap_or_default().to_owned();
        if !target.ends_with("/server") {
            asked.fetch_add(1, Ordering::SeqCst);
        }
        let body = answer(&target).to_string();
        let head =
            format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n", body.len());
        if (&mut &*stream).write_all(format!("{head}{body}").as_bytes()).is_err() {
            return;
        }
    }
}

fn answer(target: &str) -> Value {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let prefix = query.split('&').find_map(|pair| pair.strip_prefix("prefix=")).unwrap_or_default();
    let prefix = prefix.replace("%3A", ":").replace('+', " ");
    let all: &[(&str, &str)] = match path {
        "/api/server" => return json!({"version": "0.1.0", "capabilities": ["candidates"]}),
        "/api/candidates/data" => &[(DATA, "type:model")],
        "/api/candidates/tags" => &[("type:model", "1 Data"), ("stage:first", "2 Data"), ("stage:second", "3 Data")],
        "/api/candidates/plan-names" => &[("train digits", "p1"), ("validate", "p2")],
        _ => &[],
    };
    all.iter()
        .filter(|(value, _)| value.starts_with(&prefix))
        .map(|(value, hint)| json!({"value": value, "hint": hint}))
        .collect()
}

/// A shell in a terminal of its own.
struct Terminal {
    world: World,
    socket: PathBuf,
}

impl Terminal {
    /// Starts the shell with the script from the repository, and waits until it answers.
    fn start(shell: &str, server: &Server) -> Self {
        let world = World::new();
        let store = world.home().join(".knit/profile");
        std::fs::create_dir_all(store.parent().expect("a folder")).expect("a home");
        std::fs::write(&store, format!("fake:\n    apiRoot: http://{}/api\n    cert: {{}}\n", server.address))
            .expect("a store");
        std::fs::write(store.with_file_name("current"), "fake\n").expect("a store");
        let scripts = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../completions");
        let script = |name: &str| scripts.join(name).display().to_string();
        let (run, begin) = match shell {
            "bash" => ("bash --norc --noprofile -i", format!("source {}", script("knit.bash"))),
            "zsh" => (
                "zsh -f -i",
                // As an installed file, which zsh takes for the function itself.
                format!("fpath=({} $fpath); autoload -U compinit; compinit -u -D", scripts.display()),
            ),
            _ => ("fish --no-config -i", format!("source {}", script("knit.fish"))),
        };
        let socket = world.base().join("tmux");
        let terminal = Self { world, socket };
        terminal.tmux(&["-f", "/dev/null", "new-session", "-d", "-x", "150", "-y", "40", run]);
        terminal.typed(&format!(" {begin}; clear"));
        terminal.press("Enter");
        terminal.typed(" echo he'll'o");
        terminal.press("Enter");
        terminal.until("hello");
        terminal.fresh();
        terminal
    }

    fn tmux(&self, arguments: &[&str]) -> String {
        let programs = self.world.program("knit").parent().expect("a folder").to_owned();
        let path = std::env::var_os("PATH").unwrap_or_default();
        let folders = std::iter::once(programs).chain(std::env::split_paths(&path));
        let output = self
            .world
            .command("tmux")
            .arg("-S")
            .arg(&self.socket)
            .args(arguments)
            .env("PATH", std::env::join_paths(folders).expect("names of folders"))
            .env("TERM", "xterm")
            .env("LC_ALL", "C.UTF-8")
            .output()
            .expect("tmux");
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn typed(&self, text: &str) {
        self.tmux(&["send-keys", "-l", text]);
    }

    fn press(&self, key: &str) {
        self.tmux(&["send-keys", key]);
    }

    /// An empty line on an empty screen.
    fn fresh(&self) {
        // One ends a menu, and only the next one the line; a shell that was busy may have taken both for one.
        self.press("C-c");
        self.press("C-c");
        self.press("C-u");
        self.typed(" clear; echo cle'ar'ed");
        self.press("Enter");
        self.until("cleared");
    }

    fn screen(&self) -> String {
        self.tmux(&["capture-pane", "-p", "-J"])
    }

    fn until(&self, text: &str) {
        let began = Instant::now();
        loop {
            let screen = self.screen();
            if screen.contains(text) {
                return;
            }
            assert!(began.elapsed() < PATIENCE, "{text} does not come:\n{screen}");
            std::thread::yield_now();
        }
    }

    /// Types a line, completes its last word, and waits for what shall stand there. A machine that is busy beyond
    /// measure gives nothing at the first TAB: then there is another one.
    fn completes(&self, line: &str, to: &str) {
        self.typed(line);
        self.press("Tab");
        let began = Instant::now();
        let mut pressed = Instant::now();
        while !self.screen().contains(to) {
            assert!(began.elapsed() < PATIENCE, "{line} does not become {to}:\n{}", self.screen());
            if pressed.elapsed() > Duration::from_secs(5) {
                self.press("Tab");
                pressed = Instant::now();
            }
            std::thread::yield_now();
        }
        self.fresh();
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = Command::new("tmux").arg("-S").arg(&self.socket).arg("kill-server").output();
    }
}

/// What all shells must do.
fn completes_in(shell: &str) {
    if !able(&["tmux", shell]) {
        return;
    }
    let server = Server::start();
    let terminal = Terminal::start(shell, &server);
    terminal.completes("knit data pu", "push");
    terminal.completes("knit data pull 0b6f", &format!("knit data pull {DATA}"));
    terminal.completes("knit data find -t type:m", "knit data find -t type:model");
    terminal.completes("knit data find -t ty", "knit data find -t type:model");
    terminal.completes("knit data find --tag=type:", "knit data find --tag=type:model");
    terminal.completes("knit plan show tr", r"knit plan show train\ digits");
    terminal.completes("knit run find --status wai", "--status waiting");
    terminal.completes("knit --profile fa", "knit --profile fake");
    // More than one: the common part first, then all of them, with their hints.
    terminal.typed("knit data find -t st");
    terminal.press("Tab");
    terminal.until("stage:");
    terminal.press("Tab");
    terminal.press("Tab");
    terminal.until("first");
    terminal.until("second");
    terminal.until("2 Data");
    terminal.fresh();

    assert!(server.asked.load(Ordering::SeqCst) > 0, "the server was asked");
    server.stop();
    // Nothing is to be had, nothing is said, and the shell goes on at once: the letter behind TAB comes in time. On a
    // machine that is busy with other things, one time of several is enough.
    let in_time = (0..5).any(|number| {
        let line = format!("knit run show 7{number}");
        terminal.typed(&line);
        terminal.until(&line);
        let began = Instant::now();
        terminal.press("Tab");
        terminal.typed("x");
        terminal.until(&format!("{line}x"));
        let took = began.elapsed();
        let screen = terminal.screen();
        assert!(!screen.contains("error") && !screen.contains("refused"), "{screen}");
        terminal.fresh();
        took < Duration::from_secs(1)
    });
    assert!(in_time, "the shell stands still without a server");
}

#[test]
fn bash_completes_ids_and_tags_and_does_not_wait_for_a_server_that_is_gone() {
    completes_in("bash");
}

#[test]
fn zsh_completes_ids_and_tags_and_does_not_wait_for_a_server_that_is_gone() {
    completes_in("zsh");
}

#[test]
fn fish_completes_ids_and_tags_and_does_not_wait_for_a_server_that_is_gone() {
    completes_in("fish");
}

#[test]
fn a_real_server_completes_ids_tags_and_names_of_plans() {
    if !able(&[ROOT, BUSYBOX]) {
        return;
    }
    let world = World::start();
    let data = world.push(&world.folder("set", &[("a", b"x")]), &["stage:first", "type:set"]);
    let step = Step::new(&world.busybox(), "true").input("/in", &["type:none"]);
    let plan = world.apply(&step.set("annotations", json!(["name=train"])));
    let completed = |line: &str| {
        let word = line.rsplit(' ').next().expect("a word").to_owned();
        let mut command = world.command(world.program("knit"));
        command.env("_KNIT_COMPLETE", "bash").env("_KNIT_LINE", line).env("_KNIT_WORD", word);
        let output = command.output().expect("knit");
        String::from_utf8(output.stdout).expect("UTF-8")
    };
    for (line, word) in [
        (format!("knit data pull {}", &data[..6]), data.as_str()),
        ("knit data find -t stage:f".to_owned(), "first"),
        ("knit plan show tr".to_owned(), "train"),
        (format!("knit plan show {}", &plan[..6]), plan.as_str()),
    ] {
        let shown = completed(&line);
        assert!(shown.contains(word), "{line}: {word} was expected, not: {shown}");
    }
}

#[test]
fn a_server_that_never_answers_holds_nobody_up() {
    // It takes connections, and that is all.
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let world = World::new();
    let store = world.base().join("store");
    let address = listener.local_addr().expect("it listens");
    std::fs::write(&store, format!("p:\n    apiRoot: http://{address}/api\n    cert: {{}}\n")).expect("a store");
    let line = format!("knit data pull --profile-store {} --profile p 0b", store.display());
    let ask = || {
        let began = Instant::now();
        let mut command = world.command(world.program("knit"));
        command.env("_KNIT_COMPLETE", "bash").env("_KNIT_LINE", &line).env("_KNIT_WORD", "0b");
        let output = command.output().expect("knit");
        assert!(output.status.success() && output.stdout.is_empty() && output.stderr.is_empty(), "{output:?}");
        began.elapsed()
    };
    let first = ask();
    assert!(first >= Duration::from_millis(600), "it was not asked: {first:?}");
    assert!(first < Duration::from_millis(1500), "{first:?}");
    let second = ask();
    assert!(second < Duration::from_millis(600), "a silent server is left alone for a while: {second:?}");
}
