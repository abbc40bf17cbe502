//! `knit completion`.

use crate::completion::{Shell, script};
use crate::terminal::{ExitCode, Failure, print};

/// Print the script that completes words in a shell.
///
/// With it, TAB completes commands, flags, ids of Data, Plans and Runs, tags that are in use, and profiles. The
/// script asks this program, which asks the server, for less than a second. `knitctl completion` makes the same for
/// knitctl.
///
/// It belongs into the shell's own file:
///
///   bash, ~/.bashrc: source <(knit completion bash)
///
///   zsh, ~/.zshrc behind compinit: source <(knit completion zsh)
///
///   fish, ~/.config/fish/config.fish: knit completion fish | source
///
///   PowerShell, $PROFILE:
///   knit completion powershell | Out-String | Invoke-Expression
#[derive(Debug, clap::Args)]
pub struct Completion {
    /// The shell
    #[arg(value_name = "SHELL", value_enum)]
    shell: Shell,
}

impl Completion {
    /// Prints the script; no server is asked.
    pub fn run(self) -> Result<ExitCode, Failure> {
        self.print_for("knit")
    }

    /// The same for the other command line.
    pub fn print_for(self, program: &str) -> Result<ExitCode, Failure> {
        let text = script(self.shell, program).map_err(|e| Failure::new("cannot make the script").why(e))?;
        print(&text)?;
        Ok(ExitCode::Ok)
    }
}
