//! How a command ends: its errors, the one line that they are printed as, and output that survives a closed pipe.

use std::{
    fmt::Display,
    io::{ErrorKind, Write},
    path::{Path, PathBuf},
};

/// Exit code of a command that Ctrl-C has ended: 128 and SIGINT's number, as shells count.
pub(crate) const INTERRUPTED: u8 = 130;

/// What a command returns.
pub(crate) type Outcome<T = ()> = Result<T, Failure>;

/// Everything that ends a command early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The model's crate said no.
    #[error(transparent)]
    Model(#[from] acdclip_model::Error),
    /// A file could not be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A picture that cannot be decoded.
    #[error("{}: {reason}", path.display())]
    Picture {
        /// The file.
        path: PathBuf,
        /// What was wanted, what was found.
        reason: String,
    },
    /// Arguments that each make sense, but not together or not here.
    #[error("{0}")]
    Arguments(String),
    /// Some of many inputs failed; each has been complained about.
    #[error("{failed} of {all} images could not be scored")]
    Some {
        /// How many failed.
        failed: usize,
        /// Of how many.
        all: usize,
    },
    /// Weights cannot be had, or are not those that are wanted.
    #[error("{0}")]
    Fetch(String),
    /// A training cannot begin or go on.
    #[error("{0}")]
    Training(String),
    /// A training was stopped by Ctrl-C, and can be gone on with.
    #[error(
        "stopped after step {step}; go on with `acdclip train -o {} --resume`",
        run.display()
    )]
    Interrupted {
        /// Steps that are done and kept.
        step: u64,
        /// The run's folder.
        run: PathBuf,
    },
    /// A scan was stopped by Ctrl-C, and can be gone on with.
    #[error(
        "stopped; go on with the same command, which begins where this one ended (-o {})",
        report.display()
    )]
    Stopped {
        /// The report's folder.
        report: PathBuf,
    },
    /// A measurement was stopped by Ctrl-C; it begins anew next time.
    #[error("stopped; nothing was written")]
    GivenUp,
    /// Whoever read our output has closed it.
    #[error("the output was closed")]
    ReaderGone,
    /// The output cannot be written, for another reason than a closed pipe.
    #[error("standard output: {0}")]
    Output(std::io::Error),
}

impl Failure {
    /// A [`Failure::Io`] for `path`.
    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        |source| Self::Io { path, source }
    }

    /// A file that can be read, but is not what it should be.
    pub(crate) fn wrong_file(path: &Path, problem: &dyn Display) -> Self {
        acdclip_model::Error::file(path.display(), problem.to_string()).into()
    }

    /// Whether nothing more can be printed.
    pub(crate) fn is_of_output(&self) -> bool {
        matches!(self, Self::ReaderGone | Self::Output(_))
    }
}

/// Prints one line to standard output.
pub(crate) fn say(line: impl Display) -> Outcome {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")
        .and_then(|()| out.flush())
        .map_err(|e| match e.kind() {
            ErrorKind::BrokenPipe => Failure::ReaderGone,
            _ => Failure::Output(e),
        })
}

/// Prints one line to standard error, whatever the message looks like.
pub(crate) fn complain(problem: &dyn Display) {
    let message = one_line(&problem.to_string());
    // Nobody is left to be told that standard error is closed.
    let _ = writeln!(std::io::stderr(), "acdclip: error: {message}");
}

/// Prints one line to standard error that costs nobody the result.
pub(crate) fn warn(problem: &dyn Display) {
    let message = one_line(&problem.to_string());
    let _ = writeln!(std::io::stderr(), "acdclip: warning: {message}");
}

/// `message` with every run of white space, line ends among them, made one space.
pub(crate) fn one_line(message: &str) -> String {
    message.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_of_many_lines_becomes_one() {
        assert_eq!(
            one_line("key: wrong\n  |\n3 | x = 1\n"),
            "key: wrong | 3 | x = 1"
        );
    }
}
