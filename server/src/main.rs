//! Placeholder.

use std::process::ExitCode;

fn main() -> ExitCode {
    // Before any thread exists.
    if std::env::args_os().nth(1).is_some_and(|role| role == "shim") {
        return knit_server::engine::local::native::shim::main();
    }
    ExitCode::FAILURE
}
