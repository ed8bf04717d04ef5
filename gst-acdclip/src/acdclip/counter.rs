//! What a camera's counter says of a buffer's lines, and where it is read.
//!
//! - `encoder=meta`: a `GstReferenceTimestampMeta` whose reference is the caps `timestamp/x-line-counter`. Its timestamp is the counter of
//!   the frame's first row; each row below is one more, or one less after the counter has turned.
//! - `encoder=pixels`: the first four bytes of each row are its counter, the lowest byte first, as frame grabbers write it.

use std::sync::LazyLock;

use acdclip_model::{
    Error,
    stream::{place::read_counters, scan::Counters},
};

use crate::{picture::Picture, profile::Encoder};

/// The reference of the meta.
static REFERENCE: LazyLock<gst::Caps> =
    LazyLock::new(|| gst::Caps::new_empty_simple("timestamp/x-line-counter"));

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
                let frame = picture.frame(&mapped)?;
                let rows = (0..frame.height()).map(|y| frame.row(0, y));
                Ok(Self::Each(read_counters(rows, last)?))
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
