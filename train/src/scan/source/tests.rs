//! Every way that lines come in gives the same lines.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use image::{DynamicImage, GrayImage, ImageBuffer, ImageFormat, Luma, RgbImage};

use super::*;

const READING: Reading = Reading {
    depth: 16,
    line_advance: 0,
};

fn strip(width: u32, lines: u32) -> GrayImage {
    GrayImage::from_fn(width, lines, |x, y| Luma([(x * 7 + y * 13) as u8]))
}

/// All lines, band after band.
fn read(path: &Path, reading: Reading) -> Outcome<Band> {
    let mut lines = Source::tell(path)?.open(reading)?;
    let (mut all, mut band) = (Band::default(), Band::default());
    while lines.next(&mut band)? {
        assert!(band.len() <= 512);
        (all.width, all.is_grey) = (band.width, band.is_grey);
        all.bytes.extend_from_slice(&band.bytes);
    }
    assert!(lines.total().is_none_or(|total| total == all.len() as u64));
    Ok(all)
}

fn save(folder: &Path, name: &str, picture: impl Into<DynamicImage>) -> PathBuf {
    let path = folder.join(name);
    picture.into().save(&path).unwrap();
    path
}

#[test]
fn every_format_gives_the_same_lines() {
    let folder = tempfile::tempdir().unwrap();
    let grey = strip(70, 1300);
    for name in ["a.png", "a.pgm", "a.tiff", "a.bmp"] {
        let path = save(folder.path(), name, grey.clone());
        let band = read(&path, READING).unwrap();
        let bytes: Vec<u8> = match band.is_grey {
            true => band.bytes,
            false => band.bytes.iter().step_by(3).copied().collect(),
        };
        assert_eq!((band.width, &bytes), (70, grey.as_raw()), "{name}");
    }
    let colour = RgbImage::from_fn(33, 600, |x, y| image::Rgb([x as u8, y as u8, 9]));
    for name in ["b.png", "b.ppm", "b.tiff"] {
        let band = read(&save(folder.path(), name, colour.clone()), READING).unwrap();
        assert_eq!(
            (band.is_grey, &band.bytes),
            (false, colour.as_raw()),
            "{name}"
        );
    }
}

#[test]
fn twelve_bits_of_sixteen_are_narrowed_as_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let wide = ImageBuffer::from_fn(4, 1, |x, _| Luma([[0_u16, 0x10, 0xfff, 0x7ff][x as usize]]));
    for name in ["a.png", "a.pgm", "a.tiff"] {
        let path = save(folder.path(), name, wide.clone());
        let reading = Reading {
            depth: 12,
            ..READING
        };
        assert_eq!(
            read(&path, reading).unwrap().bytes,
            [0, 1, 255, 127],
            "{name}"
        );
    }
    // The header says it.
    let path = folder.path().join("b.pgm");
    std::fs::write(&path, b"P5\n# camera\n2 1 4095\n\x0f\xff\x00\x10").unwrap();
    assert_eq!(read(&path, READING).unwrap().bytes, [255, 1]);
}

#[test]
fn frames_that_overlap_are_one_strip() {
    let folder = tempfile::tempdir().unwrap();
    let whole = strip(20, 100);
    for (i, top) in (0..=60).step_by(20).enumerate() {
        let frame = image::imageops::crop_imm(&whole, 0, top, 20, 40).to_image();
        save(folder.path(), &format!("{i:03}.png"), frame);
    }
    let reading = Reading {
        line_advance: 20,
        ..READING
    };
    assert_eq!(
        read(folder.path(), reading).unwrap().bytes,
        whole.into_raw()
    );
    save(folder.path(), "999.png", strip(21, 40));
    let complaint = read(folder.path(), reading).unwrap_err().to_string();
    assert!(
        complaint.contains("999.png") && complaint.contains("21 pixels"),
        "{complaint}"
    );
}

#[test]
fn a_file_that_ends_early_is_an_error_that_names_it() {
    let folder = tempfile::tempdir().unwrap();
    for format in [
        ImageFormat::Png,
        ImageFormat::Pnm,
        ImageFormat::Tiff,
        ImageFormat::Jpeg,
    ] {
        let name = format!("a.{}", format.extensions_str()[0]);
        let path = folder.path().join(name);
        DynamicImage::from(strip(300, 900))
            .save_with_format(&path, format)
            .unwrap();
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
        let complaint = read(&path, READING).map(drop);
        // A JPEG that is cut off is decoded as far as it goes.
        if format != ImageFormat::Jpeg {
            let complaint = complaint.unwrap_err().to_string();
            assert!(complaint.contains("a."), "{complaint}");
        }
    }
    std::fs::write(folder.path().join("b.pgm"), "P5 70 x").unwrap();
    assert!(read(&folder.path().join("b.pgm"), READING).is_err());
}
