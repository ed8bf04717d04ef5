//! The contact sheet: the pictures that the model does best, worst and most wrong, with their maps.
//!
//! Best and worst are about where: the AP of the pixels of an anomalous picture on its own. Most wrong is about whether: the share of the
//! pictures with the other label that a picture's score is on the wrong side of.

use std::{fmt::Write, io::Cursor, path::Path};

use base64::{Engine, prelude::BASE64_STANDARD};
use htmlize::{escape_attribute, escape_text};
use image::{Rgb, RgbImage, codecs::jpeg::JpegEncoder, imageops};

use super::PageError;
use crate::{
    dataset::mask::Mask,
    eval::class::ScoredPicture,
    outcome::{Failure, Outcome},
    picture::Picture,
};

/// Pictures in each group.
const SHOWN: usize = 6;

/// Longest side of a picture on the sheet.
const SIDE: u32 = 240;

/// Pixels between a picture and its map.
const GAP: u32 = 4;

const JPEG_QUALITY: u8 = 85;

/// Outline of what is truly anomalous.
const OUTLINE: Rgb<u8> = Rgb([40, 230, 120]);

/// Colours of a map from probability 0 to 1.
const HEAT: [[f32; 3]; 5] = [
    [20.0, 10.0, 60.0],
    [120.0, 20.0, 110.0],
    [220.0, 50.0, 60.0],
    [250.0, 150.0, 30.0],
    [255.0, 245.0, 120.0],
];

/// The sheet as HTML; nothing where there are no pictures.
pub(super) fn contact_sheet(pictures: &[ScoredPicture]) -> Result<String, PageError> {
    let mut html = String::new();
    let (best, worst) = best_and_worst(pictures);
    let wrong = most_wrong(pictures);
    let groups = [
        (
            "Best maps",
            "Anomalous pictures whose anomalous pixels are ranked best. Left the picture with its mask outlined, right the map, from 0 to 1.",
            best,
        ),
        (
            "Worst maps",
            "Anomalous pictures whose anomalous pixels are ranked worst.",
            worst,
        ),
        (
            "Most wrong",
            "Pictures whose score is on the wrong side of most pictures with the other label, or leans furthest that way.",
            wrong,
        ),
    ];
    for (title, note, shown) in groups {
        if shown.is_empty() {
            continue;
        }
        write!(
            html,
            "<h3>{title}</h3>\n<p class=\"note\">{note}</p>\n<div class=\"sheet\">\n"
        )?;
        for picture in shown {
            figure(&mut html, picture)?;
        }
        html.push_str("</div>\n");
    }
    Ok(html)
}

/// By pixel AP: the highest first, and the lowest first, no picture in both.
fn best_and_worst(pictures: &[ScoredPicture]) -> (Vec<&ScoredPicture>, Vec<&ScoredPicture>) {
    let mut ranked: Vec<_> = pictures
        .iter()
        .filter_map(|picture| Some((picture.pixel_ap?, picture)))
        .collect();
    ranked.sort_by(|a, b| b.0.total_cmp(&a.0));
    let best = ranked.len().div_ceil(2).min(SHOWN);
    let worst = (ranked.len() - best).min(SHOWN);
    let picture = |(_, picture): &(f64, _)| *picture;
    (
        ranked[..best].iter().map(picture).collect(),
        ranked.iter().rev().take(worst).map(picture).collect(),
    )
}

fn most_wrong(pictures: &[ScoredPicture]) -> Vec<&ScoredPicture> {
    let mut ranked: Vec<_> = pictures
        .iter()
        .map(|picture| (wrongness(picture, pictures), picture))
        .collect();
    ranked.sort_by(|a, b| b.0.0.total_cmp(&a.0.0).then(b.0.1.total_cmp(&a.0.1)));
    ranked.iter().take(SHOWN).map(|(_, p)| *p).collect()
}

/// The share of the other label that `picture` is on the wrong side of, and how far its score leans there.
fn wrongness(picture: &ScoredPicture, all: &[ScoredPicture]) -> (f64, f32) {
    let lean = |p: &ScoredPicture| {
        if picture.sample.anomalous {
            -p.score
        } else {
            p.score
        }
    };
    let others = || {
        all.iter()
            .filter(|p| p.sample.anomalous != picture.sample.anomalous)
    };
    let wrong = others()
        .filter(|other| lean(other) <= lean(picture))
        .count();
    (wrong as f64 / others().count().max(1) as f64, lean(picture))
}

fn figure(html: &mut String, picture: &ScoredPicture) -> Result<(), PageError> {
    let path = picture.sample.image.display().to_string();
    let label = match picture.sample.anomalous {
        true => "anomalous",
        false => "normal",
    };
    let ap = picture
        .pixel_ap
        .map(|ap| format!(", pixel AP {:.1}", ap * 100.0));
    writeln!(
        html,
        "<figure><img src=\"data:image/jpeg;base64,{}\" alt=\"{} and its map\">\n\
         <figcaption><b class=\"{label}\">{label}</b> score {:.3}{}<br><span>{}</span></figcaption></figure>",
        BASE64_STANDARD.encode(draw(picture)?),
        escape_attribute(&path),
        picture.score,
        ap.unwrap_or_default(),
        escape_text(tail(&picture.sample.image))
    )?;
    Ok(())
}

