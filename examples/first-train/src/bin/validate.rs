//! Asks a model about images that it has not learnt from and writes how often it was right.

use first_train::digits;
use first_train::evaluation::{self, Evaluation};
use first_train::flags::Flags;
use first_train::model::{self, Model};
use first_train::problem::Problem;
use std::io::{self, Write};
use std::process::ExitCode;

const HELP: &str = "\
Asks a model about handwritten digits that it has not learnt from.

Usage: validate --dataset DIR --model DIR --metrics DIR

  --dataset DIR  where test.csv is
  --model DIR    where model.txt is
  --metrics DIR  where metrics.json is written
";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            // Nobody is left to tell when standard error is gone, too.
            let _ = writeln!(io::stderr(), "validate: {problem}");
            problem.exit_code()
        }
    }
}

fn run() -> Result<(), Problem> {
    let mut out = io::stdout().lock();
    let Some(flags) = Flags::parse(std::env::args().skip(1), &["dataset", "model", "metrics"])? else {
        return write!(out, "{HELP}").map_err(Problem::Output);
    };
    let images = flags.path("dataset")?.join("test.csv");
    let source = flags.path("model")?.join(model::FILE);
    let target = flags.path("metrics")?.join(evaluation::FILE);

    let digits = digits::read(&images)?;
    let evaluation = Evaluation::of(&Model::read(&source)?, &digits);
    std::fs::write(&target, evaluation.to_json()).map_err(|cause| Problem::writing(&target, cause))?;
    writeln!(out, "{}", evaluation.to_table()).map_err(Problem::Output)?;
    writeln!(
        out,
        "accuracy {:.4}: {} of {} images in {}",
        evaluation.accuracy(),
        evaluation.correct(),
        evaluation.images(),
        images.display()
    )
    .map_err(Problem::Output)
}
