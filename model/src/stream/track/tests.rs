#![allow(clippy::unwrap_used)]

use super::*;
use proptest::prelude::*;

/// Frames are this far apart.
const FRAME: u64 = 40_000_000;

fn region(x: u32, y: u32, w: u32, h: u32) -> Region {
    Region {
        x,
        y,
        w,
        h,
        score: 0.8,
        area: u64::from(w) * u64::from(h),
        centroid: [0.0; 2],
        event_id: None,
        place: None,
    }
}

fn square(x: u32, y: u32) -> Region {
    region(x, y, 20, 20)
}

/// Pushes frame after frame.
#[derive(Default)]
struct Stream {
    tracker: Tracker,
    frames: u64,
    hold: u64,
    joined: Vec<Join>,
}

impl Stream {
    fn held_for(frames: u64) -> Self {
        Self {
            hold: frames * FRAME,
            ..Self::default()
        }
    }

    /// The tracks of the regions.
    fn push(&mut self, regions: &[Region]) -> Vec<Option<u64>> {
        let tracked = self.push_with(regions, Vec::new);
        tracked.regions.iter().map(|(_, track)| *track).collect()
    }

    fn push_with(&mut self, regions: &[Region], weak: impl FnOnce() -> Vec<Region>) -> Tracked {
        let time = self.frames * FRAME;
        self.frames += 1;
        let tracked = self.tracker.push(time, self.hold, regions.to_vec(), weak);
        self.joined.extend(&tracked.joined);
        tracked
    }
}

#[test]
fn a_thing_that_moves_keeps_its_track() {
    let mut stream = Stream::default();
    for x in (0..300).step_by(15) {
        assert_eq!(stream.push(&[square(x, 50)]), [Some(1)]);
    }
}

#[test]
fn a_small_fast_thing_keeps_its_track_once_it_is_seen_to_move() {
    let mut stream = Stream::default();
    // It starts slowly enough to stay near, and is soon far faster than its own size a frame.
    for x in [0, 10, 22, 36, 52, 70, 90, 110, 130] {
        assert_eq!(stream.push(&[region(x, 50, 8, 8)]), [Some(1)], "at {x}");
    }
}

#[test]
fn a_thing_elsewhere_is_another() {
    let mut stream = Stream::held_for(9);
    assert_eq!(stream.push(&[square(0, 0)]), [Some(1)]);
    assert_eq!(stream.push(&[square(50, 0)]), [Some(2)]);
    assert_eq!(
        stream.push(&[square(50, 0), square(0, 0)]),
        [Some(2), Some(1)]
    );
}

#[test]
fn two_things_that_cross_keep_their_tracks() {
    let mut stream = Stream::default();
    for step in 0..20 {
        let (right, left) = (square(20 + 8 * step, 50), square(180 - 8 * step, 54));
        assert_eq!(stream.push(&[right, left]), [Some(1), Some(2)], "at {step}");
    }
}

#[test]
fn a_thing_out_of_sight_is_known_for_the_hold_time() {
    for (gap, track) in [(2, 1), (3, 2)] {
        let mut stream = Stream::held_for(3);
        stream.push(&[square(0, 0)]);
        for _ in 0..=gap {
            stream.push(&[]);
        }
        assert_eq!(stream.tracker.knows(1), track == 1);
        assert_eq!(stream.push(&[square(0, 0)]), [Some(track)]);
    }
}

#[test]
fn a_thing_that_moves_is_found_again_where_it_must_be() {
    let mut stream = Stream::held_for(10);
    for x in [0, 10, 20, 30] {
        stream.push(&[square(x, 0)]);
    }
    for _ in 0..5 {
        stream.push(&[]);
    }
    assert_eq!(stream.push(&[square(90, 0)]), [Some(1)]);
}

#[test]
fn a_thing_that_falls_apart_is_no_new_thing() {
    let mut stream = Stream::default();
    stream.push(&[region(0, 0, 60, 20)]);
    for drift in 0..10 {
        let (left, right) = (region(10 - drift, 0, 24, 20), region(36 + drift, 0, 24, 20));
        assert_eq!(stream.push(&[left, right]), [Some(1), Some(1)]);
    }
    // What appears between the parts is none of them.
    let between = region(30, 0, 8, 8);
    let (left, right) = (region(0, 0, 24, 20), region(46, 0, 24, 20));
    assert_eq!(
        stream.push(&[left, between, right]),
        [Some(1), Some(2), Some(1)]
    );
}

