//! Up, down, look: the three things that are done with an embedded installation.

use crate::caller::{self, Caller};
use crate::durable;
use crate::folder::Folder;
use crate::handout;
use crate::problem::{Kind, Problem};
use crate::process;
use crate::record::{Choices, Record, Server, Wanted, WorkerNetwork};
use crate::token;
use knit_api::profile::Profile;
use serde::{Deserialize, Serialize};
use std::io;
use std::path::Path;
use std::time::Duration;

/// What is added to the grace of workers before a server counts as stuck.
const STOP_MARGIN: Duration = Duration::from_secs(30);

/// How `up` ended.
#[derive(Debug)]
pub struct Up {
    /// False when the server ran already.
    pub started: bool,
    /// What the installation is set to, and its server.
    pub choices: Choices,
    /// The server.
    pub server: Server,
    /// How users reach it.
    pub profile: Profile,
    /// Where what was asked for differs from what runs, one sentence each; only when it ran already.
    pub differences: Vec<String>,
}

/// Starts the server of this folder, unless it runs.
pub fn up(folder: &Folder, caller: &Caller, wanted: &Wanted, knitd: Option<&Path>) -> Result<Up, Problem> {
    need_root("starting containers needs root's rights")?;
    folder.claim(caller)?;
    let _held = folder.exclusively()?;
    let before = Record::read(folder)?;
    let is_new = before.is_none();
    let record = before.unwrap_or_default();
    check_access(&record.choices.with(wanted, |_| true))?;
    if let Some(running) = process::running(folder, record.server.as_ref().map(|server| server.pid))? {
        return already_up(folder, caller, wanted, record, running.pid());
    }
    let knitd = process::find(knitd)?;
    // A new installation has no ports yet that would be worth keeping.
    let choices = record.choices.with(wanted, |port| !is_new && process::is_free(port));
    check_ports(&choices)?;
    let token = choices.auth.then(|| token::keep(&folder.token())).transpose()?;
    let version = knit_api::VERSION.to_owned();
    Record { version: version.clone(), choices: choices.clone(), server: None }.write(folder)?;
    forget_last_stop(folder)?;
    let ready = process::start(&knitd, folder, &choices)?;
    let server = Server { pid: ready.pid, api: ready.api, registry: ready.registry };
    let up = settle(&server, choices).and_then(|choices| {
        Record { version, choices: choices.clone(), server: Some(server.clone()) }.write(folder)?;
        let profile = handout::profile(&server, token);
        handout::write(folder, caller, &profile)?;
        Ok(Up { started: true, choices, server: server.clone(), profile, differences: Vec::new() })
    });
    if up.is_err() {
        // A server that nobody could find again is worse than none. What went wrong first is what is said.
        if let Ok(Some(running)) = process::running(folder, Some(ready.pid)) {
            let _ = running.stop(STOP_MARGIN);
        }
    }
    up
}

fn need_root(why: &str) -> Result<(), Problem> {
    if caller::is_root() {
        return Ok(());
    }
    let me = std::env::args().skip(1).collect::<Vec<_>>().join(" ");
    Err(Problem::new(Kind::NotAllowed, why).advise(format!("run it as root: sudo knitctl {me}")))
}

fn already_up(folder: &Folder, caller: &Caller, wanted: &Wanted, record: Record, pid: i32) -> Result<Up, Problem> {
    let Some(server) = record.server.filter(|server| server.pid == pid) else {
        return Err(Problem::new(
            Kind::Conflict,
            format!(
                "a server (process {pid}) runs in {} that no finished `knitctl up` has started",
                folder.root().display()
            ),
        )
        .advise("stop it with `knitctl down`, then run `knitctl up` again"));
    };
    let token = record.choices.auth.then(|| token::keep(&folder.token())).transpose()?;
    let profile = handout::profile(&server, token);
    if handout::read(folder).ok().flatten().as_ref() != Some(&profile) {
        handout::write(folder, caller, &profile)?;
    }
    let differences = record.choices.differences(wanted);
    Ok(Up { started: false, choices: record.choices, server, profile, differences })
}

