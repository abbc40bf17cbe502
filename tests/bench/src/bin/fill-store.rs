//! Fills a store with very much, so that lists and lineage can be measured on it.

use knit_server::store::Store;
use knit_server::store::generate::Amount;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

const USAGE: &str = "\
Usage: fill-store [--data N] [--plans N] [--runs N] [--chain N] [--fan N] STORE

Adds to STORE, the file of a SQLite database that no server has open or the URL of a PostgreSQL database, so many
Data (100000), Plans (1000) and Runs of them (100000); a chain of so many Runs, each using what the one before has
made (0); and so many Runs that all use one Data (0). Prints the ids of the first and last Data of the chain and of
the Data that the fan comes from, one line each.
";

#[tokio::main]
async fn main() -> ExitCode {
    let mut amount = Amount { data: 100_000, plans: 1000, runs: 100_000, chain: 0, fan: 0 };
    let mut arguments = std::env::args().skip(1).peekable();
    while let Some(flag) = arguments.next_if(|argument| argument.starts_with("--")) {
        let Some(number) = arguments.next().and_then(|number| number.parse().ok()) else { return usage() };
        match flag.as_str() {
            "--data" => amount.data = number,
            "--plans" => amount.plans = number,
            "--runs" => amount.runs = number,
            "--chain" => amount.chain = number,
            "--fan" => amount.fan = number,
            _ => return usage(),
        }
    }
    let (Some(place), None) = (arguments.next(), arguments.next()) else { return usage() };
    let begun = Instant::now();
    let filled = async {
        let store = if place.starts_with("postgres") {
            Store::open_postgres(&place).await?
        } else {
            Store::open_sqlite(Path::new(&place)).await?
        };
        let generated = store.generate(&amount).await?;
        store.close().await;
        Ok::<_, knit_server::store::StoreError>(generated)
    };
    let told = filled.await.map_err(|cause| cause.to_string()).and_then(|generated| {
        let ids = generated.chain.into_iter().flat_map(|(first, last)| [first, last]).chain(generated.fan);
        let mut out = io::stdout().lock();
        ids.into_iter().try_for_each(|id| writeln!(out, "{id}")).map_err(|cause| cause.to_string())
    });
    // Nobody is left to tell when standard error is gone, too.
    let _ = match &told {
        Ok(()) => writeln!(io::stderr(), "fill-store: filled in {:.1} s", begun.elapsed().as_secs_f64()),
        Err(cause) => writeln!(io::stderr(), "fill-store: cannot fill {place}: {cause}"),
    };
    if told.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn usage() -> ExitCode {
    let _ = write!(io::stderr(), "{USAGE}");
    ExitCode::from(2)
}
