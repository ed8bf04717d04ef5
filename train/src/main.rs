//! The binary `acdclip`: reads the command line, runs one command, turns its outcome into an exit code.
//!
//! 0: done. 1: one line on stderr says what was wanted, what was found and what to do. 2: wrong usage. 130: stopped by Ctrl-C.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod average;
mod calibrate;
mod classes;
mod dataset;
mod eval;
#[cfg(feature = "video")]
mod eval_video;
mod export;
mod fetch;
mod files;
mod import;
mod info;
mod interrupt;
mod jpeg;
#[cfg(feature = "video")]
mod launch;
mod metrics;
mod model;
#[cfg(feature = "monitor")]
mod monitor;
mod outcome;
mod picture;
#[cfg(feature = "video")]
mod property;
mod report;
mod scan;
mod score;
mod training;
mod unsafe_malloc;

use outcome::{Failure, Outcome};

/// Zero-shot anomaly detection with ACD-CLIP: score pictures, scan strips, train, measure and calibrate models, index data sets, fetch, import and export weights.
#[derive(Parser)]
#[command(name = "acdclip", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Score(score::Args),
    Scan(Box<scan::Args>),
    Calibrate(calibrate::Args),
    #[cfg(feature = "monitor")]
    Monitor(Box<monitor::Args>),
    Info(info::Args),
    Fetch(fetch::Args),
    Import(import::Args),
    Export(export::Args),
    Dataset(dataset::command::Args),
    Eval(eval::Args),
    EvalStrip(Box<scan::eval::Args>),
    #[cfg(feature = "video")]
    EvalVideo(eval_video::Args),
    Train(Box<training::command::Args>),
    Average(average::Args),
}

fn run(command: &Command) -> Outcome {
    match command {
        Command::Score(args) => score::run(args),
        Command::Scan(args) => scan::run(args),
        Command::Calibrate(args) => calibrate::run(args),
        #[cfg(feature = "monitor")]
        Command::Monitor(args) => monitor::run(args),
        Command::Info(args) => info::run(args),
        Command::Fetch(args) => fetch::run(args),
        Command::Import(args) => import::run(args),
        Command::Export(args) => export::run(args),
        Command::Dataset(args) => dataset::command::run(args),
        Command::Eval(args) => {
            unsafe_malloc::keep_freed_memory();
            eval::run(args)
        }
        Command::EvalStrip(args) => scan::eval::run(args),
        #[cfg(feature = "video")]
        Command::EvalVideo(args) => eval_video::run(args),
        Command::Train(args) => {
            unsafe_malloc::keep_freed_memory();
            training::command::run(args)
        }
        Command::Average(args) => average::run(args),
    }
}

fn main() -> ExitCode {
    match run(&Cli::parse().command) {
        // A reader such as `head` that has seen enough is no error.
        Ok(()) | Err(Failure::ReaderGone) => ExitCode::SUCCESS,
        Err(failure) => {
            outcome::complain(&failure);
            match failure {
                Failure::Interrupted { .. } | Failure::Stopped { .. } | Failure::GivenUp => {
                    ExitCode::from(outcome::INTERRUPTED)
                }
                _ => ExitCode::FAILURE,
            }
        }
    }
}
