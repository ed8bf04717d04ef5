//! The binary `acdclip`: reads the command line, runs one command, turns its outcome into an exit code.
//!
//! 0: done. 1: one line on stderr says what was wanted, what was found and what to do. 2: wrong usage.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod files;
mod import;
mod info;
mod model;
mod outcome;
mod picture;
mod score;

use outcome::{Failure, Outcome};

/// Zero-shot anomaly detection with ACD-CLIP: score pictures, look into models, import weights.
#[derive(Parser)]
#[command(name = "acdclip", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Score(score::Args),
    Info(info::Args),
    Import(import::Args),
}

fn run(command: &Command) -> Outcome {
    match command {
        Command::Score(args) => score::run(args),
        Command::Info(args) => info::run(args),
        Command::Import(args) => import::run(args),
    }
}

fn main() -> ExitCode {
    match run(&Cli::parse().command) {
        // A reader such as `head` that has seen enough is no error.
        Ok(()) | Err(Failure::ReaderGone) => ExitCode::SUCCESS,
        Err(failure) => {
            outcome::complain(&failure);
            ExitCode::FAILURE
        }
    }
}
