//! What the property `stats` tells: frames and why some were not scored, batches, and how long each stage takes.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use acdclip_model::Memory;

/// Measurements of a stage that percentiles are of.
const WINDOW: usize = 1024;

/// Where the time of a frame goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// From the frame to what the network reads.
    Prepare,
    /// Waiting for the model's worker.
    Queue,
    /// The network, for the whole batch.
    Network,
    /// From what the network found to what is told of the frame.
    Judge,
    /// Drawing.
    Draw,
    /// From a frame's coming to its leaving.
    Passage,
    /// From the frame that was measured to the one that carries the result, in stream time.
    Age,
    /// From a frame's coming to the leaving of the first one that shows what was found in it: that frame itself where frames wait for their
    /// scores, a later one where they pass at once.
    FrameToPixel,
}

const STAGES: [(Stage, &str); 8] = [
    (Stage::Prepare, "prepare"),
    (Stage::Queue, "queue"),
    (Stage::Network, "network"),
    (Stage::Judge, "judge"),
    (Stage::Draw, "draw"),
    (Stage::Passage, "passage"),
    (Stage::Age, "age"),
    (Stage::FrameToPixel, "frame-to-pixel"),
];

/// Why a frame was not scored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Skipped {
    /// It was not its turn.
    Interval,
    /// The one before was still being scored.
    Busy,
    /// It was late already.
    Late,
    /// Scoring had failed, and was not tried again yet.
    Failing,
    /// Nothing can be seen in it.
    Poor,
    /// It lies outside the segment: it is decoded or read on the way to what is shown, and not shown itself.
    Outside,
}

const REASONS: [(Skipped, &str); 6] = [
    (Skipped::Interval, "skipped-interval"),
    (Skipped::Busy, "skipped-busy"),
    (Skipped::Late, "skipped-late"),
    (Skipped::Failing, "skipped-failing"),
    (Skipped::Poor, "skipped-quality"),
    (Skipped::Outside, "skipped-outside"),
];

/// The newest measurements.
#[derive(Debug, Default, Clone)]
struct Recent(VecDeque<u64>);

impl Recent {
    fn push(&mut self, value: u64) {
        if self.0.len() == WINDOW {
            self.0.pop_front();
        }
        self.0.push_back(value);
    }

    /// The smallest measurement that `share` of them do not exceed; 0 where there is none.
    fn quantiles(&self, shares: [f64; 3]) -> [u64; 3] {
        let mut sorted: Vec<_> = self.0.iter().copied().collect();
        sorted.sort_unstable();
        shares.map(|share| {
            let rank = (sorted.len() as f64 * share).ceil() as usize;
            sorted.get(rank.saturating_sub(1)).copied().unwrap_or(0)
        })
    }
}

/// Counts and times of one run of the element.
#[derive(Debug, Default, Clone)]
pub(crate) struct Stats {
    pub(crate) model: String,
    pub(crate) device: String,
    pub(crate) precision: String,
    pub(crate) class: String,
    pub(crate) mode: &'static str,
    pub(crate) events: u64,
    pub(crate) strip_lines: u64,
    pub(crate) strip_breaks: u64,
    frames: u64,
    scored: u64,
    late: u64,
    failed: u64,
    skipped: [u64; REASONS.len()],
    stages: [Recent; STAGES.len()],
    last: Duration,
    total: Duration,
    max: Duration,
    largest_batch: u64,
    batched: u64,
    first_frame: Option<Instant>,
    last_frame: Option<Instant>,
}

impl Stats {
    /// A frame has come.
    pub(crate) fn frame(&mut self, late: bool) {
        let now = Instant::now();
        self.first_frame.get_or_insert(now);
        self.last_frame = Some(now);
        self.frames += 1;
        self.late += u64::from(late);
    }

    /// A frame was not scored.
    pub(crate) fn skip(&mut self, why: Skipped) {
        self.skipped[why as usize] += 1;
    }

    /// A frame could not be scored.
    pub(crate) fn fail(&mut self) {
        self.failed += 1;
    }

