//! The contact sheet: of each lesion that was missed a frame, and of each false alert the one in which it was told.

use std::{fmt::Write, io::Cursor};

use base64::{Engine, prelude::BASE64_STANDARD};
use htmlize::{escape_attribute, escape_text};
use image::{Rgb, RgbImage, codecs::jpeg::JpegEncoder};

use super::{Watched, play};
use crate::outcome::{Failure, Outcome};

/// Pictures of either kind, at most: a page is to be read.
const SHOWN: usize = 24;

/// Longest side of a picture.
const SIDE: u32 = 400;

const JPEG_QUALITY: u8 = 85;

/// Where a lesion is, and where regions are.
const TRUTH: Rgb<u8> = Rgb([40, 230, 120]);
const FOUND: Rgb<u8> = Rgb([255, 200, 0]);

/// A picture to be shown.
struct Figure<'a> {
    watched: &'a Watched,
    frame: u64,
    caption: String,
    /// Boxes in pixels of the frame, with their colours.
    boxes: Vec<([f64; 4], Rgb<u8>)>,
}

/// The sheet as HTML.
pub(super) fn contact_sheet(watched: &[Watched]) -> Outcome<String> {
    let missed: Vec<_> = watched.iter().flat_map(missed).collect();
    let wrong: Vec<_> = watched.iter().flat_map(false_alerts).collect();
    let mut html = String::new();
    for (title, note, figures) in [
        (
            "Missed lesions",
            "A frame from the middle of each lesion that no alert found. Green: where it is, where that is known. Yellow: regions.",
            missed,
        ),
        (
            "False alerts",
            "The frame in which each alert was told that touches no lesion. Yellow: its regions. Green: lesions in view.",
            wrong,
        ),
    ] {
        let all = figures.len();
        let _ = write!(html, "<h2>{title}</h2>\n<p class=\"note\">");
        let _ = match all {
            0 => writeln!(html, "None.</p>"),
            _ if all > SHOWN => writeln!(html, "{note} The first {SHOWN} of {all}.</p>"),
            _ => writeln!(html, "{note}</p>"),
        };
        if all > 0 {
            html.push_str("<div class=\"sheet\">\n");
            draw(&mut html, &figures[..all.min(SHOWN)])?;
            html.push_str("</div>\n");
        }
    }
    Ok(html)
}

fn missed(watched: &Watched) -> impl Iterator<Item = Figure<'_>> {
    let lesions = watched.row.lesions.iter().enumerate();
    let missed = lesions.filter(|(_, lesion)| !lesion.found);
    missed.map(|(number, lesion)| {
        let middle = lesion.first_frame + (lesion.last_frame - lesion.first_frame) / 2;
        let frame = watched.truth.marked_near(number, middle).unwrap_or(middle);
        let caption = format!(
            "lesion {}, frames {} to {}",
            lesion.id, lesion.first_frame, lesion.last_frame
        );
        Figure::new(watched, frame, caption)
    })
}

fn false_alerts(watched: &Watched) -> impl Iterator<Item = Figure<'_>> {
    let alerts = watched.row.alerts.iter();
    let wrong = alerts.filter(|alert| alert.lesions.is_empty());
    wrong.map(|alert| {
        let caption = format!(
            "alert {}, frames {} to {}",
            alert.event_id, alert.first_frame, alert.last_frame
        );
        Figure::new(watched, alert.first_frame, caption)
    })
}

impl<'a> Figure<'a> {
    fn new(watched: &'a Watched, frame: u64, caption: String) -> Self {
        let at = watched.frames.partition_point(|shown| shown.number < frame);
        let record = watched
            .frames
            .get(at)
            .and_then(|shown| shown.record.as_ref());
        let mut boxes = Vec::new();
        if let Some(record) = record {
            let size = (record.width, record.height);
            // In parts of the frame, whatever the size at which it is drawn.
            let part = |[x, y, w, h]: [f64; 4]| {
                let (width, height) = (f64::from(size.0), f64::from(size.1));
                [x / width, y / height, w / width, h / height]
            };
            let places = watched.truth.in_view(frame);
            let places = places.filter_map(|lesion| watched.truth.place(lesion, frame, size));
            boxes.extend(places.map(|place| (part(place), TRUTH)));
            let regions = record.regions.iter();
            boxes.extend(regions.map(|region| {
                let place = [region.x, region.y, region.w, region.h];
                (part(place.map(f64::from)), FOUND)
            }));
        }
        Self {
            watched,
            frame,
            caption,
            boxes,
        }
    }
}

fn draw(html: &mut String, figures: &[Figure<'_>]) -> Outcome {
    // A clip is decoded once for all of its pictures.
    for together in figures.chunk_by(|a, b| std::ptr::eq(a.watched, b.watched)) {
        let Some(first) = together.first() else {
            continue;
        };
        let numbers: Vec<_> = together.iter().map(|figure| figure.frame).collect();
        let pictures = play::pictures(&first.watched.clip.video, &numbers, SIDE)?;
        for figure in together {
            let picture = pictures.iter().find(|(number, _)| *number == figure.frame);
            if let Some((_, picture)) = picture {
                show(html, figure, picture.clone())?;
            }
        }
    }
    Ok(())
}

fn show(html: &mut String, figure: &Figure<'_>, mut picture: RgbImage) -> Outcome {
    for (place, colour) in &figure.boxes {
        outline(&mut picture, *place, *colour);
    }
    let mut file = Cursor::new(Vec::new());
    let encoder = JpegEncoder::new_with_quality(&mut file, JPEG_QUALITY);
    picture
        .write_with_encoder(encoder)
        .map_err(|e| Failure::Picture {
            path: figure.watched.clip.video.clone(),
            reason: e.to_string(),
        })?;
    let name = figure.watched.row.name();
    let _ = writeln!(
        html,
        "<figure><img src=\"data:image/jpeg;base64,{}\" alt=\"frame {} of {}\">\n<figcaption>{}, at {}<br><span>{}</span></figcaption></figure>",
        BASE64_STANDARD.encode(file.into_inner()),
        figure.frame,
        escape_attribute(&name),
        escape_text(&figure.caption),
        figure.frame,
        escape_text(&name)
    );
    Ok(())
}

/// Draws a box, in parts of the picture, two pixels thick.
fn outline(picture: &mut RgbImage, [x, y, w, h]: [f64; 4], colour: Rgb<u8>) {
    let (width, height) = picture.dimensions();
    // A cast saturates.
    let at = |part: f64, side: u32| ((part * f64::from(side)).round() as u32).min(side - 1);
    let (left, right) = (at(x, width), at(x + w, width));
    let (top, bottom) = (at(y, height), at(y + h, height));
    for row in top..=bottom {
        for column in left..=right {
            let near = |a: u32, b: u32| a.abs_diff(b) < 2;
            if near(column, left) || near(column, right) || near(row, top) || near(row, bottom) {
                picture.put_pixel(column, row, colour);
            }
        }
    }
}
