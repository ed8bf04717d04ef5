//! What a clip shows: which lesions are in view in a frame, and whether a point lies on one.

use std::{collections::BTreeMap, path::PathBuf};

use super::clips::{Clip, Lesion};
use crate::{dataset::mask::Mask, outcome::Outcome};

/// The truth of a clip.
#[derive(Debug, Default)]
pub(super) struct Truth {
    lesions: Vec<Lesion>,
    masks: BTreeMap<u64, Marked>,
}

/// The pixels of a mask, as runs of neighbours: a film's masks fit into memory.
#[derive(Debug)]
struct Marked {
    width: usize,
    height: usize,
    /// First pixel, and the one after the last, row by row.
    runs: Vec<(usize, usize)>,
}

impl Truth {
    /// Reads the masks of `clip`.
    pub(super) fn load(clip: &Clip) -> Outcome<Self> {
        let marked =
            |(frame, path): (&u64, &PathBuf)| Ok((*frame, Marked::new(&Mask::open(path)?)));
        Ok(Self {
            lesions: clip.lesions.clone(),
            masks: clip.masks.iter().map(marked).collect::<Outcome<_>>()?,
        })
    }

    /// Of lesions alone.
    #[cfg(test)]
    pub(super) fn of(lesions: Vec<Lesion>) -> Self {
        Self {
            lesions,
            masks: BTreeMap::new(),
        }
    }

    /// All lesions.
    pub(super) fn lesions(&self) -> &[Lesion] {
        &self.lesions
    }

    /// Numbers of the lesions in view in a frame.
    pub(super) fn in_view(&self, frame: u64) -> impl Iterator<Item = usize> {
        let lesions = self.lesions.iter().enumerate();
        let seen = lesions.filter(move |(_, lesion)| (lesion.first..=lesion.last).contains(&frame));
        seen.map(|(number, _)| number)
    }

    /// Whether a point of a frame of `size`, in its pixels, lies on a lesion; none where nobody says where that is.
    ///
    /// The lesion's box in that frame decides, else the frame's mask. In a frame that has neither, the nearest one's box does, or the box
    /// around what its mask marks.
    pub(super) fn holds(
        &self,
        lesion: usize,
        frame: u64,
        [x, y]: [f32; 2],
        size: (u32, u32),
    ) -> Option<bool> {
        let [x, y] = [f64::from(x), f64::from(y)];
        let has_box = self.lesions[lesion].boxes.contains_key(&frame);
        if let Some(marked) = self.masks.get(&frame).filter(|_| !has_box) {
            return Some(marked.has(x, y, size));
        }
        let near = self.marked_near(lesion, frame)?;
        let [left, top, w, h] = self.place(lesion, near, size)?;
        Some(x >= left && x < left + w && y >= top && y < top + h)
    }

    /// The box of a lesion in a frame of `size`, or that around what the frame's mask marks.
    pub(super) fn place(&self, lesion: usize, frame: u64, size: (u32, u32)) -> Option<[f64; 4]> {
        let own = self.lesions[lesion].boxes.get(&frame).copied();
        own.or_else(|| self.masks.get(&frame)?.bounds(size))
    }

    /// Of the frames that say where a lesion is the one that is nearest to `frame`.
    pub(super) fn marked_near(&self, lesion: usize, frame: u64) -> Option<u64> {
        let Lesion {
            first, last, boxes, ..
        } = &self.lesions[lesion];
        let masks = self.masks.range(first..=last);
        let masks = masks.filter(|(_, marked)| !marked.runs.is_empty());
        let marked = boxes.keys().chain(masks.map(|(at, _)| at));
        marked.copied().min_by_key(|at| at.abs_diff(frame))
    }
}

impl Marked {
    fn new(mask: &Mask) -> Self {
        let (width, height) = mask.size();
        let mut runs: Vec<(usize, usize)> = Vec::new();
        for (at, _) in mask.pixels().iter().enumerate().filter(|(_, is)| **is) {
            match runs.last_mut() {
                Some((_, end)) if *end == at => *end += 1,
                _ => runs.push((at, at + 1)),
            }
        }
        Self {
            width,
            height,
            runs,
        }
    }

    /// Whether the mask, stretched over a frame of `size`, marks a point of that.
    fn has(&self, x: f64, y: f64, size: (u32, u32)) -> bool {
        let at = |place: f64, pixels: usize, of: u32| {
            // A cast saturates; a pixel's middle is half a pixel on.
            (((place + 0.5) * pixels as f64 / f64::from(of)) as usize).min(pixels - 1)
        };
        let pixel = at(y, self.height, size.1) * self.width + at(x, self.width, size.0);
        let after = self.runs.partition_point(|(start, _)| *start <= pixel);
        after
            .checked_sub(1)
            .is_some_and(|run| pixel < self.runs[run].1)
    }

