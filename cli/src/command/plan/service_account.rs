//! `knit plan serviceaccount`.

use crate::args;
use crate::project::Project;
use crate::terminal::{ExitCode, Failure, TableOutput};
use knit_api::id::PlanId;

/// Choose the service account of a Plan's Runs.
///
/// Runs that start from now on have it. It means something on clusters only: on one machine it is kept, and does
/// nothing.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  knit plan serviceaccount --set trainer 0b1c2d3e
  knit plan serviceaccount --unset 0b1c2d3e")]
#[command(override_usage = "knit plan serviceaccount [OPTIONS] --set <NAME> <PLAN_ID>\n       \
                      knit plan serviceaccount [OPTIONS] --unset <PLAN_ID>")]
#[command(group = clap::ArgGroup::new("what").args(["set", "unset"]).required(true))]
pub struct ServiceAccount {
    /// Run as this service account
    #[arg(long, value_name = "NAME", value_parser = name, allow_hyphen_values = true)]
    set: Option<String>,
    /// Run as no service account in particular
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL",
          value_parser = args::switch, action = clap::ArgAction::Set)]
    unset: Option<bool>,
    /// Id of the Plan, its beginning, or its name
    #[arg(value_name = "PLAN_ID")]
    id: PlanId,
    #[command(flatten)]
    output: TableOutput,
}

fn name(text: &str) -> Result<String, String> {
    if text.is_empty() {
        return Err("it is empty: write a name, or --unset instead of --set".to_owned());
    }
    let is_letter_or_digit = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let is_part = |part: &str| {
        let bytes = part.as_bytes();
        let ends = bytes.first().is_some_and(is_letter_or_digit) && bytes.last().is_some_and(is_letter_or_digit);
        ends && bytes.iter().all(|byte| is_letter_or_digit(byte) || *byte == b'-')
    };
    if !text.split('.').all(is_part) {
        return Err("no service account has such a name: write a-z, 0-9, '-' and '.', with a letter or digit at both \
                    ends"
            .to_owned());
    }
    Ok(text.to_owned())
}

impl ServiceAccount {
    /// Sets or unsets it, and prints the Plan.
    pub async fn run(self, project: &Project) -> Result<ExitCode, Failure> {
        let look = self.output.of(&super::columns())?;
        if self.set.is_none() && self.unset != Some(true) {
            return Err(Failure::usage("cannot tell what to do").advice("give one of --set NAME and --unset"));
        }
        let server = project.server()?;
        let name = self.set.as_deref();
        let plan = server
            .by_id(&self.id, async |id| server.client.set_plan_service_account(id, name).await)
            .await
            .map_err(|e| server.failed(format!("cannot change the service account of the Plan {}", self.id), &e))?;
        super::print(&plan, look)?;
        Ok(ExitCode::Ok)
    }
}
