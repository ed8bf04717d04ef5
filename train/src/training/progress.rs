//! What one sees of a run while it goes on: a bar on a terminal, a line now and then elsewhere. All on standard error.

use std::{
    io::{IsTerminal, Write},
    time::{Duration, Instant},
};

use indicatif::{HumanDuration, ProgressBar, ProgressStyle};

use super::loss::Parts;

/// Between two lines where there is no terminal.
const BETWEEN_LINES: Duration = Duration::from_secs(15);

/// Over how many steps the pace is averaged, about.
const MEMORY: f64 = 20.0;

/// How fast it goes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Speed {
    /// Seconds since the step before.
    pub(crate) seconds: f64,
    /// Pictures a second, averaged over the last steps.
    pub(crate) images_per_second: f64,
}

/// A run's bar or lines.
pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    done: u64,
    total: u64,
    epochs: usize,
    last_step: Instant,
    last_line: Option<Instant>,
    /// Seconds a picture.
    pace: Option<f64>,
    /// Pictures a batch.
    batch: f64,
}

impl Progress {
    /// For `total` batches in `epochs` epochs, of which `done` are done.
    pub(crate) fn new(total: u64, done: u64, epochs: usize) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(total).with_position(done);
            let style = "{bar:24} {pos}/{len} {wide_msg}";
            bar.set_style(
                ProgressStyle::with_template(style)
                    .unwrap_or_else(|_| ProgressStyle::default_bar()),
            );
            bar
        });
        Self {
            bar,
            done,
            total,
            epochs,
            last_step: Instant::now(),
            last_line: None,
            pace: None,
            batch: 1.0,
        }
    }

    /// A step of so many batches and pictures is done.
    pub(crate) fn step(
        &mut self,
        epoch: usize,
        [batches, images]: [usize; 2],
        parts: &Parts,
    ) -> Speed {
        let seconds = self.last_step.elapsed().as_secs_f64();
        self.last_step = Instant::now();
        self.done += batches as u64;
        let images = images.max(1) as f64;
        let follow = |before: Option<f64>, now: f64| match before {
            Some(before) => before + (now - before) / MEMORY,
            None => now,
        };
        let a_batch = images / batches.max(1) as f64;
        self.batch = follow(Some(self.batch).filter(|_| self.pace.is_some()), a_batch);
        let pace = follow(self.pace, seconds / images);
        self.pace = Some(pace);
        let text = self.text(epoch, pace, parts);
        match &self.bar {
            Some(bar) => {
                bar.set_position(self.done);
                bar.set_message(text);
            }
            None if self
                .last_line
                .is_none_or(|at| at.elapsed() >= BETWEEN_LINES) =>
            {
                self.last_line = Some(Instant::now());
                self.say(&format!("{}/{} {text}", self.done, self.total));
            }
            None => {}
        }
        Speed {
            seconds,
            images_per_second: 1.0 / pace.max(1e-9),
        }
    }

    fn text(&self, epoch: usize, pace: f64, parts: &Parts) -> String {
        let left = self.total.saturating_sub(self.done) as f64 * self.batch * pace;
        let left = Duration::try_from_secs_f64(left).unwrap_or(Duration::MAX);
        let parts = named(parts);
        format!(
            "epoch {}/{} {parts} {:.1} images/s, {:#} left",
            epoch + 1,
            self.epochs,
            1.0 / pace.max(1e-9),
            HumanDuration(left)
        )
    }

    /// A line of its own, above the bar where there is one.
    pub(crate) fn say(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.println(line),
            None => {
                // Training goes on where nobody listens.
                let _ = writeln!(std::io::stderr(), "{line}");
            }
        }
    }

    /// The time that passed since the last step is none of a step's: something else was done.
    pub(crate) fn pause(&mut self) {
        self.last_step = Instant::now();
    }

    /// Takes the bar away.
    pub(crate) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// The loss and its parts with their names.
pub(crate) fn named(parts: &Parts) -> String {
    let each = Parts::NAMES.iter().zip(parts.0);
    let each: Vec<_> = each
        .map(|(name, part)| format!("{name} {part:.4}"))
        .collect();
    each.join(" ")
}
