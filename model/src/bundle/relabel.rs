//! The same bundle with another calibration: its tensors are copied byte for byte, so it stays the same model by its hash.

use std::io::Write;
use std::path::Path;

use serde_json::Value;

use super::{Bundle, METADATA_KEY, write};
use crate::calibration::Calibration;
use crate::error::{Error, Result};

/// Bytes of the number that a safetensors file begins with: its header's length.
const LENGTH: usize = 8;

impl Bundle {
    /// Writes this bundle with `calibration` in the place of its own. Nothing is left at `path`, or of what was there, but a whole file:
    /// the old or the new. `path` may be this very bundle's.
    ///
    /// An error if the calibration was made for another model, or if the disk says no.
    pub fn write_calibrated(&self, path: &Path, calibration: &Calibration) -> Result<()> {
        calibration.check_model(&self.hash())?;
        let damaged = |reason: String| Error::file(self.label(), reason);
        let (header, tensors) = self.relabelled(calibration).map_err(damaged)?;
        write::write_whole(path, |file| {
            let mut file = file;
            let length = (header.len() as u64).to_le_bytes();
            for part in [&length[..], &header, tensors] {
                file.write_all(part).map_err(|e| Error::io(path, e))?;
            }
            Ok(())
        })
    }

    /// The header with the calibration in it, and the bytes that follow it.
    fn relabelled(&self, calibration: &Calibration) -> Result<(Vec<u8>, &[u8]), String> {
        let json = |e: serde_json::Error| e.to_string();
        let bytes = self.0.file.bytes();
        let (length, rest) = bytes.split_first_chunk::<LENGTH>().ok_or("cut short")?;
        let length = usize::try_from(u64::from_le_bytes(*length)).map_err(|e| e.to_string())?;
        let (header, tensors) = rest.split_at_checked(length).ok_or("cut short")?;
        let mut header: Value = serde_json::from_slice(header).map_err(json)?;
        let text = header
            .pointer_mut(&format!("/__metadata__/{METADATA_KEY}"))
            .ok_or("its acdclip metadata is gone")?;
        let mut document: Value =
            serde_json::from_str(text.as_str().unwrap_or_default()).map_err(json)?;
        let config = document.get("config").cloned();
        document["calibration"] = calibration.to_value().map_err(|e| e.to_string())?;
        let document = serde_json::to_string(&document).map_err(json)?;
        let again: Value = serde_json::from_str(&document).map_err(json)?;
        if again.get("config") != config.as_ref() {
            return Err(
                "a number in its config does not survive being written again, and the model's hash would change; \
                 keep the calibration in a file of its own"
                    .into(),
            );
        }
        *text = Value::String(document);
        let mut header = serde_json::to_vec(&header).map_err(json)?;
        header.resize(header.len().next_multiple_of(LENGTH), b' ');
        Ok((header, tensors))
    }
}
