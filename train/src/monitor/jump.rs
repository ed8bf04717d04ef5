//! Goes to a moment of what is watched, where it is a file or the like: every viewer sees it go on from there.

use gst::prelude::*;

/// How much is shown before the moment.
const BEFORE: gst::ClockTime = gst::ClockTime::from_seconds(2);

/// Whether the stream that comes to an element can be gone back in: not what is live, also where its source could.
pub(super) fn is_possible(element: &gst::Element) -> bool {
    let Some(pad) = element.static_pad("sink") else {
        return false;
    };
    let mut latency = gst::query::Latency::new();
    let is_live = pad.peer_query(&mut latency) && latency.result().0;
    let mut seeking = gst::query::Seeking::new(gst::Format::Time);
    !is_live && pad.peer_query(&mut seeking) && seeking.result().0
}

/// Has the stream that comes to an element go on from a little before `pts`, in nanoseconds of its frames. Says why where that cannot be.
pub(super) fn to(element: &gst::Element, pts: u64) -> Result<(), String> {
    let cannot = || "wanted a file to go back in, found a stream that cannot".to_owned();
    let pad = element.static_pad("sink").ok_or_else(cannot)?;
    let segment = pad
        .sticky_event::<gst::event::Segment>(0)
        .ok_or_else(cannot)?;
    let segment = segment
        .segment()
        .downcast_ref::<gst::ClockTime>()
        .cloned()
        .ok_or_else(cannot)?;
    let moment = segment.to_stream_time_full(gst::ClockTime::from_nseconds(pts));
    // A moment from before the last jump may lie before this segment, but not before the stream.
    let moment = moment.and_then(gst::Signed::positive).unwrap_or_default();
    let seek = gst::event::Seek::new(
        1.0,
        gst::SeekFlags::FLUSH | gst::SeekFlags::ACCURATE,
        gst::SeekType::Set,
        moment.saturating_sub(BEFORE),
        gst::SeekType::None,
        gst::ClockTime::NONE,
    );
    // Against the stream from here: from the sinks it would come once for each.
    if pad.push_event(seek) {
        Ok(())
    } else {
        Err(cannot())
    }
}
