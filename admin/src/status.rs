//! `knitctl status`: how an installation does, as a table or as JSON.

use crate::place::{Place, failure};
use knit_api::client::{Class, Client, ClientError};
use knit_api::profile::Profile;
use knit_api::server::{Health, ServerStatus};
use knit_cli::project;
use knit_cli::terminal::output::print_json;
use knit_cli::terminal::{Cell, ExitCode, Failure, Table, Tone, note, print, stdout_is_terminal};
use knit_installer::caller::Caller;
use knit_installer::embedded::{self, Look};
use serde::Serialize;
use std::path::Path;

/// Show how an installation does.
///
/// Ends with 1 when no server runs, or when a part of it does not work.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Status {
    #[command(flatten)]
    place: Place,
    /// How to print it [default: table on a terminal, json otherwise]
    #[arg(short = 'o', long = "output", value_name = "FORMAT", value_enum)]
    output: Option<Form>,
}

/// Forms of the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Form {
    /// Lines for a person
    Table,
    /// JSON with 4 spaces
    Json,
}

/// What the JSON form says: the server's own words with the installation around them.
#[derive(Debug, Serialize)]
struct Said<'a> {
    dir: &'a Path,
    running: bool,
    #[serde(rename = "apiRoot", skip_serializing_if = "Option::is_none")]
    api_root: Option<&'a str>,
    #[serde(flatten)]
    status: Option<&'a ServerStatus>,
}

impl Status {
    /// Asks the server, if one runs.
    pub(crate) async fn run(self) -> Result<ExitCode, Failure> {
        let folder = self.place.folder(&Caller::find())?;
        let dir = folder.root();
        let flag = self.place.flag();
        match embedded::look(&folder).map_err(failure)? {
            Look::Absent => self.nothing_runs(dir, &format!("There is no installation in {}.", dir.display()), &flag),
            Look::Stopped => self.nothing_runs(dir, &format!("Knit in {} is stopped.", dir.display()), &flag),
            Look::Running { profile } => {
                let status = ask(&profile).await?;
                if self.as_json() {
                    let api_root = Some(profile.api_root.as_str());
                    print_json(&Said { dir, running: true, api_root, status: Some(&status) })?;
                } else {
                    print(&table(dir, &profile, &status).render(false))?;
                }
                let well = status.database.ok && status.engine.ok && status.registry.ok;
                Ok(if well { ExitCode::Ok } else { ExitCode::Failure })
            }
        }
    }

    fn nothing_runs(&self, dir: &Path, said: &str, flag: &str) -> Result<ExitCode, Failure> {
        if self.as_json() {
            print_json(&Said { dir, running: false, api_root: None, status: None })?;
        }
        note(said);
        note(&format!("  Start it with `knitctl up{flag}`."));
        Ok(ExitCode::Failure)
    }

    fn as_json(&self) -> bool {
        match self.output {
            None => !stdout_is_terminal(),
            Some(form) => form == Form::Json,
        }
    }
}

/// Asks the server how it does.
async fn ask(profile: &Profile) -> Result<ServerStatus, Failure> {
    let failed = |error: ClientError| {
        let advice = match error.class() {
            Class::NotAuthorised => "run `knitctl up`: it writes the handout with the token anew",
            Class::Network => "look again in a moment; if it stays so, `knitctl down` and `knitctl up`",
            _ => "",
        };
        Failure::new("cannot ask the server how it does").why(&error).advice(advice).exit(project::exit_code(&error))
    };
    Client::new(profile).map_err(failed)?.status().await.map_err(failed)
}

