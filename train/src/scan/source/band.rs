//! Lines in memory, grey or colour, 8 bits a sample; and how other samples become such.

use std::ops::Range;

use acdclip_model::frame::{Colorimetry, Frame, PixelFormat, Plane};

/// Lines of a band, where the file's own portions do not say otherwise.
const LINES: usize = 512;

/// Bytes of a band, about.
const BYTES: usize = 8 << 20;

/// Some lines of a strip.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(in crate::scan) struct Band {
    /// One sample a pixel, else three.
    pub(in crate::scan) is_grey: bool,
    /// Pixels of a line.
    pub(in crate::scan) width: usize,
    /// Line by line, without padding.
    pub(in crate::scan) bytes: Vec<u8>,
}

/// Samples of a pixel as a file has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Layout {
    /// Grey, grey and alpha, colour, colour and alpha: 1 to 4.
    pub(super) channels: usize,
    /// Bits that are used of samples of 16.
    pub(super) depth: u8,
}

impl Layout {
    fn is_grey(self) -> bool {
        self.channels <= 2
    }

    /// Of a pixel's samples those that count.
    fn kept(self) -> usize {
        if self.is_grey() { 1 } else { 3 }
    }

    /// Empties a band that is to have lines of `width` pixels.
    pub(super) fn start(self, band: &mut Band, width: usize) {
        band.bytes.clear();
        band.is_grey = self.is_grey();
        band.width = width;
    }

    /// How many lines of `width` pixels make a band.
    pub(super) fn lines(self, width: usize) -> usize {
        (BYTES / (width * self.kept()).max(1)).clamp(1, LINES)
    }

    /// Adds samples of 8 bits to a band.
    pub(super) fn append(self, band: &mut Band, samples: &[u8]) {
        if self.channels == self.kept() {
            band.bytes.extend_from_slice(samples);
            return;
        }
        for pixel in samples.chunks_exact(self.channels) {
            band.bytes.extend_from_slice(&pixel[..self.kept()]);
        }
    }

    /// Adds samples of 16 bits to a band.
    pub(super) fn append_wide(self, band: &mut Band, samples: impl Iterator<Item = u16>) {
        let (channels, kept) = (self.channels, self.kept());
        let samples = samples.enumerate();
        let counting = samples.filter(|(i, _)| i % channels < kept);
        band.bytes
            .extend(counting.map(|(_, sample)| PixelFormat::narrowed(sample, self.depth)));
    }
}

impl Band {
    /// Bytes of a pixel.
    pub(in crate::scan) fn pixel(&self) -> usize {
        if self.is_grey { 1 } else { 3 }
    }

    /// Lines.
    pub(in crate::scan) fn len(&self) -> usize {
        match self.width * self.pixel() {
            0 => 0,
            stride => self.bytes.len() / stride,
        }
    }

    /// Each of them.
    pub(in crate::scan) fn lines(&self) -> impl Iterator<Item = &[u8]> {
        self.bytes.chunks_exact((self.width * self.pixel()).max(1))
    }

    /// `columns` of it, as the detector takes them.
    pub(in crate::scan) fn frame(
        &self,
        columns: &Range<usize>,
    ) -> acdclip_model::Result<Frame<'_>> {
        let format = if self.is_grey {
            PixelFormat::Gray8
        } else {
            PixelFormat::Rgb
        };
        let planes = [Plane {
            data: &self.bytes,
            stride: self.width * self.pixel(),
        }];
        let colours = Colorimetry::default();
        Frame::new(format, self.width, self.len(), &planes, colours)?.crop(
            columns.start,
            0,
            columns.len(),
            self.len(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_keep_their_high_bits_and_alpha_is_dropped() {
        let mut band = Band::default();
        let layout = Layout {
            channels: 2,
            depth: 12,
        };
        layout.start(&mut band, 2);
        layout.append_wide(
            &mut band,
            [0xfff, 7, 0x1000, 7, 0x10, 9, 0x0f, 9].into_iter(),
        );
        assert_eq!(
            (band.bytes.as_slice(), band.len()),
            (&[255, 255, 1, 0][..], 2)
        );
        let layout = Layout {
            channels: 4,
            depth: 16,
        };
        layout.start(&mut band, 1);
        layout.append(&mut band, &[1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(
            (band.bytes.as_slice(), band.len()),
            (&[1, 2, 3, 5, 6, 7][..], 2)
        );
    }
}
