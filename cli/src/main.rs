//! `knit`: the users' command line. All it does is in the library.

use knit_cli::completion;
use knit_cli::extension::{self, Line};
use knit_cli::project::Project;
use knit_cli::terminal::{failure, program};

fn main() -> std::process::ExitCode {
    if completion::is_asked() {
        return completion::answer(completion::knit);
    }
    match extension::parse(std::env::args_os().collect()) {
        Err(told) => told.exit(),
        Ok(Line::Extension(call)) => call.run().unwrap_or_else(|failure| failure::finish(Err(failure))),
        Ok(Line::Own(knit)) => {
            let project = Project::new(knit.common);
            program::run(knit.command.run(&project))
        }
    }
}
