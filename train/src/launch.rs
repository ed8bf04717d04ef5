//! Pipelines of launch lines, and their elements by name.

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
