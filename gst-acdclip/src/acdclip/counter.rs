//! What a camera's counter says of a buffer's lines, and where it is read.
//!
//! - `encoder=meta`: a `GstReferenceTimestampMeta` whose reference is the caps `timestamp/x-line-counter`. Its timestamp is the counter of
//!   the frame's first row; each row below is one more, or one less after the counter has turned.
//! - `encoder=pixels`: the first four bytes of each row are its counter, the lowest byte first, as frame grabbers write it.

use std::sync::LazyLock;

use acdclip_model::{
    Error, Frame,
    stream::{place::widened, scan::Counters},
};

use crate::{picture::Picture, profile::Encoder};

/// The reference of the meta.
static REFERENCE: LazyLock<gst::Caps> =
    LazyLock::new(|| gst::Caps::new_empty_simple("timestamp/x-line-counter"));

/// Bytes of a counter in a row.
const BYTES: usize = 4;

/// A counter as it was read.
pub(super) enum Reading {
    /// There is none.
    None,
    /// Of the first row.
    First(i64),
    /// Of each row.
    Each(Vec<i64>),
}

impl Reading {
    /// Reads what `encoder` says of the rows of a frame. `last` is the counter of the line before, from which those of 32 bits are counted on.
    pub(super) fn new(
        encoder: Encoder,
        buffer: &gst::BufferRef,
        picture: &Picture,
        last: Option<i64>,
    ) -> acdclip_model::Result<Self> {
        match encoder {
            Encoder::None | Encoder::Pitch => Ok(Self::None),
            Encoder::Meta => meta(buffer).map(Self::First),
            Encoder::Pixels => {
                let mapped =
                    gst_video::VideoFrameRef::from_buffer_ref_readable(buffer, &picture.info)
                        .map_err(|e| Error::Frame(format!("cannot be mapped for reading: {e}")))?;
                Ok(Self::Each(pixels(&picture.frame(&mapped)?, last)?))
            }
        }
    }

    /// As a strip takes it.
    pub(super) fn counters(&self) -> Counters<'_> {
        match self {
            Self::None => Counters::None,
            Self::First(counter) => Counters::First(*counter),
            Self::Each(counters) => Counters::Each(counters),
        }
    }
}

fn meta(buffer: &gst::BufferRef) -> acdclip_model::Result<i64> {
    let mut metas = buffer.iter_meta::<gst::ReferenceTimestampMeta>();
    let found = metas.find(|meta| meta.reference().is_subset(&REFERENCE));
    let counter = found.map(|meta| meta.timestamp().nseconds());
    counter
        .and_then(|counter| i64::try_from(counter).ok())
        .ok_or_else(|| {
            Error::Frame(
                "encoder=meta: wanted a GstReferenceTimestampMeta of caps timestamp/x-line-counter on each buffer, found none; have the source \
                 add it, or set encoder=pitch"
                    .into(),
            )
        })
}

fn pixels(frame: &Frame<'_>, mut last: Option<i64>) -> acdclip_model::Result<Vec<i64>> {
    (0..frame.height()).map(|y| {
        let row = frame.row(0, y);
        let bytes = row.first_chunk::<BYTES>().ok_or_else(|| {
            Error::Frame(format!(
                "encoder=pixels: wanted lines of {BYTES} bytes or more, found {}; set encoder=pitch",
                row.len()
            ))
        })?;
        let counter = widened(last, u32::from_le_bytes(*bytes));
        last = Some(counter);
        Ok(counter)
    })
    .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_counter_in_pixels_goes_on_over_its_32_bits() {
        let bytes: Vec<u8> = [u32::MAX - 1, u32::MAX, 0, 1]
            .iter()
            .flat_map(|counter| [counter.to_le_bytes(), [9; 4]].concat())
            .collect();
        let plane = acdclip_model::frame::Plane {
            data: &bytes,
            stride: 8,
        };
        let frame = Frame::new(
            acdclip_model::frame::PixelFormat::Gray8,
            8,
            4,
            &[plane],
            acdclip_model::frame::Colorimetry::default(),
        )
        .unwrap();
        let first = i64::from(u32::MAX) - 1;
        let wanted: Vec<i64> = (first..first + 4).collect();
        assert_eq!(pixels(&frame, None).unwrap(), wanted);
        let error = pixels(&frame.crop(0, 0, 3, 4).unwrap(), None).unwrap_err();
        assert!(error.to_string().contains("found 3"), "{error}");
    }
}