/// Refuses an open API beside containers that see the network of this machine: whatever such a container runs
/// could start further containers with all of root's rights.
fn check_access(choices: &Choices) -> Result<(), Problem> {
    if choices.auth || choices.worker_network == WorkerNetwork::None {
        return Ok(());
    }
    Err(Problem::new(
        Kind::Usage,
        "without a token, containers cannot have the network of this machine: any of them could reach the API",
    )
    .advise("give --auth (a token is asked for) or --worker-network none"))
}

/// Refuses ports that cannot be listened on, and says which flag changes them.
fn check_ports(choices: &Choices) -> Result<(), Problem> {
    if choices.port != 0 && choices.port == choices.registry_port {
        return Err(Problem::new(Kind::Usage, format!("API and registry cannot both listen on port {}", choices.port))
            .advise("give another --port or --registry-port (0 picks a free one)"));
    }
    for (port, what, flag) in
        [(choices.port, "the API", "--port"), (choices.registry_port, "the registry", "--registry-port")]
    {
        if port != 0 && !process::is_free(port) {
            return Err(Problem::new(
                Kind::Conflict,
                format!("port {port} of 127.0.0.1, where {what} should listen, is in use by another program"),
            )
            .advise(format!(
                "give another one with {flag} PORT (0 picks a free one); `ss -ltnp 'sport = :{port}'` shows who uses it"
            )));
        }
    }
    Ok(())
}

/// The choices with the ports that the server has really taken.
fn settle(server: &Server, choices: Choices) -> Result<Choices, Problem> {
    let port = |address: &str| {
        address.rsplit_once(':').and_then(|(_, port)| port.parse().ok()).ok_or_else(|| {
            Problem::new(Kind::Failed, format!("the server says it listens on \"{address}\", which has no port"))
        })
    };
    Ok(Choices { port: port(&server.api)?, registry_port: port(&server.registry)?, ..choices })
}

/// A Run that was under way when the server stopped; it starts anew at the next `up`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct PutBack {
    /// Its id.
    #[serde(rename = "runId")]
    pub run: String,
    /// What it executes.
    #[serde(default)]
    pub image: String,
}

/// What the server reads when it is asked to stop.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Stop {
    grace_milliseconds: u64,
}

/// The server's last words.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Stopped {
    #[serde(default)]
    put_back: Vec<PutBack>,
}

/// How `down` ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Down {
    /// Nothing ran.
    NothingRan,
    /// The server has ended.
    Stopped {
        /// The Runs that it put back.
        put_back: Vec<PutBack>,
    },
}

/// Stops the server of this folder, if it runs. `grace` is how long workers may take; when not given, what the
/// installation is set to.
pub fn down(folder: &Folder, grace: Option<Duration>) -> Result<Down, Problem> {
    let Some(record) = known(folder)? else { return Ok(Down::NothingRan) };
    if record.server.is_none() && process::is_held(folder)? == Some(false) {
        return Ok(Down::NothingRan);
    }
    need_root("the server belongs to root")?;
    let _held = folder.exclusively()?;
    let Some(running) = process::running(folder, record.server.as_ref().map(|server| server.pid))? else {
        Record { server: None, ..record }.write(folder)?;
        return Ok(Down::NothingRan);
    };
    forget_last_stop(folder)?;
    if let Some(grace) = grace {
        let stop = Stop { grace_milliseconds: grace.as_millis() as u64 };
        let text = serde_json::to_vec(&stop).expect("a number has a JSON form");
        durable::write(&folder.stop(), &text, 0o600).map_err(|e| Problem::file("write", &folder.stop(), &e))?;
    }
    // Once for the loops to come to their end, once for the workers to come to theirs.
    let limit = 2 * grace.unwrap_or_else(|| record.choices.grace()) + STOP_MARGIN;
    if !running.stop(limit)? {
        return Err(Problem::new(
            Kind::TimedOut,
            format!("the server (process {}) has not stopped within {} s", running.pid(), limit.as_secs()),
        )
        .advise(format!(
            "see why in {}; `kill -9 {}` ends it at once, and nothing that was acknowledged is lost",
            folder.log().display(),
            running.pid()
        )));
    }
    Record { server: None, ..record }.write(folder)?;
    Ok(Down::Stopped { put_back: read_stopped(folder)? })
}

