//! The last seconds of encoded video, from a key frame on: what a clip begins with.

use std::collections::VecDeque;

/// Bytes that are remembered, at most.
const MEMORY: usize = 256 << 20;

/// An encoded frame.
#[derive(Debug, Clone)]
pub(super) struct Frame<T> {
    /// When it is shown, nanoseconds.
    pub(super) pts: u64,
    /// Whether it can be decoded without those before.
    pub(super) is_key: bool,
    pub(super) bytes: usize,
    pub(super) content: T,
}

/// Remembers so many nanoseconds of frames, and those up to the key frame before.
#[derive(Debug)]
pub(super) struct Ring<T> {
    frames: VecDeque<Frame<T>>,
    bytes: usize,
    length: u64,
}

impl<T: Clone> Ring<T> {
    pub(super) fn new(length: u64) -> Self {
        Self {
            frames: VecDeque::new(),
            bytes: 0,
            length,
        }
    }

    /// Frames come in the order in which they are decoded.
    pub(super) fn push(&mut self, frame: Frame<T>) {
        // Without a key frame nothing can be made of it.
        if self.frames.is_empty() && !frame.is_key {
            return;
        }
        self.bytes += frame.bytes;
        let oldest = frame.pts.saturating_sub(self.length);
        self.frames.push_back(frame);
        while let Some(next) = self.next_key()
            && (self.frames[next].pts <= oldest || self.bytes > MEMORY)
        {
            let gone = self.frames.drain(..next);
            self.bytes -= gone.map(|frame| frame.bytes).sum::<usize>();
        }
    }

    /// Where the second key frame lies.
    fn next_key(&self) -> Option<usize> {
        let mut frames = self.frames.iter();
        frames.next()?;
        frames.position(|frame| frame.is_key).map(|at| at + 1)
    }

    /// The frames from the last key frame at or before `pts`, else from the first one.
    pub(super) fn from(&self, pts: u64) -> impl Iterator<Item = &Frame<T>> {
        let is_start = |frame: &Frame<T>| frame.is_key && frame.pts <= pts;
        let start = self.frames.iter().rposition(is_start).unwrap_or(0);
        self.frames.range(start..)
    }

    /// Whether there is nothing to begin a clip with.
    pub(super) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Forgets everything: what comes next does not belong to it.
    pub(super) fn clear(&mut self) {
        self.frames.clear();
        self.bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(pts: u64, is_key: bool, bytes: usize) -> Frame<()> {
        Frame {
            pts,
            is_key,
            bytes,
            content: (),
        }
    }

    fn times(ring: &Ring<()>, from: u64) -> Vec<u64> {
        ring.from(from).map(|frame| frame.pts).collect()
    }

    #[test]
    fn it_begins_with_a_key_frame_and_goes_back_far_enough() {
        let mut ring = Ring::new(10);
        ring.push(frame(0, false, 1));
        assert!(times(&ring, 0).is_empty());
        for pts in 1..30 {
            ring.push(frame(pts, pts % 5 == 1, 1));
        }
        // Ten back from 29 is 19, and 16 is the key frame before.
        assert_eq!(times(&ring, 0), (16..30).collect::<Vec<_>>());
        assert_eq!(times(&ring, 25), (21..30).collect::<Vec<_>>());
        assert_eq!(times(&ring, 26), (26..30).collect::<Vec<_>>());
    }

    #[test]
    fn it_holds_no_more_than_its_bytes() {
        let mut ring = Ring::new(u64::MAX);
        (0..9).for_each(|pts| ring.push(frame(pts, true, MEMORY / 4)));
        assert_eq!(times(&ring, 0), [5, 6, 7, 8]);
    }
}
