//! The crate's one error type: what was wanted, what was found, what to do.

use std::path::PathBuf;

/// Shorthand for results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that can go wrong between a file on disk and a score.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file is not what it should be: wrong format, truncated, hostile.
    #[error("{file}: {reason}")]
    File {
        /// The file's path, or `<memory>` for a buffer.
        file: String,
        /// What was wanted, what was found, what to do.
        reason: String,
    },
    /// A tensor is absent, or has another shape or type than the config asks for.
    #[error("{file}: tensor {tensor}: {reason}")]
    Tensor {
        /// The file's path, or `<memory>` for a buffer.
        file: String,
        /// The tensor's name in that file.
        tensor: String,
        /// The shape wanted and the shape found.
        reason: String,
    },
    /// A model config that no network can be built from.
    #[error("config: {0}")]
    Config(String),
    /// A calibration that cannot be used.
    #[error("calibration: {0}")]
    Calibration(String),
    /// A class without text features, in a model that cannot compute them.
    #[error("class {class:?} is not in the model's text bank, and the model has no text tower to make it; it has: {}", known.join(", "))]
    UnknownClass {
        /// The class asked for.
        class: String,
        /// Those the bank has.
        known: Vec<String>,
    },
    /// A frame whose buffers do not hold the picture that its size and strides announce.
    #[error("frame: {0}")]
    Frame(String),
    /// A compute device that cannot be had.
    #[error("device {name:?}: {reason}")]
    Device {
        /// The device asked for.
        name: String,
        /// Why not, and what to use.
        reason: String,
    },
    /// An arithmetic that cannot be had.
    #[error("precision: {0}")]
    Precision(String),
    /// A computation failed inside candle.
    #[error(transparent)]
    Compute(#[from] candle_core::Error),
}

impl Error {
    /// An [`Error::Io`] for `path`.
    pub fn io(path: impl Into<PathBuf>, source: std::io::Error) -> Self {
        Self::Io {
            path: path.into(),
            source,
        }
    }

    /// An [`Error::File`] for `file`.
    pub fn file(file: impl std::fmt::Display, reason: impl Into<String>) -> Self {
        Self::File {
            file: file.to_string(),
            reason: reason.into(),
        }
    }

    /// An [`Error::Tensor`] for `tensor` of `file`.
    pub fn tensor(
        file: impl std::fmt::Display,
        tensor: impl Into<String>,
        reason: impl Into<String>,
    ) -> Self {
        Self::Tensor {
            file: file.to_string(),
            tensor: tensor.into(),
            reason: reason.into(),
        }
    }
}