/// The record of a folder, also when only an interrupted `up` was there.
fn known(folder: &Folder) -> Result<Option<Record>, Problem> {
    match Record::read(folder)? {
        Some(record) => Ok(Some(record)),
        None if process::is_held(folder)? == Some(true) => Ok(Some(Record::default())),
        None => Ok(None),
    }
}

/// Removes what was said between us and the server at the last stop.
fn forget_last_stop(folder: &Folder) -> Result<(), Problem> {
    for path in [folder.stop(), folder.stopped()] {
        match std::fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(Problem::file("remove", &path, &e)),
            _ => {}
        }
    }
    Ok(())
}

fn read_stopped(folder: &Folder) -> Result<Vec<PutBack>, Problem> {
    let path = folder.stopped();
    match std::fs::read(&path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(e) => Err(Problem::file("read", &path, &e)),
        Ok(bytes) => serde_json::from_slice::<Stopped>(&bytes)
            .map(|stopped| stopped.put_back)
            .map_err(|e| Problem::new(Kind::Failed, format!("{} is damaged: {e}", path.display()))),
    }
}

/// What can be seen of an installation without asking its server.
#[derive(Debug)]
pub enum Look {
    /// There is none in this folder.
    Absent,
    /// It is there, and no server runs.
    Stopped,
    /// Its server runs, or may run: only asking it will tell.
    Running {
        /// How to reach it.
        profile: Profile,
    },
}

