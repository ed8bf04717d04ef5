//! Whether a JPEG file is all there. Decoders fill in what is missing with grey, in which no flaw will be found.

use std::io::BufRead;

/// Whether bytes after the first of a marker's belong to the entropy-coded data, or are a marker without a segment.
fn stands_alone(code: u8) -> bool {
    matches!(code, 0x00 | 0x01 | 0xd0..=0xd8)
}

/// Whether a JPEG has the marker at its end (ITU-T T.81, B.1.1). What follows it is not looked at.
pub(crate) fn has_end(file: impl BufRead) -> std::io::Result<bool> {
    let mut bytes = file.bytes();
    let mut next = || bytes.next().transpose();
    while let Some(byte) = next()? {
        if byte != 0xff {
            continue;
        }
        let mut code = next()?;
        while code == Some(0xff) {
            code = next()?;
        }
        match code {
            Some(0xd9) => return Ok(true),
            Some(code) if stands_alone(code) => {}
            // A segment, which may hold a thumbnail with an end of its own.
            Some(_) => {
                let (Some(high), Some(low)) = (next()?, next()?) else {
                    return Ok(false);
                };
                for _ in 2..u16::from_be_bytes([high, low]) {
                    next()?;
                }
            }
            None => return Ok(false),
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use image::{ImageEncoder, codecs::jpeg::JpegEncoder};

    use super::*;

    fn jpeg() -> Vec<u8> {
        let pixels: Vec<u8> = (0..64 * 64).map(|i| (i * 7 % 251) as u8).collect();
        let mut bytes = Vec::new();
        let encoder = JpegEncoder::new(&mut bytes);
        let grey = image::ExtendedColorType::L8;
        encoder.write_image(&pixels, 64, 64, grey).unwrap();
        bytes
    }

    #[test]
    fn a_jpeg_that_is_cut_anywhere_has_no_end() {
        let bytes = jpeg();
        assert!(has_end(&bytes[..]).unwrap());
        assert!(has_end(&[&bytes[..], b"more"].concat()[..]).unwrap());
        for len in 0..bytes.len() {
            assert!(!has_end(&bytes[..len]).unwrap(), "{len} bytes");
        }
    }

    #[test]
    fn the_end_of_a_thumbnail_is_not_that_of_the_picture() {
        let bytes = jpeg();
        // An application's segment after the first marker, with a whole picture in it.
        let len = (bytes.len() as u16 + 2).to_be_bytes();
        let segment = [&[0xff, 0xe1][..], &len, &bytes].concat();
        let with_thumbnail = [&bytes[..2], &segment, &bytes[2..]].concat();
        assert!(has_end(&with_thumbnail[..]).unwrap());
        let cut = with_thumbnail.len() - 20;
        assert!(!has_end(&with_thumbnail[..cut]).unwrap());
    }
}