    /// A frame was scored at that cost, in a batch of so many.
    pub(crate) fn score(&mut self, cost: Duration, batch: usize) {
        self.scored += 1;
        self.last = cost;
        self.total += cost;
        self.max = self.max.max(cost);
        self.largest_batch = self.largest_batch.max(batch as u64);
        self.batched += batch as u64;
    }

    /// A stage took so long.
    pub(crate) fn time(&mut self, stage: Stage, took: Duration) {
        self.stages[stage as usize].push(took.as_micros() as u64);
    }

    /// Frames a second between the first and the last.
    fn fps(&self) -> f64 {
        let span = self.first_frame.zip(self.last_frame);
        let seconds = span.map_or(0.0, |(first, last)| (last - first).as_secs_f64());
        if seconds > 0.0 {
            (self.frames - 1) as f64 / seconds
        } else {
            0.0
        }
    }

    /// All of it, and the memory of the model's device. Times are in microseconds, memory is in bytes.
    pub(crate) fn structure(&self, memory: Option<Memory>) -> gst::Structure {
        let scored = self.scored.max(1);
        let mut structure = gst::Structure::builder("acdclip-stats")
            .field("model", &self.model)
            .field("device", &self.device)
            .field("precision", &self.precision)
            .field("class-name", &self.class)
            .field("mode", self.mode)
            .field("frames", self.frames)
            .field("scored", self.scored)
            .field("late", self.late)
            .field("failed", self.failed)
            .field("events", self.events)
            .field("strip-lines", self.strip_lines)
            .field("strip-breaks", self.strip_breaks)
            .field("last-latency-us", self.last.as_micros() as u64)
            .field("mean-latency-us", self.total.as_micros() as u64 / scored)
            .field("max-latency-us", self.max.as_micros() as u64)
            .field("mean-batch", self.batched as f64 / scored as f64)
            .field("largest-batch", self.largest_batch)
            .field("fps", self.fps())
            .build();
        if let Some(memory) = memory {
            structure.set("device-memory-used", memory.used);
            structure.set("device-memory-total", memory.total);
        }
        for (reason, name) in REASONS {
            structure.set(name, self.skipped[reason as usize]);
        }
        for (stage, name) in STAGES {
            let [p50, p95, p99] = self.stages[stage as usize].quantiles([0.5, 0.95, 0.99]);
            structure.set(format!("{name}-p50-us"), p50);
            structure.set(format!("{name}-p95-us"), p95);
            structure.set(format!("{name}-p99-us"), p99);
        }
        structure
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn percentiles_are_of_the_recent_past() {
        gst::init().unwrap();
        let mut stats = Stats::default();
        (0..5000).for_each(|_| stats.time(Stage::Draw, Duration::from_secs(9)));
        (1..=WINDOW as u64).for_each(|n| stats.time(Stage::Draw, Duration::from_micros(n)));
        let structure = stats.structure(None);
        let at = |name| structure.get::<u64>(name).unwrap();
        assert_eq!(at("draw-p50-us"), 512);
        assert_eq!(at("draw-p99-us"), 1014);
        assert_eq!(at("queue-p99-us"), 0);
    }

    #[test]
    fn every_frame_is_accounted_for() {
        gst::init().unwrap();
        let mut stats = Stats::default();
        (0..6).for_each(|n| stats.frame(n == 3));
        stats.score(Duration::from_micros(30), 1);
        stats.score(Duration::from_micros(10), 3);
        stats.fail();
        for why in [Skipped::Late, Skipped::Busy, Skipped::Busy] {
            stats.skip(why);
        }
        let structure = stats.structure(None);
        let at = |name: &str| structure.get::<u64>(name).unwrap();
        let skipped: u64 = REASONS.iter().map(|(_, name)| at(name)).sum();
        assert_eq!(at("frames"), at("scored") + at("failed") + skipped);
        assert_eq!(
            (at("late"), at("skipped-late"), at("skipped-busy")),
            (1, 1, 2)
        );
        assert_eq!((at("mean-latency-us"), at("max-latency-us")), (20, 30));
        assert_eq!(structure.get::<f64>("mean-batch").unwrap(), 2.0);
    }
}