#[test]
fn things_that_become_one_live_on_under_the_older_number() {
    for (first, second) in [
        (region(0, 0, 20, 20), region(24, 0, 40, 20)),
        (region(24, 0, 40, 20), region(0, 0, 20, 20)),
    ] {
        let mut stream = Stream::held_for(10);
        assert_eq!(stream.push(&[first, second]), [Some(1), Some(2)]);
        assert_eq!(stream.push(&[region(0, 0, 64, 20)]), [Some(1)]);
        assert_eq!(stream.joined, [Join { gone: 2, into: 1 }]);
        assert!(stream.tracker.knows(1) && !stream.tracker.knows(2));
        // Apart again they are parts of the one.
        assert_eq!(stream.push(&[first, second]), [Some(1), Some(1)]);
    }
}

#[test]
fn many_things_become_one_at_once() {
    let mut stream = Stream::default();
    let many: Vec<Region> = (0..5).map(|i| region(i * 12, 0, 10, 10)).collect();
    stream.push(&many);
    assert_eq!(stream.push(&[region(0, 0, 58, 10)]), [Some(1)]);
    let mut known = vec![1, 2, 3, 4, 5];
    for join in &stream.joined {
        assert!(join.into < join.gone && known.contains(&join.into));
        known.retain(|id| *id != join.gone);
    }
    assert_eq!(known, [1]);
}

#[test]
fn a_thing_that_fades_goes_on_with_a_weak_region() {
    let mut stream = Stream::default();
    stream.push(&[square(0, 0)]);
    let (here, elsewhere) = (square(4, 4), square(100, 0));
    let tracked = stream.push_with(&[square(200, 0)], || vec![elsewhere, here]);
    assert_eq!(
        tracked.regions,
        [(square(200, 0), Some(2)), (here, Some(1))]
    );
    // With nothing at all in sight both are gone.
    assert!(stream.push(&[]).is_empty());
    assert_eq!(stream.push(&[square(0, 0)]), [Some(3)]);
}

#[test]
fn a_weak_region_around_a_strong_one_is_none_of_a_faded_thing() {
    let mut stream = Stream::held_for(5);
    stream.push(&[square(0, 0), square(22, 0)]);
    let around = region(0, 0, 42, 20);
    let tracked = stream.push_with(&[square(22, 0)], || vec![around]);
    assert_eq!(tracked.regions, [(square(22, 0), Some(2))]);
}

#[test]
fn weak_regions_are_asked_for_only_where_something_is_missing() {
    let mut stream = Stream::held_for(5);
    let refuse = || -> Vec<Region> { panic!("asked for weak regions") };
    stream.push_with(&[], refuse);
    stream.push_with(&[square(0, 0)], refuse);
    stream.push_with(&[square(5, 0), square(100, 0)], refuse);
    let mut is_asked = false;
    stream.push_with(&[square(100, 0)], || {
        is_asked = true;
        Vec::new()
    });
    assert!(is_asked);
}

/// `count` regions far from each other.
fn scattered(count: u32, shift: u32) -> Vec<Region> {
    let at = |i: u32| Region {
        score: (i + 1) as f32 / (count + 1) as f32,
        ..region(shift + i % 100 * 200, i / 100 * 100, 10, 10)
    };
    (0..count).map(at).collect()
}

#[test]
fn of_very_many_regions_the_strongest_have_tracks() {
    let mut stream = Stream::held_for(5);
    for _ in 0..2 {
        let tracks = stream.push(&scattered(5000, 0));
        let (rest, strongest) = tracks.split_at(5000 - MOST_TRACKS);
        assert!(rest.iter().all(Option::is_none));
        assert!(strongest.iter().all(Option::is_some));
    }
}

#[test]
fn what_finds_no_room_has_no_track_until_others_are_gone() {
    let mut stream = Stream::held_for(1);
    let full = MOST_TRACKS as u32;
    stream.push(&scattered(full, 0));
    assert!(
        stream
            .push(&scattered(full, 100))
            .iter()
            .all(Option::is_none)
    );
    stream.push(&[]);
    assert!(
        stream
            .push(&scattered(full, 100))
            .iter()
            .all(Option::is_some)
    );
}

