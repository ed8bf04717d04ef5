//! Draws what is known of a frame on its buffer: the one way that the elements do it.

use acdclip_model::Error;

use crate::{
    markers::{Alert, Markers},
    overlay::{Finding, Marker, Overlay, Parts, PlacedMap, Style},
    picture::Picture,
    rect::Rect,
    report::Report,
};

/// What an element draws, from frame to frame.
#[derive(Debug, Default)]
pub(crate) struct Drawing {
    markers: Markers,
}

/// A frame, as far as drawing on it goes.
pub(crate) struct Sheet<'a> {
    /// Its buffer.
    pub(crate) buffer: &'a mut gst::Buffer,
    /// What its caps say.
    pub(crate) picture: &'a Picture,
    /// Its time, nanoseconds, where it has one.
    pub(crate) time: Option<u64>,
}

impl Drawing {
    /// Draws `report` on a frame; scaled where the frame that was measured had another size. Without a report there are the marks of before,
    /// as they fade.
    ///
    /// The buffer is mapped for writing only if its pixels will change: else its memory stays shared.
    pub(crate) fn draw(
        &mut self,
        sheet: Sheet<'_>,
        style: Style,
        report: Option<&Report>,
    ) -> acdclip_model::Result<()> {
        let markers = self.follow(&sheet, style, report);
        match report {
            Some(report) => draw(sheet, style, report, &markers),
            None if markers.is_empty() => Ok(()),
            None => draw(
                sheet,
                style.with(Parts::MARKER),
                &Report::default(),
                &markers,
            ),
        }
    }

    /// Forgets what was drawn: what follows is no continuation of it.
    pub(crate) fn cut(&mut self) {
        self.markers.clear();
    }

    fn follow(&mut self, sheet: &Sheet<'_>, style: Style, report: Option<&Report>) -> Vec<Marker> {
        if !style.parts.contains(Parts::MARKER) {
            self.markers.clear();
            return Vec::new();
        }
        let size = sheet.picture.size();
        let alerts = report.into_iter().flat_map(|report| {
            let scaled = |alert: &Alert| {
                let region = alert.region.scaled(report.size, size)?;
                Some(Alert { region, ..*alert })
            };
            report.alerts.iter().filter_map(scaled)
        });
        let alerts: Vec<_> = alerts.collect();
        // On a strip what is gone is elsewhere already, and must not linger.
        let fades = !report.is_some_and(|report| report.is_strip);
        self.markers.follow(sheet.time.filter(|_| fades), &alerts)
    }
}

fn draw(
    sheet: Sheet<'_>,
    style: Style,
    report: &Report,
    markers: &[Marker],
) -> acdclip_model::Result<()> {
    let Sheet {
        buffer, picture, ..
    } = sheet;
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
        markers,
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
