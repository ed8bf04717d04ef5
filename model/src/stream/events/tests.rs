use super::*;
use EventKind::{Begin, End, Peak};
use proptest::prelude::*;

/// Frames are this far apart.
const FRAME: u64 = 40_000_000;

fn region(x: u32, score: f32) -> Region {
    Region {
        x,
        y: 0,
        w: 20,
        h: 20,
        score,
        area: 400,
        centroid: [0.0; 2],
        event_id: None,
        place: None,
    }
}

fn rules(min_duration: u64, hold: u64) -> Rules {
    Rules {
        score: Levels {
            raise: 0.6,
            release: 0.4,
        },
        durations: Durations {
            min_duration: min_duration * FRAME,
            hold: hold * FRAME,
        },
    }
}

/// Pushes frame after frame.
struct Stream {
    tracker: EventTracker,
    rules: Rules,
    frame: u64,
    events: Vec<Event>,
}

impl Stream {
    /// Durations in frames.
    fn new(min_duration: u64, hold: u64) -> Self {
        Self {
            tracker: EventTracker::default(),
            rules: rules(min_duration, hold),
            frame: 0,
            events: Vec::new(),
        }
    }

    fn push(&mut self, score: f32, regions: &[Region]) -> Passage {
        let at = Moment {
            time: self.frame * FRAME,
            pts: Some(1000 + self.frame * FRAME),
            frame: self.frame,
            score,
        };
        self.frame += 1;
        let passage = self
            .tracker
            .push(at, regions.to_vec(), Vec::new, &self.rules);
        self.events.extend(&passage.events);
        passage
    }

    fn finish(&mut self) {
        self.events.extend(self.tracker.finish());
    }

    /// What was told since the last call: kind, event, frame.
    fn told(&mut self) -> Vec<(EventKind, u64, u64)> {
        let told = self.events.drain(..);
        told.map(|event| (event.kind, event.id, event.at.frame))
            .collect()
    }
}

fn ids(passage: &Passage) -> Vec<Option<u64>> {
    passage
        .regions
        .iter()
        .map(|region| region.event_id)
        .collect()
}

#[test]
fn a_run_begins_peaks_and_ends_once() {
    let mut stream = Stream::new(0, 0);
    for score in [0.1, 0.6, 0.9, 0.7, 0.2, 0.7] {
        let passage = stream.push(score, &[]);
        assert_eq!(passage.anomalous, score >= 0.6);
        assert_eq!(passage.event_id.is_some(), passage.anomalous);
    }
    stream.finish();
    let frames: Vec<u64> = stream.events.iter().map(|event| event.frames).collect();
    assert_eq!(frames, [1, 3, 3, 1, 1, 1]);
    assert_eq!(stream.events[2].since, Some(1000 + FRAME));
    let first = [(Begin, 1, 1), (Peak, 1, 2), (End, 1, 3)];
    let second = [(Begin, 2, 5), (Peak, 2, 5), (End, 2, 5)];
    assert_eq!(stream.told(), [first, second].concat());
    assert_eq!(
        (stream.tracker.count(), stream.tracker.current()),
        (2, None)
    );
}

#[test]
fn a_normal_stream_has_no_events_whatever_its_regions() {
    let mut stream = Stream::new(0, 0);
    for score in [0.1, 0.59, f32::NAN] {
        let passage = stream.push(score, &[region(0, 0.9)]);
        assert!(!passage.anomalous && ids(&passage) == [None]);
    }
    stream.finish();
    assert!(stream.told().is_empty());
}

#[test]
fn each_thing_is_an_event_of_its_own() {
    let mut stream = Stream::new(0, 0);
    let both = [region(0, 0.9), region(100, 0.7)];
    assert_eq!(ids(&stream.push(0.8, &both)), [Some(1), Some(2)]);
    let third = [both[0], both[1], region(200, 0.5)];
    assert_eq!(ids(&stream.push(0.8, &third)), [Some(1), Some(2), Some(3)]);
    let passage = stream.push(0.8, &both[1..]);
    assert_eq!((ids(&passage), passage.event_id), (vec![Some(2)], Some(2)));
    stream.push(0.1, &both);
    let begun = [(Begin, 1, 0), (Begin, 2, 0), (Begin, 3, 1)];
    let gone = [(Peak, 1, 0), (End, 1, 1), (Peak, 3, 1), (End, 3, 1)];
    let cleared = [(Peak, 2, 0), (End, 2, 2)];
    assert_eq!(stream.told(), [&begun[..], &gone, &cleared].concat());
}

