//! `knit`: the users' command line. All it does is in the library.

use clap::Parser as _;
use knit_cli::args::Knit;
use knit_cli::project::Project;
use knit_cli::terminal::program;

fn main() -> std::process::ExitCode {
    let Knit { common, command } = Knit::parse();
    let project = Project::new(common);
    program::run(command.run(&project))
}
