//! Learns to tell handwritten digits apart and writes what it learnt.

use first_train::digits;
use first_train::flags::Flags;
use first_train::model;
use first_train::problem::Problem;
use first_train::training::{Settings, train};
use std::io::{self, Write};
use std::process::ExitCode;

const HELP: &str = "\
Learns to tell handwritten digits apart.

Usage: train --dataset DIR --model DIR [--epochs N] [--rate R] [--seed N]

  --dataset DIR  where train.csv is
  --model DIR    where model.txt is written
  --epochs N     how often every image is looked at (30)
  --rate R       how far one image moves the weights at first (0.1)
  --seed N       of the order of the images (1)
";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            // Nobody is left to tell when standard error is gone, too.
            let _ = writeln!(io::stderr(), "train: {problem}");
            problem.exit_code()
        }
    }
}

fn run() -> Result<(), Problem> {
    let mut out = io::stdout().lock();
    let known = ["dataset", "model", "epochs", "rate", "seed"];
    let Some(flags) = Flags::parse(std::env::args().skip(1), &known)? else {
        return write!(out, "{HELP}").map_err(Problem::Output);
    };
    let source = flags.path("dataset")?.join("train.csv");
    let target = flags.path("model")?.join(model::FILE);
    let settings = settings(&flags)?;

    let digits = digits::read(&source)?;
    writeln!(out, "{} images in {}", digits.len(), source.display()).map_err(Problem::Output)?;
    let model = train(&digits, settings, |epoch| {
        writeln!(out, "epoch {:>3} of {}: loss {:.4}", epoch.number, settings.epochs, epoch.loss)
            .map_err(Problem::Output)
    })?;
    std::fs::write(&target, model.to_text()).map_err(|cause| Problem::writing(&target, cause))?;
    writeln!(out, "the model is in {}", target.display()).map_err(Problem::Output)
}

/// The settings asked for, with defaults for the rest.
fn settings(flags: &Flags) -> Result<Settings, Problem> {
    let default = Settings::default();
    let settings = Settings {
        epochs: flags.number("epochs", default.epochs)?,
        rate: flags.number("rate", default.rate)?,
        seed: flags.number("seed", default.seed)?,
    };
    if settings.epochs == 0 {
        return Err(Problem::Usage("--epochs 0 would learn nothing".to_owned()));
    }
    if !(settings.rate > 0.0 && settings.rate <= 1.0) {
        return Err(Problem::Usage(format!("--rate is {}: it must be above 0 and at most 1", settings.rate)));
    }
    Ok(settings)
}