#[test]
fn a_begin_is_told_late_and_says_when_it_was() {
    let mut stream = Stream::new(3, 0);
    for _ in 0..3 {
        let passage = stream.push(0.7, &[region(0, 0.7)]);
        assert!(!passage.anomalous && passage.events.is_empty());
        assert_eq!(ids(&passage), [None]);
    }
    let passage = stream.push(0.5, &[region(0, 0.7)]);
    assert!(passage.anomalous);
    assert_eq!(ids(&passage), [Some(1)]);
    assert_eq!(stream.told(), [(Begin, 1, 0)]);
    assert_eq!(passage.events[0].frames, 4);
    assert_eq!(passage.events[0].region.map(|region| region.x), Some(0));
}

#[test]
fn what_was_seen_before_the_begin_was_told_counts() {
    let mut stream = Stream::new(2, 0);
    for worst in [0.9, 0.5, 0.6] {
        stream.push(0.7, &[region(0, worst)]);
    }
    stream.push(0.1, &[]);
    let worst: Vec<f32> = stream
        .events
        .iter()
        .filter_map(|event| Some(event.region?.score))
        .collect();
    assert_eq!(worst, [0.9, 0.9, 0.6]);
    assert_eq!(stream.told(), [(Begin, 1, 0), (Peak, 1, 0), (End, 1, 2)]);
}

#[test]
fn a_run_that_is_too_short_is_never_told() {
    let mut stream = Stream::new(3, 5);
    for score in [0.7, 0.7, 0.7, 0.3, 0.7, 0.7] {
        assert!(!stream.push(score, &[region(0, 0.7)]).anomalous);
    }
    stream.finish();
    assert!(stream.told().is_empty());
}

#[test]
fn a_further_thing_counts_once_it_has_been_in_sight_for_long_enough() {
    let mut stream = Stream::new(2, 0);
    let (old, new) = (region(0, 0.7), region(100, 0.7));
    for _ in 0..3 {
        stream.push(0.7, &[old]);
    }
    assert_eq!(stream.told(), [(Begin, 1, 0)]);
    // A flash, out of sight in between.
    for regions in [&[old, new][..], &[old], &[old, new], &[old, new]] {
        assert!(
            ids(&stream.push(0.7, regions))
                .iter()
                .skip(1)
                .all(Option::is_none)
        );
    }
    assert!(stream.told().is_empty());
    assert_eq!(ids(&stream.push(0.7, &[old, new])), [Some(1), Some(2)]);
    assert_eq!(stream.told(), [(Begin, 2, 5)]);
}

#[test]
fn an_alarm_without_a_region_is_taken_over_by_the_next_thing() {
    let mut stream = Stream::new(0, 0);
    let (first, second) = (region(0, 0.3), region(100, 0.2));
    assert_eq!(stream.push(0.9, &[]).event_id, Some(1));
    assert_eq!(ids(&stream.push(0.7, &[first])), [Some(1)]);
    assert_eq!(stream.push(0.7, &[]).event_id, Some(1));
    assert_eq!(ids(&stream.push(0.7, &[second])), [Some(1)]);
    // From one to another without a gap.
    assert_eq!(ids(&stream.push(0.7, &[first])), [Some(1)]);
    stream.push(0.1, &[]);
    // The frame with the highest score shows no region.
    assert_eq!(
        stream.events[1].region.map(|region| region.score),
        Some(0.3)
    );
    assert_eq!(stream.told(), [(Begin, 1, 0), (Peak, 1, 1), (End, 1, 4)]);
}

#[test]
fn the_peak_is_where_the_region_is_worst() {
    let mut stream = Stream::new(0, 0);
    for (score, worst) in [(0.7, 0.5), (0.95, 0.6), (0.7, 0.9), (0.9, 0.9), (0.99, 0.8)] {
        stream.push(score, &[region(0, worst)]);
    }
    stream.push(0.1, &[]);
    assert_eq!(stream.told(), [(Begin, 1, 0), (Peak, 1, 2), (End, 1, 4)]);
}

#[test]
fn a_gap_no_longer_than_the_hold_time_is_bridged() {
    let mut stream = Stream::new(0, 2);
    let both = [region(0, 0.7), region(100, 0.7)];
    stream.push(0.7, &both);
    stream.push(0.7, &both[..1]);
    let passage = stream.push(0.1, &both[..1]);
    assert!(passage.anomalous);
    assert_eq!(ids(&passage), [Some(1)]);
    assert_eq!(ids(&stream.push(0.7, &both)), [Some(1), Some(2)]);
    for _ in 0..3 {
        stream.push(0.1, &both);
    }
    let begun = [(Begin, 1, 0), (Begin, 2, 0)];
    let ended = [(Peak, 1, 0), (End, 1, 3), (Peak, 2, 0), (End, 2, 3)];
    // The frame below the release level is none of theirs.
    assert_eq!(stream.events[3].frames, 3);
    assert_eq!(stream.told(), [&begun[..], &ended].concat());
}

