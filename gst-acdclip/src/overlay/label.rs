//! A line of text in the frame's corner, in an 8 x 8 bitmap font.

use font8x8::UnicodeFonts;

use super::visible_size;

/// Side of a glyph in font pixels.
const GLYPH: usize = 8;
/// Room around the text, in font pixels.
const PADDING: usize = 2;

/// What covers a pixel of a label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// The glyphs.
    Text,
    /// What is behind and around them.
    Backing,
}

/// A text laid out in the top left corner of a frame.
#[derive(Debug, Clone)]
pub(crate) struct Label {
    glyphs: Vec<[u8; GLYPH]>,
    scale: usize,
    left: usize,
    top: usize,
}

impl Label {
    /// Lays `text` out for a frame of `width` x `height`; `None` where the frame is too small to read it in.
    pub(crate) fn new(text: &str, width: usize, height: usize) -> Option<Self> {
        let glyphs: Vec<_> = text
            .chars()
            .filter_map(|c| font8x8::BASIC_FONTS.get(c))
            .collect();
        let columns = glyphs.len() * GLYPH + 2 * PADDING;
        let rows = GLYPH + 2 * PADDING;
        // At most a quarter of the height, as far as it can be read then.
        let scale = (visible_size(width, height) / 240)
            .min(height / (4 * rows))
            .max(1)
            .min(width / columns)
            .min(height / rows);
        if scale == 0 || glyphs.is_empty() {
            return None;
        }
        let margin = |size: usize, used: usize| (2 * PADDING * scale).min(size - used * scale);
        Some(Self {
            left: margin(width, columns),
            top: margin(height, rows),
            glyphs,
            scale,
        })
    }

    /// Whether row `y` of the frame has a part of it.
    pub(crate) fn covers_row(&self, y: usize) -> bool {
        (self.top..self.top + (GLYPH + 2 * PADDING) * self.scale).contains(&y)
    }

    /// The parts of row `y`, from column `.0` of the frame on.
    pub(crate) fn row(&self, y: usize) -> (usize, Vec<Part>) {
        let columns = self.glyphs.len() * GLYPH + 2 * PADDING;
        let row = (y - self.top) / self.scale;
        let parts = (0..columns * self.scale)
            .map(|x| self.part(x / self.scale, row))
            .collect();
        (self.left, parts)
    }

    /// The part at a font pixel, padding included.
    fn part(&self, x: usize, y: usize) -> Part {
        let inside = x
            .checked_sub(PADDING)
            .zip(y.checked_sub(PADDING).filter(|y| *y < GLYPH))
            .and_then(|(x, y)| Some(self.glyphs.get(x / GLYPH)?[y] >> (x % GLYPH) & 1));
        match inside {
            Some(1) => Part::Text,
            _ => Part::Backing,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_one_is_drawn_as_a_one() {
        let label = Label::new("1", 64, 64).unwrap();
        let picture: Vec<String> = (0..64)
            .filter(|y| label.covers_row(*y))
            .map(|y| {
                let (_, parts) = label.row(y);
                let ink = |p: &Part| if *p == Part::Text { '#' } else { '.' };
                parts.iter().map(ink).collect()
            })
            .collect();
        assert_eq!(
            picture,
            [
                "............",
                "............",
                "....##......",
                "...###......",
                "....##......",
                "....##......",
                "....##......",
                "....##......",
                "..######....",
                "............",
                "............",
                "............",
            ]
        );
    }

    #[test]
    fn a_strip_has_larger_text_than_its_height_alone_would_give() {
        let rows = |width, height| {
            let label = Label::new("0.87", width, height).unwrap();
            (0..height).filter(|y| label.covers_row(*y)).count()
        };
        assert_eq!(rows(1920, 1080), 48);
        assert_eq!(rows(8192, 512), 96);
        assert_eq!(rows(8192, 64), 12);
    }

    #[test]
    fn it_stays_inside_every_frame() {
        for (width, height) in [
            (1, 1),
            (35, 12),
            (36, 12),
            (37, 13),
            (640, 480),
            (9000, 8),
            (1920, 1080),
        ] {
            let Some(label) = Label::new("0.87", width, height) else {
                assert!(width < 36 || height < 12, "{width}x{height} has room");
                continue;
            };
            for y in (0..height).filter(|y| label.covers_row(*y)) {
                let (left, parts) = label.row(y);
                assert!(left + parts.len() <= width);
            }
            assert!(!label.covers_row(height));
        }
    }
}