    /// The box around what is marked, in pixels of a frame of `size`.
    fn bounds(&self, size: (u32, u32)) -> Option<[f64; 4]> {
        let row = |pixel: usize| pixel / self.width;
        // A run may go on in the next row.
        let columns = |(start, end): &(usize, usize)| match row(*start) == row(end - 1) {
            true => (start % self.width, (end - 1) % self.width + 1),
            false => (0, self.width),
        };
        let (top, bottom) = (row(self.runs.first()?.0), row(self.runs.last()?.1 - 1) + 1);
        let left = self.runs.iter().map(|run| columns(run).0).min()?;
        let right = self.runs.iter().map(|run| columns(run).1).max()?;
        let across = f64::from(size.0) / self.width as f64;
        let down = f64::from(size.1) / self.height as f64;
        Some([
            left as f64 * across,
            top as f64 * down,
            (right - left) as f64 * across,
            (bottom - top) as f64 * down,
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lesion(boxes: &[(u64, [f64; 4])]) -> Lesion {
        Lesion {
            id: "p".into(),
            first: 2,
            last: 8,
            boxes: boxes.iter().copied().collect(),
        }
    }

    #[test]
    fn a_point_is_in_a_box_up_to_its_far_edges() {
        let truth = Truth::of(vec![lesion(&[(4, [10.0, 20.0, 5.0, 6.0])])]);
        let holds = |frame, at| truth.holds(0, frame, at, (100, 100));
        assert_eq!(holds(4, [10.0, 20.0]), Some(true));
        assert_eq!(holds(4, [14.9, 25.9]), Some(true));
        assert_eq!(holds(4, [15.0, 21.0]), Some(false));
        assert_eq!(holds(4, [12.0, 19.9]), Some(false));
        let seen = |frame| truth.in_view(frame).count();
        assert_eq!([seen(1), seen(2), seen(8), seen(9)], [0, 1, 1, 0]);
    }

    #[test]
    fn where_nobody_says_the_nearest_frame_does_and_without_one_nothing_is_known() {
        let near = ([0.0, 0.0, 10.0, 10.0], [50.0, 50.0, 10.0, 10.0]);
        let truth = Truth::of(vec![lesion(&[(3, near.0), (7, near.1)])]);
        let holds = |frame, at| truth.holds(0, frame, at, (100, 100));
        assert_eq!(holds(4, [5.0, 5.0]), Some(true));
        assert_eq!(holds(6, [5.0, 5.0]), Some(false));
        assert_eq!(holds(6, [55.0, 55.0]), Some(true));
        let bare = Truth::of(vec![lesion(&[])]);
        assert_eq!(bare.holds(0, 4, [5.0, 5.0], (100, 100)), None);
    }

    #[test]
    fn a_mask_is_stretched_over_the_frame() {
        let pixels = "........##..##...#......"
            .bytes()
            .map(|byte| byte == b'#')
            .collect();
        // ........ / ##..##.. / .#......
        let marked = Marked::new(&Mask::new(8, 3, pixels));
        let size = (80, 30);
        assert!(marked.has(0.0, 10.0, size) && marked.has(19.0, 19.4, size));
        assert!(!marked.has(20.0, 15.0, size) && marked.has(40.0, 15.0, size));
        assert!(!marked.has(5.0, 25.0, size) && marked.has(15.0, 25.0, size));
        assert!(!marked.has(5.0, 5.0, size));
        assert_eq!(marked.bounds(size), Some([0.0, 10.0, 60.0, 20.0]));
        let truth = Truth {
            lesions: vec![lesion(&[])],
            masks: BTreeMap::from([(4, marked)]),
        };
        // Between the marks of its own frame, but within the box for others.
        assert_eq!(truth.holds(0, 4, [25.0, 15.0], size), Some(false));
        assert_eq!(truth.holds(0, 5, [25.0, 15.0], size), Some(true));
    }

    #[test]
    fn an_empty_mask_holds_nothing_and_says_nothing_of_other_frames() {
        let truth = Truth {
            lesions: vec![lesion(&[])],
            masks: BTreeMap::from([(4, Marked::new(&Mask::new(2, 2, vec![false; 4])))]),
        };
        assert_eq!(truth.holds(0, 4, [0.0, 0.0], (2, 2)), Some(false));
        assert_eq!(truth.holds(0, 5, [0.0, 0.0], (2, 2)), None);
    }
}