#[test]
fn numbers_are_not_used_again() {
    let mut stream = Stream::held_for(5);
    stream.push(&[square(0, 0)]);
    stream.tracker.reset();
    assert!(!stream.tracker.knows(1));
    assert_eq!(stream.push(&[square(0, 0)]), [Some(2)]);
}

#[test]
fn boxes_of_any_size_and_any_time_are_taken() {
    let mut stream = Stream::held_for(u64::MAX / FRAME);
    let odd = [
        region(u32::MAX, u32::MAX, u32::MAX, u32::MAX),
        region(0, 0, 0, 0),
        Region {
            score: f32::NAN,
            ..square(0, 0)
        },
    ];
    for time in [0, u64::MAX, 0, 0] {
        let tracked = stream.tracker.push(time, u64::MAX, odd.to_vec(), Vec::new);
        assert_eq!(tracked.regions.len(), 3);
    }
}

fn regions() -> impl Strategy<Value = Vec<Region>> {
    let one =
        (0u32..150, 0u32..150, 1u32..60, 1u32..60, 0.0f32..1.0).prop_map(|(x, y, w, h, score)| {
            Region {
                score,
                ..region(x, y, w, h)
            }
        });
    prop::collection::vec(one, 0..7)
}

proptest! {
    #[test]
    fn tracks_hold_together(
        frames in prop::collection::vec((0u64..3, regions(), regions()), 1..40),
        held_frames in 0u64..4,
    ) {
        let hold = held_frames * FRAME;
        let (mut tracker, mut twin) = (Tracker::default(), Tracker::default());
        let (mut time, mut newest) = (0, 0);
        let mut gone = Vec::new();
        for (elapsed, strong, weak) in frames {
            time += elapsed * FRAME;
            let tracked = tracker.push(time, hold, strong.clone(), || weak.clone());
            prop_assert_eq!(&tracked, &twin.push(time, hold, strong.clone(), || weak.clone()));

            let given: Vec<Region> = tracked.regions.iter().map(|(region, _)| *region).collect();
            prop_assert_eq!(&given[..strong.len()], &strong[..]);
            let mut added = given[strong.len()..].iter();
            prop_assert!(added.all(|region| weak.contains(region)));

            gone.extend(tracked.joined.iter().map(|join| join.gone));
            for (index, (_, track)) in tracked.regions.iter().enumerate() {
                let id = track.unwrap();
                prop_assert!(tracker.knows(id) && !gone.contains(&id));
                prop_assert!(index < strong.len() || id <= newest, "a weak region is a new track");
            }
            newest = tracked.regions.iter().filter_map(|(_, track)| *track).fold(newest, u64::max);
            gone.extend((1..=newest).filter(|id| !tracker.knows(*id)));
        }
    }
}

#[test]
fn what_moves_with_the_whole_picture_keeps_its_track_however_the_camera_turns() {
    // To the right, then back, further in a frame than a thing is wide.
    let steps = [0, 70, 75, -60, -80, 65, 0, -70];
    let tracks = |is_told: bool| {
        let mut stream = Stream::held_for(2);
        let mut x = 300_i32;
        let tracks = steps.map(|step| {
            x += step;
            if is_told {
                stream.tracker.shift([f64::from(step), 0.0]);
            }
            stream.push(&[square(x as u32, 100), square(x as u32 + 140, 160)])
        });
        tracks.to_vec()
    };
    let told = tracks(true);
    assert!(
        told.iter().all(|tracks| *tracks == [Some(1), Some(2)]),
        "{told:?}"
    );
    assert!(
        tracks(false)
            .iter()
            .any(|tracks| *tracks != [Some(1), Some(2)])
    );
}

#[test]
fn a_thing_that_is_out_of_sight_moves_on_with_the_picture() {
    let mut stream = Stream::held_for(10);
    stream.push(&[square(100, 100)]);
    for _ in 0..4 {
        stream.tracker.shift([0.0, 50.0]);
        stream.push(&[]);
    }
    assert_eq!(stream.push(&[square(100, 300)]), [Some(1)]);
}
