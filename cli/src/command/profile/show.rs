//! `knit profile show`.

use super::Printed;
use crate::args;
use crate::profile_store::ProfileStore;
use crate::project::{Project, none_is_set, not_in};
use crate::terminal::{ExitCode, Failure, Output, Show, Table};
use serde::Serialize;

/// Print a profile.
///
/// The one that is used here, and by which rule it is, or the one that is named. Its token is printed only with --show-token: whoever reads it can do all that you can.
#[derive(Debug, clap::Args)]
pub struct ProfileShow {
    /// The profile [default: the one that is used here]
    #[arg(value_name = "PROFILE")]
    name: Option<String>,
    /// Print the token, too
    #[arg(long, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true",
          hide_default_value = true, value_name = "BOOL", value_parser = args::switch, action = clap::ArgAction::Set)]
    show_token: bool,
    #[command(flatten)]
    output: Output,
}

/// The profile with the file it is from and, where it is asked for, its token.
#[derive(Serialize)]
struct Whole<'a> {
    #[serde(flatten)]
    profile: Printed<'a>,
    store: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<&'a str>,
}

impl ProfileShow {
    /// Reads the store; no server is asked.
    pub fn run(self, project: &Project) -> Result<ExitCode, Failure> {
        let store = ProfileStore::load(&project.store_path()?)?;
        let chosen = project.chosen_profile(&store);
        let (name, chosen) = if let Some(name) = self.name {
            // What is asked for by name can be shown whatever is wrong with the choice here.
            (name, chosen.unwrap_or_default())
        } else {
            let chosen = chosen?.ok_or_else(|| none_is_set(&store))?;
            (chosen.what.clone(), Some(chosen))
        };
        let Some(profile) = store.get(&name) else { return Err(not_in(&store, &name).exit(ExitCode::NotFound)) };
        let whole = Whole {
            profile: Printed::new(&name, profile, chosen.as_ref()),
            store: store.path().display().to_string(),
            token: profile.token.as_deref().filter(|_| self.show_token),
        };
        Show { value: &whole, table: &|| table(&whole), names: &|| vec![name.clone()] }.print(self.output.format)?;
        Ok(ExitCode::Ok)
    }
}

fn table(whole: &Whole) -> Table {
    let profile = &whole.profile;
    let token = match (whole.token, profile.has_token) {
        (Some(token), _) => token,
        (None, true) => "(there is one; --show-token prints it)",
        (None, false) => "(none)",
    };
    let registry = profile.registry.map_or_else(
        || "(the server is asked)".to_owned(),
        |registry| format!("{}{}", registry.host, if registry.insecure { ", plain HTTP" } else { "" }),
    );
    let mut table = Table::new().whole("PART").column("VALUE");
    table.row(["name", profile.name]);
    table.row(["server", profile.api_root]);
    table.row(["trust", profile.trust()]);
    table.row(["token", token]);
    table.row(["registry", registry.as_str()]);
    table.row(["store", whole.store.as_str()]);
    table.row(["used here", profile.why.as_deref().map_or("no".to_owned(), |why| format!("yes: {why}")).as_str()]);
    table
}
