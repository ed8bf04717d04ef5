//! What one sees of a scan while it goes on: a bar on a terminal, a line now and then elsewhere. All on standard error.

use std::{
    cell::Cell,
    io::{IsTerminal, Write},
    path::Path,
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};

/// Between two lines where there is no terminal.
const BETWEEN_LINES: Duration = Duration::from_secs(15);

/// A scan's bar or lines.
pub(super) struct Progress {
    bar: Option<ProgressBar>,
    began: Cell<Instant>,
    told: Cell<Instant>,
    total: Cell<Option<u64>>,
}

impl Progress {
    pub(super) fn new() -> Self {
        let now = Cell::new(Instant::now());
        Self {
            bar: std::io::stderr().is_terminal().then(ProgressBar::no_length),
            began: now.clone(),
            told: now,
            total: Cell::new(None),
        }
    }

    /// A strip begins, of so many lines where that is known.
    pub(super) fn begin(&self, path: &Path, total: Option<u64>) {
        self.began.set(Instant::now());
        self.total.set(total);
        match &self.bar {
            Some(bar) => {
                let template = match total {
                    Some(_) => "{bar:24} {pos}/{len} lines, {per_sec}, {eta} left, {wide_msg}",
                    None => "{spinner} {pos} lines, {per_sec}, {wide_msg}",
                };
                let style = ProgressStyle::with_template(template);
                bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
                bar.reset();
                match total {
                    Some(total) => bar.set_length(total),
                    None => bar.unset_length(),
                }
                bar.println(path.display().to_string());
            }
            None => line(&path.display().to_string()),
        }
    }

    /// Lines before this one are done, and so many defects have been found, those of earlier strips among them.
    pub(super) fn reach(&self, lines: u64, defects: u64) {
        match &self.bar {
            Some(bar) => {
                bar.set_position(lines);
                bar.set_message(format!("{defects} defects"));
            }
            None if self.told.get().elapsed() >= BETWEEN_LINES => {
                self.told.set(Instant::now());
                let pace = lines as f64 / self.began.get().elapsed().as_secs_f64().max(1e-9);
                let of = self.total.get();
                let of = of.map_or(String::new(), |total| format!("/{total}"));
                line(&format!(
                    "{lines}{of} lines, {pace:.0} lines/s, {defects} defects"
                ));
            }
            None => {}
        }
    }

    /// Takes the bar away.
    pub(super) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// The scan goes on where nobody listens.
fn line(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}