fn table(dir: &Path, profile: &Profile, status: &ServerStatus) -> Table {
    let mut table = Table::new().whole("PART").whole("STATE").column("DETAIL");
    let ok = || Cell::toned("ok", Tone::Good);
    let health = |health: &Health| if health.ok { ok() } else { Cell::toned("FAILED", Tone::Bad) };
    let asks = if status.auth { "a token is asked for" } else { "everyone is let in" };
    let server = format!("version {}, process {}, {}, {asks}", status.version, status.pid, profile.api_root);
    table.row(["server".into(), ok(), server.into()]);
    table.row(["database".into(), health(&status.database), status.database.detail.as_str().into()]);
    table.row(["engine".into(), health(&status.engine), status.engine.detail.as_str().into()]);
    table.row(["workers", "", format!("network: {}", status.worker_network).as_str()]);
    table.row(["registry".into(), health(&status.registry), status.registry.detail.as_str().into()]);
    if let Some(disk) = &status.disk {
        let free = format!("{} free of {} at {}", bytes(disk.free), bytes(disk.total), dir.display());
        let tight = disk.free < disk.total / 20;
        table.row(["disk".into(), if tight { Cell::toned("LOW", Tone::Bad) } else { ok() }, free.into()]);
    }
    let runs = status.runs.iter().map(|(status, count)| format!("{count} {status}")).collect::<Vec<_>>().join(", ");
    table.row(["Runs", "", if runs.is_empty() { "none yet" } else { runs.as_str() }]);
    table
}

/// A size in the unit that a person would use.
fn bytes(count: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let mut value = count as f64 / 1024.0;
    let mut unit = UNITS[0];
    for next in &UNITS[1..] {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    format!("{value:.1} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use knit_api::server::Disk;
    use std::collections::BTreeMap;

    fn sample() -> (Profile, ServerStatus) {
        let profile = Profile {
            api_root: "http://127.0.0.1:30803/api".into(),
            cert: knit_api::profile::Cert::default(),
            token: Some("secret-token".into()),
            registry: None,
        };
        let well = |detail: &str| Health { ok: true, detail: detail.into() };
        let status = ServerStatus {
            version: "0.1.0".into(),
            pid: 7,
            auth: true,
            database: well("SQLite"),
            engine: Health { ok: false, detail: "no cgroups".into() },
            registry: well("127.0.0.1:30503"),
            worker_network: "none".into(),
            disk: Some(Disk { total: 100 << 30, free: 4 << 30 }),
            runs: BTreeMap::from([("done".into(), 3), ("waiting".into(), 1)]),
        };
        (profile, status)
    }

    #[test]
    fn every_part_has_its_line_and_what_fails_stands_out() {
        let (profile, status) = sample();
        let text = table(Path::new("/srv/knit"), &profile, &status).render(true);
        for said in ["process 7", "a token is asked for", "3 done, 1 waiting", "4.0 GiB free of 100.0 GiB at /srv/knit"]
        {
            assert!(text.contains(said), "{said} is missing:\n{text}");
        }
        let line = |part: &str| text.lines().find(|line| line.starts_with(part)).unwrap().to_owned();
        assert!(line("engine").contains("FAILED"), "{text}");
        assert!(line("database").contains("ok"), "{text}");
        assert!(line("disk").contains("LOW"), "{text}");
        assert!(!text.contains("secret-token"));
    }

    #[test]
    fn json_has_the_servers_members_beside_the_installations() {
        let (profile, status) = sample();
        let said = Said {
            dir: Path::new("/srv/knit"),
            running: true,
            api_root: Some(&profile.api_root),
            status: Some(&status),
        };
        let text = knit_cli::terminal::output::json(&said).unwrap();
        for member in ["\"dir\": \"/srv/knit\"", "\"running\": true", "\"workerNetwork\": \"none\"", "\"waiting\": 1"] {
            assert!(text.contains(member), "{member} is missing:\n{text}");
        }
        let down = Said { dir: Path::new("/srv/knit"), running: false, api_root: None, status: None };
        assert!(!knit_cli::terminal::output::json(&down).unwrap().contains("version"));
    }

    #[test]
    fn sizes_are_said_in_fitting_units() {
        for (count, said) in [(0, "0.0 KiB"), (1536, "1.5 KiB"), (5 << 20, "5.0 MiB"), (u64::MAX, "16.0 EiB")] {
            assert_eq!(bytes(count), said);
        }
    }
}
