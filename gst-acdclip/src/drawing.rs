//! Draws what is known of a frame on its buffer: the one way that the elements do it.

use acdclip_model::Error;

use crate::{
    overlay::{Finding, Overlay, PlacedMap, Style},
    picture::Picture,
    rect::Rect,
    report::Report,
};

/// Draws `report` on `buffer`, whose caps `picture` are; scaled where the frame that was measured had another size.
///
/// The buffer is mapped for writing only if its pixels will change: else its memory stays shared.
pub(crate) fn draw(
    buffer: &mut gst::Buffer,
    picture: &Picture,
    style: Style,
    report: &Report,
) -> acdclip_model::Result<()> {
    let size = picture.size();
    let scaled = |rect: &Rect| rect.scaled(report.size, size);
    let regions: Vec<Rect> = report.regions.iter().filter_map(scaled).collect();
    let map = report.map.as_ref().map(|map| map.decode()).transpose()?;
    let area = report.map.as_ref().and_then(|map| scaled(&map.area()));
    let finding = Finding {
        map: map
            .as_ref()
            .zip(area)
            .map(|(map, area)| PlacedMap { map, area }),
        map_threshold: report.map_threshold,
        regions: &regions,
        score: report.score,
        anomalous: report.anomalous,
    };
    let Some(overlay) = Overlay::plan(style, finding, size.0 as usize, size.1 as usize) else {
        return Ok(());
    };
    let mut mapped =
        gst_video::VideoFrameRef::from_buffer_ref_writable(buffer.make_mut(), &picture.info)
            .map_err(|e| Error::Frame(format!("cannot be mapped for writing: {e}")))?;
    let mut canvas = picture.canvas(&mut mapped)?;
    overlay.draw(&mut canvas, picture.format, picture.colorimetry);
    Ok(())
}
