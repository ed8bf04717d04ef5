//! ACD-CLIP (arXiv 2508.07819) on candle: frames in; anomaly scores, maps and regions out.
//!
//! Knows no GStreamer and opens no image or video file. Most callers need only [`Detector`].

mod backward;
pub mod bundle;
pub mod calibration;
pub mod clip;
pub mod config;
pub mod detector;
pub mod device;
pub mod endoscope;
pub mod error;
pub mod frame;
mod graft;
pub mod import;
pub mod kernels;
pub mod map;
pub mod mask;
pub mod memory;
pub mod net;
pub mod ops;
pub mod precision;
pub mod preprocess;
pub mod prompt;
pub mod record;
pub mod resample;
pub mod roi;
pub mod schema;
pub mod stream;
pub mod tensors;
pub mod text_bank;
mod unsafe_mmap;
mod unsafe_stream;
mod yuv;

pub use bundle::Bundle;
pub use calibration::Calibration;
pub use config::Config;
pub use detector::{Detection, Detector, Settings};
pub use device::DeviceSpec;
pub use error::{Error, Result};
pub use frame::Frame;
pub use mask::Mask;
pub use memory::Memory;
pub use precision::{Precision, Runtime};

/// The compact model's bundle. `weights/MODEL_CARD.md` says what it is, `weights/WEIGHTS-LICENSE` what may be done with it.
#[cfg(feature = "builtin-model")]
pub static BUILTIN_MODEL: &[u8] = include_bytes!("../weights/compact.safetensors");