#[test]
fn a_thing_that_is_gone_ends_its_event_after_the_hold_time() {
    let mut stream = Stream::new(0, 2);
    let both = [region(0, 0.7), region(100, 0.7)];
    stream.push(0.7, &both);
    for _ in 0..2 {
        assert!(stream.push(0.7, &both[1..]).events.is_empty());
    }
    stream.told();
    stream.push(0.7, &both[1..]);
    assert_eq!(stream.told(), [(Peak, 1, 0), (End, 1, 0)]);
    assert_eq!(stream.tracker.current(), Some(2));
}

#[test]
fn of_things_that_become_one_the_older_event_goes_on() {
    let mut stream = Stream::new(0, 0);
    stream.push(0.7, &[region(0, 0.7), region(24, 0.8)]);
    let one = Region {
        w: 44,
        ..region(0, 0.8)
    };
    assert_eq!(ids(&stream.push(0.7, &[one])), [Some(1)]);
    let begun = [(Begin, 1, 0), (Begin, 2, 0)];
    assert_eq!(
        stream.told(),
        [&begun[..], &[(Peak, 2, 0), (End, 2, 0)]].concat()
    );
}

#[test]
fn a_faded_thing_keeps_its_event_by_a_weak_region() {
    let mut tracker = EventTracker::default();
    let at = |frame| Moment {
        time: frame * FRAME,
        pts: None,
        frame,
        score: 0.7,
    };
    let both = vec![region(0, 0.7), region(100, 0.7)];
    tracker.push(at(0), both.clone(), Vec::new, &rules(0, 0));
    let weak = region(4, 0.4);
    let passage = tracker.push(at(1), vec![both[1]], || vec![weak], &rules(0, 0));
    assert!(passage.events.is_empty());
    assert_eq!(ids(&passage), [Some(2), Some(1)]);
    assert_eq!(passage.regions[1].x, weak.x);
}

#[test]
fn numbers_go_on_after_a_seam() {
    let mut stream = Stream::new(0, 100);
    stream.push(0.7, &[region(0, 0.7), region(100, 0.7)]);
    stream.finish();
    stream.told();
    // Neither the alarm nor the things before count any more.
    assert!(!stream.push(0.5, &[region(0, 0.7)]).anomalous);
    assert_eq!(ids(&stream.push(0.7, &[region(0, 0.7)])), [Some(3)]);
    assert_eq!(stream.told(), [(Begin, 3, 2)]);
}

#[test]
fn time_that_steps_back_keeps_nothing_open() {
    let mut tracker = EventTracker::default();
    let hour = 3_600_000_000_000;
    let mut push = |time, score| {
        let at = Moment {
            time,
            pts: None,
            frame: 0,
            score,
        };
        tracker
            .push(at, Vec::new(), Vec::new, &rules(0, 2))
            .anomalous
    };
    assert!(push(hour, 0.7));
    assert!(push(0, 0.1));
    assert!(push(2 * FRAME, 0.1));
    assert!(!push(3 * FRAME, 0.1));
}

#[derive(Debug, Clone)]
struct Input {
    elapsed: i64,
    score: f32,
    strong: Vec<Region>,
    weak: Vec<Region>,
    is_last: bool,
}

fn inputs(most_regions: usize) -> impl Strategy<Value = Vec<Input>> {
    let one =
        (0u32..120, 0u32..60, 1u32..50, 1u32..50, 0.0f32..1.0).prop_map(|(x, y, w, h, score)| {
            Region {
                y,
                w,
                h,
                ..region(x, score)
            }
        });
    let list = move || prop::collection::vec(one.clone(), 0..=most_regions);
    let frame = FRAME as i64;
    let elapsed = prop_oneof![4 => Just(frame), 4 => 0..2 * frame, 1 => -2 * frame..0];
    let score = prop_oneof![0.0f32..1.0, 0.4f32..0.7, Just(f32::NAN)];
    let is_last = prop::bool::weighted(0.03);
    let frame = (elapsed, score, list(), list(), is_last).prop_map(
        |(elapsed, score, strong, weak, is_last)| Input {
            elapsed,
            score,
            strong,
            weak,
            is_last,
        },
    );
    prop::collection::vec(frame, 1..60)
}

fn moments(inputs: &[Input]) -> Vec<Moment> {
    let mut time = 10 * FRAME as i64;
    let moment = |(frame, input): (usize, &Input)| {
        time += input.elapsed;
        Moment {
            time: time.max(0) as u64,
            pts: None,
            frame: frame as u64,
            score: input.score,
        }
    };
    inputs.iter().enumerate().map(moment).collect()
}

