//! Pictures for the page: the newest one, for whoever looks, and those of the last moments, for the events that are told of late.

use std::collections::VecDeque;

use axum::body::Bytes;
use parking_lot::Mutex;
use tokio::sync::watch;

/// Bytes of pictures that are remembered, at most.
const MEMORY: usize = 48 << 20;
/// Nanoseconds of pictures that are remembered: results are no older.
const PAST: u64 = 4_000_000_000;

/// A picture, JPEG, and when it is shown, in nanoseconds.
#[derive(Debug, Clone)]
pub(super) struct Picture {
    pub(super) pts: u64,
    pub(super) jpeg: Bytes,
}

/// What a viewer sees next.
#[derive(Debug, Clone, Default)]
pub(super) enum Newest {
    /// There was no picture yet.
    #[default]
    None,
    /// The newest one.
    Picture(Picture),
    /// There will be none any more.
    Over,
}

/// Never waits for a viewer: each has a slot for the newest picture, and passes over those that it was too slow for.
#[derive(Debug, Default)]
pub(super) struct Pictures {
    newest: watch::Sender<Newest>,
    past: Mutex<Past>,
}

#[derive(Debug, Default)]
struct Past {
    pictures: VecDeque<Picture>,
    bytes: usize,
}

impl Pictures {
    /// Shows a picture to all.
    pub(super) fn show(&self, picture: Picture) {
        self.past.lock().push(picture.clone());
        self.newest.send_replace(Newest::Picture(picture));
    }

    /// There will be no more.
    pub(super) fn end(&self) {
        self.newest.send_replace(Newest::Over);
    }

    /// A new viewer's slot, with the newest picture in it.
    pub(super) fn slot(&self) -> watch::Receiver<Newest> {
        let mut slot = self.newest.subscribe();
        slot.mark_changed();
        slot
    }

    /// The newest picture, if there is one.
    pub(super) fn newest(&self) -> Option<Picture> {
        self.past.lock().pictures.back().cloned()
    }

    /// The remembered picture that is shown closest to that time.
    pub(super) fn at(&self, pts: u64) -> Option<Picture> {
        let past = self.past.lock();
        let distance = |picture: &&Picture| picture.pts.abs_diff(pts);
        past.pictures.iter().min_by_key(distance).cloned()
    }
}

impl Past {
    fn push(&mut self, picture: Picture) {
        // After a step back in time nothing that is remembered can be asked for.
        if self
            .pictures
            .back()
            .is_some_and(|last| last.pts > picture.pts)
        {
            *self = Self::default();
        }
        self.bytes += picture.jpeg.len();
        let now = picture.pts;
        self.pictures.push_back(picture);
        while self.pictures.len() > 1
            && (self.bytes > MEMORY
                || self
                    .pictures
                    .front()
                    .is_some_and(|first| first.pts + PAST < now))
        {
            if let Some(gone) = self.pictures.pop_front() {
                self.bytes -= gone.jpeg.len();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn picture(pts: u64) -> Picture {
        Picture {
            pts,
            jpeg: Bytes::from(vec![0; 8]),
        }
    }

    #[test]
    fn a_slot_holds_the_newest_picture_alone() {
        let pictures = Pictures::default();
        (0..5).for_each(|n| pictures.show(picture(n)));
        let mut slot = pictures.slot();
        assert!(slot.has_changed().unwrap());
        assert!(matches!(&*slot.borrow_and_update(), Newest::Picture(p) if p.pts == 4));
        (5..9).for_each(|n| pictures.show(picture(n)));
        assert!(matches!(&*slot.borrow_and_update(), Newest::Picture(p) if p.pts == 8));
        assert!(!slot.has_changed().unwrap());
    }

    #[test]
    fn the_last_seconds_are_remembered() {
        let pictures = Pictures::default();
        (0..20).for_each(|n| pictures.show(picture(n * SECOND)));
        assert_eq!(pictures.at(18 * SECOND + 7).unwrap().pts, 18 * SECOND);
        assert_eq!(pictures.at(0).unwrap().pts, 15 * SECOND);
        pictures.show(picture(2 * SECOND));
        assert_eq!(pictures.at(19 * SECOND).unwrap().pts, 2 * SECOND);
        assert_eq!(pictures.newest().unwrap().pts, 2 * SECOND);
    }
}