/// The last folders of a path and its file, which tell pictures of a set apart.
fn tail(path: &Path) -> String {
    let parts: Vec<_> = path.iter().map(|part| part.to_string_lossy()).collect();
    parts[parts.len().saturating_sub(3)..].join("/")
}

/// The picture with its mask outlined, and beside it the picture under its map, as JPEG.
fn draw(scored: &ScoredPicture) -> Outcome<Vec<u8>> {
    let path = &scored.sample.image;
    let picture = small(&Picture::open(path)?);
    let (width, height) = picture.dimensions();
    let (columns, rows) = (width as usize, height as usize);
    let mut left = picture.clone();
    if let Some(mask) = scored
        .sample
        .mask
        .as_ref()
        .filter(|_| scored.sample.anomalous)
    {
        outline(&mut left, &Mask::open(mask)?.resized(columns, rows));
    }
    let mut right = picture;
    let map = scored.map.upsample_to_frame(columns, rows);
    for (pixel, probability) in right.pixels_mut().zip(map) {
        heat(pixel, probability);
    }
    let mut both = RgbImage::from_pixel(2 * width + GAP, height, Rgb([238, 241, 245]));
    imageops::replace(&mut both, &left, 0, 0);
    imageops::replace(&mut both, &right, i64::from(width + GAP), 0);
    let mut file = Cursor::new(Vec::new());
    let encoder = JpegEncoder::new_with_quality(&mut file, JPEG_QUALITY);
    both.write_with_encoder(encoder)
        .map_err(|e| Failure::Picture {
            path: path.clone(),
            reason: e.to_string(),
        })?;
    Ok(file.into_inner())
}

/// The picture, no side longer than [`SIDE`].
fn small(picture: &Picture) -> RgbImage {
    let (width, height) = picture.size();
    let longest = width.max(height) as f64;
    let fit = |side: usize| ((side as f64 * f64::from(SIDE) / longest).round() as u32).max(1);
    let pixel = |x: u32, y: u32| {
        let at = (y as usize * width + x as usize) * 3;
        let samples = &picture.pixels()[at..at + 3];
        Rgb([samples[0], samples[1], samples[2]])
    };
    let whole = RgbImage::from_fn(width as u32, height as u32, pixel);
    imageops::thumbnail(&whole, fit(width), fit(height))
}

/// Colours the pixels of `mask` that have a neighbour outside it.
fn outline(picture: &mut RgbImage, mask: &[bool]) {
    let (width, height) = picture.dimensions();
    let inside = |x: u32, y: u32| mask[(y * width + x) as usize];
    for y in 0..height {
        for x in 0..width {
            let edge = x == 0 || y == 0 || x + 1 == width || y + 1 == height;
            let enclosed = !edge
                && inside(x - 1, y)
                && inside(x + 1, y)
                && inside(x, y - 1)
                && inside(x, y + 1);
            if inside(x, y) && !enclosed {
                picture.put_pixel(x, y, OUTLINE);
            }
        }
    }
}

/// Lays the colour of a probability over a pixel, the more so the higher it is.
fn heat(pixel: &mut Rgb<u8>, probability: f32) {
    let probability = probability.clamp(0.0, 1.0);
    let place = probability * (HEAT.len() - 1) as f32;
    let low = (place as usize).min(HEAT.len() - 2);
    let (towards, opacity) = (place - low as f32, 0.25 + 0.6 * probability);
    for (channel, sample) in pixel.0.iter_mut().enumerate() {
        let (a, b) = (HEAT[low][channel], HEAT[low + 1][channel]);
        let colour = a + (b - a) * towards;
        let mixed = f32::from(*sample) * (1.0 - opacity) + colour * opacity;
        *sample = mixed.round() as u8;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heat_rises_with_the_probability() {
        let drawn = |p| {
            let mut pixel = Rgb([128; 3]);
            heat(&mut pixel, p);
            pixel.0.map(u32::from).iter().sum::<u32>()
        };
        assert!(drawn(0.0) < drawn(0.5) && drawn(0.5) < drawn(1.0));
    }

    #[test]
    fn only_the_edge_of_a_mask_is_drawn() {
        let mut picture = RgbImage::new(5, 5);
        let mask: Vec<bool> = (0..25)
            .map(|i| (1..4).contains(&(i % 5)) && (1..4).contains(&(i / 5)))
            .collect();
        outline(&mut picture, &mask);
        let drawn = picture.pixels().filter(|p| **p == OUTLINE).count();
        assert_eq!(drawn, 8);
        assert_ne!(*picture.get_pixel(2, 2), OUTLINE);
    }
}