/// Looks at an installation.
pub fn look(folder: &Folder) -> Result<Look, Problem> {
    let Some(record) = known(folder)? else { return Ok(Look::Absent) };
    if process::is_held(folder)? == Some(false) {
        return Ok(Look::Stopped);
    }
    match (handout::read(folder)?, record.server) {
        (Some(profile), Some(_)) => Ok(Look::Running { profile }),
        _ => Err(Problem::new(
            Kind::Conflict,
            format!("the server in {} is being started, or its start was interrupted", folder.root().display()),
        )
        .advise("look again in a moment; if it stays so, `knitctl down` and `knitctl up`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use knit_tests::able;
    use knit_tests::able::ROOT;
    use std::os::unix::fs::PermissionsExt;

    /// A stand-in for the server that takes the lock, says it is ready, and stops with last words.
    const SERVER: &str = r#"#!/bin/sh
        exec 9>lock; flock -n 9 || exit 1
        trap 'echo "{\"putBack\":[{\"runId\":\"r1\",\"image\":\"train:v1\"}]}" > stopped.json; exit 0' TERM
        echo '{"api":"127.0.0.1:41","registry":"127.0.0.1:42","pid":'$$'}'
        while :; do sleep 600 9>&- & wait $!; done"#;

    struct Place {
        _dir: tempfile::TempDir,
        folder: Folder,
        knitd: std::path::PathBuf,
    }

    fn place() -> Place {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::at(&dir.path().join("knit")).unwrap();
        let knitd = dir.path().join("knitd");
        std::fs::write(&knitd, SERVER).unwrap();
        std::fs::set_permissions(&knitd, std::fs::Permissions::from_mode(0o755)).unwrap();
        Place { _dir: dir, folder, knitd }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            // A test that fails leaves no process behind.
            let _ = down(&self.folder, None);
        }
    }

    impl Place {
        fn up(&self, wanted: Wanted) -> Result<Up, Problem> {
            up(&self.folder, &Caller::find(), &wanted, Some(&self.knitd))
        }
    }

    const ANY: Wanted = Wanted { port: Some(0), registry_port: Some(0), auth: None, worker_network: None, grace: None };

    #[test]
    fn up_twice_then_down_twice() {
        let _alone = process::FORKING.lock();
        if !able(&[ROOT]) {
            return;
        }
        let place = place();
        assert!(matches!(look(&place.folder).unwrap(), Look::Absent));
        assert_eq!(down(&place.folder, None).unwrap(), Down::NothingRan);
        let first = place.up(ANY).unwrap();
        assert!(first.started);
        assert_eq!((first.choices.port, first.choices.registry_port), (41, 42));
        assert!(matches!(look(&place.folder).unwrap(), Look::Running { profile } if profile == first.profile));

        std::fs::remove_file(place.folder.knitprofile()).unwrap();
        let again = place.up(Wanted { auth: Some(false), ..ANY }).unwrap();
        assert!(!again.started);
        assert_eq!((again.server, &again.profile), (first.server, &first.profile));
        assert_eq!(again.differences, ["asking for a token is on, asked for was off"]);
        assert!(place.folder.knitprofile().exists(), "a lost handout is written again");

        let put_back = vec![PutBack { run: "r1".into(), image: "train:v1".into() }];
        assert_eq!(down(&place.folder, None).unwrap(), Down::Stopped { put_back });
        assert!(matches!(look(&place.folder).unwrap(), Look::Stopped));
        assert_eq!(down(&place.folder, None).unwrap(), Down::NothingRan);
        let next = place.up(Wanted { port: Some(0), registry_port: Some(0), ..Wanted::default() }).unwrap();
        assert_eq!(next.profile.token, first.profile.token, "profiles that were handed out go on working");
        down(&place.folder, Some(Duration::from_millis(1500))).unwrap();
        let said = std::fs::read_to_string(place.folder.stop()).unwrap();
        assert_eq!(said, r#"{"graceMilliseconds":1500}"#);
        place.up(ANY).unwrap();
        assert!(!place.folder.stop().exists(), "it is said for one stop");
        down(&place.folder, None).unwrap();
    }

    #[test]
    fn an_open_api_and_containers_on_the_network_exclude_each_other() {
        for (auth, worker_network, fine) in [
            (true, WorkerNetwork::Host, true),
            (true, WorkerNetwork::None, true),
            (false, WorkerNetwork::None, true),
            (false, WorkerNetwork::Host, false),
        ] {
            let checked = check_access(&Choices { auth, worker_network, ..Choices::default() });
            assert_eq!(checked.is_ok(), fine, "{auth} {worker_network:?}");
        }
        let problem = check_access(&Choices { auth: false, worker_network: WorkerNetwork::Host, ..Choices::default() });
        assert_eq!(problem.unwrap_err().kind, Kind::Usage);
    }

    #[test]
    fn an_open_installation_cannot_be_given_the_network_later() {
        let _alone = process::FORKING.lock();
        if !able(&[ROOT]) {
            return;
        }
        let place = place();
        place.up(Wanted { auth: Some(false), ..ANY }).unwrap();
        down(&place.folder, None).unwrap();
        let problem = place.up(Wanted { worker_network: Some(WorkerNetwork::Host), ..ANY }).unwrap_err();
        assert_eq!(problem.kind, Kind::Usage, "{problem}");
        assert!(!Record::read(&place.folder).unwrap().unwrap().choices.auth, "nothing was changed");
    }

    #[test]
    fn a_port_in_use_names_the_port_and_the_flag() {
        let _alone = process::FORKING.lock();
        if !able(&[ROOT]) {
            return;
        }
        let place = place();
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        for (wanted, flag) in [
            (Wanted { port: Some(port), ..ANY }, "--port"),
            (Wanted { registry_port: Some(port), ..ANY }, "--registry-port"),
        ] {
            let problem = place.up(wanted).unwrap_err();
            assert_eq!(problem.kind, Kind::Conflict);
            assert!(problem.what.contains(&port.to_string()), "{problem}");
            assert!(problem.advice.contains(&format!("{flag} PORT")), "{}", problem.advice);
        }
        let same = Wanted { port: Some(port), registry_port: Some(port), ..ANY };
        assert_eq!(place.up(same).unwrap_err().kind, Kind::Usage);
    }
}
