//! `knit profile ls`.

use super::Printed;
use crate::profile_store::ProfileStore;
use crate::project::Project;
use crate::terminal::{ExitCode, Failure, Output, Show, Table, note};

/// List the profiles, and mark the one that is used here.
#[derive(Debug, clap::Args)]
pub struct Ls {
    #[command(flatten)]
    output: Output,
}

impl Ls {
    /// Reads the store; no server is asked.
    pub fn run(self, project: &Project) -> Result<ExitCode, Failure> {
        let store = ProfileStore::load(&project.store_path()?)?;
        let chosen = project.chosen_profile(&store)?;
        let list: Vec<Printed> =
            store.iter().map(|(name, profile)| Printed::new(name, profile, chosen.as_ref())).collect();
        Show {
            value: &list,
            table: &|| table(&list),
            names: &|| list.iter().map(|profile| profile.name.to_owned()).collect(),
        }
        .print(self.output.format)?;
        if let Some(missing) = chosen.filter(|chosen| store.get(&chosen.what).is_none()) {
            note(&format!(
                "the profile \"{}\" is to be used here ({}), but is not registered",
                missing.what, missing.rule
            ));
        }
        Ok(ExitCode::Ok)
    }
}

fn table(list: &[Printed]) -> Table {
    let mut table = Table::new()
        .whole("")
        .column("NAME")
        .column("SERVER")
        .column("WHY")
        .wide("TOKEN")
        .wide("TRUST")
        .wide("REGISTRY")
        .when_empty("No profiles. Register one: knit init KNITPROFILE");
    for profile in list {
        table.row([
            if profile.current { "*" } else { "" },
            profile.name,
            profile.api_root,
            profile.why.as_deref().unwrap_or_default(),
            if profile.has_token { "yes" } else { "no" },
            profile.trust(),
            profile.registry.map_or("", |registry| registry.host.as_str()),
        ]);
    }
    table
}