/// What a listener keeps: the open events and the last number.
#[derive(Default)]
struct Listener {
    open: BTreeMap<u64, Event>,
    peak: Option<Event>,
    newest: u64,
}

impl Listener {
    fn hear(&mut self, event: &Event) -> Result<(), TestCaseError> {
        let order = [
            event.region.and_then(|region| region.event_id),
            Some(event.id),
        ];
        prop_assert!(event.region.is_none() || order[0] == order[1]);
        match event.kind {
            Begin => {
                prop_assert_eq!(self.peak, None);
                prop_assert_eq!(event.id, self.newest + 1);
                self.newest = event.id;
                self.open.insert(event.id, *event);
            }
            Peak => {
                prop_assert_eq!(self.peak, None);
                prop_assert!(self.open.contains_key(&event.id));
                self.peak = Some(*event);
            }
            End => {
                let peak = self.peak.take();
                let begin = self.open.remove(&event.id);
                let (Some(begin), Some(peak)) = (begin, peak) else {
                    return Err(TestCaseError::fail("an end without begin and peak"));
                };
                prop_assert_eq!(peak.id, event.id);
                let frames = [begin.at.frame, peak.at.frame, event.at.frame];
                prop_assert!(frames.is_sorted(), "{:?}", frames);
                prop_assert!(begin.frames <= event.frames);
                prop_assert!(event.frames <= frames[2] - frames[0] + 1);
            }
        }
        Ok(())
    }
}

proptest! {
    #[test]
    fn an_alarm_stands_exactly_while_an_event_is_open(
        inputs in inputs(5),
        (min_duration, hold) in (0u64..5, 0u64..5),
    ) {
        let rules = rules(min_duration, hold);
        let mut tracker = EventTracker::default();
        let (mut listener, mut alarm, mut clock) = <(Listener, Alarm, Clock)>::default();
        for (input, at) in inputs.iter().zip(moments(&inputs)) {
            let Input { strong, weak, .. } = input;
            let passage = tracker.push(at, strong.clone(), || weak.clone(), &rules);
            let state = alarm.push(clock.advance(at.time), at.score, rules.score, rules.durations);
            for event in &passage.events {
                listener.hear(event)?;
            }
            prop_assert_eq!(listener.peak, None);
            prop_assert_eq!(passage.anomalous, state.stands());
            prop_assert_eq!(passage.anomalous, !listener.open.is_empty());
            prop_assert_eq!(passage.event_id, listener.open.keys().next().copied());
            prop_assert_eq!(tracker.count(), listener.newest);
            prop_assert!(ids(&passage).iter().flatten().all(|id| listener.open.contains_key(id)));
            if input.is_last {
                for event in tracker.finish() {
                    listener.hear(&event)?;
                }
                prop_assert!(listener.open.is_empty() && listener.peak.is_none());
                alarm.reset();
                clock = Clock::default();
            }
        }
    }

    #[test]
    fn with_one_level_and_no_durations_events_are_maximal_runs(inputs in inputs(1)) {
        let rules = Rules {
            score: Levels { raise: 0.5, release: 0.5 },
            durations: Durations::default(),
        };
        let mut tracker = EventTracker::default();
        let mut told = Vec::new();
        let moments = moments(&inputs);
        for (Input { strong, .. }, at) in inputs.iter().zip(&moments) {
            let passage = tracker.push(*at, strong.clone(), || strong.clone(), &rules);
            prop_assert_eq!(passage.anomalous, at.score >= 0.5);
            told.extend(passage.events);
        }
        told.extend(tracker.finish());
        let told: Vec<_> = told.iter().map(|e| (e.kind, e.id, e.at.frame, e.frames)).collect();

        let mut expected = Vec::new();
        let frames: Vec<usize> = (0..moments.len()).collect();
        let runs = frames
            .chunk_by(|a, b| (moments[*a].score >= 0.5) == (moments[*b].score >= 0.5))
            .filter(|run| moments[run[0]].score >= 0.5);
        for (id, run) in (1..).zip(runs) {
            let rank = |frame: usize| match inputs[frame].strong.first() {
                Some(region) => (1, region.score),
                None => (0, moments[frame].score),
            };
            let (first, last) = (run[0] as u64, run[run.len() - 1] as u64);
            let worst = run.iter().fold(run[0], |worst, frame| {
                if rank(*frame) > rank(worst) { *frame } else { worst }
            });
            expected.push((Begin, id, first, 1));
            expected.push((Peak, id, worst as u64, run.len() as u64));
            expected.push((End, id, last, run.len() as u64));
        }
        prop_assert_eq!(told, expected);
    }
}
