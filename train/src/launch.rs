//! Pipelines of launch lines, their elements by name, and how they are played to their end.

use gst::prelude::*;

use crate::outcome::one_line;

/// The pipeline that a launch line says, or in one line why there is none.
pub(crate) fn pipeline(line: &str) -> Result<gst::Pipeline, String> {
    let made = gst::parse::launch(line).map_err(|e| one_line(&e.to_string()))?;
    made.downcast()
        .map_err(|_| "wanted elements that are linked, found one alone".into())
}

/// An element of a pipeline by its name.
pub(crate) fn element<E: IsA<gst::Element>>(
    pipeline: &gst::Pipeline,
    name: &str,
) -> Result<E, String> {
    let found = pipeline.by_name(name);
    let found = found.and_then(|element: gst::Element| element.downcast().ok());
    found.ok_or_else(|| format!("the pipeline has no {} {name}", E::static_type().name()))
}

/// Has `pipeline` play, or says why it cannot, and stops what has started of it.
pub(crate) fn start(pipeline: &gst::Pipeline) -> Result<(), String> {
    if pipeline.set_state(gst::State::Playing).is_ok() {
        return Ok(());
    }
    // Why it cannot is on the bus already, which is emptied where the pipeline is stopped.
    let bus = pipeline.bus();
    let message = bus.and_then(|bus| bus.pop_filtered(&[gst::MessageType::Error]));
    let reason = message.as_ref().and_then(complaint);
    // A pipeline is not dropped while a part of it runs.
    let _ = pipeline.set_state(gst::State::Null);
    Err(reason.unwrap_or_else(|| "GStreamer cannot start it".into()))
}

/// Waits for the end of a `pipeline` that plays, or for why there is none.
pub(crate) fn wait(pipeline: &gst::Pipeline) -> Result<(), String> {
    let bus = pipeline.bus().ok_or("the pipeline has no bus")?;
    let kinds = [gst::MessageType::Eos, gst::MessageType::Error];
    let message = bus.timed_pop_filtered(None, &kinds);
    let message = message.ok_or("GStreamer has stopped it")?;
    complaint(&message).map_or(Ok(()), Err)
}

/// What an element says has gone wrong, if the message is of that.
fn complaint(message: &gst::Message) -> Option<String> {
    match message.view() {
        gst::MessageView::Error(e) => {
            let reason = one_line(&e.error().to_string());
            Some(reason.trim_end_matches('.').into())
        }
        _ => None,
    }
}
