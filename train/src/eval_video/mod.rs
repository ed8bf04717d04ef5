//! `acdclip eval-video`: how good a model and its settings are on video whose truth is known: lesions found and when, against false alerts.
//!
//! [`clips`] reads the index, [`play`] has the element look at each clip, [`alerts`] compares what it told with [`truth`], [`ranking`] ranks
//! frames and pixels whatever the thresholds, [`sweep`] tries other settings, [`table`] and [`page`] say what came of it.

use std::path::PathBuf;

use crate::{
    calibrate::{footage, video},
    eval,
    outcome::{Outcome, say, warn},
};
use alerts::measure;
use clips::Clip;
use play::Manner;
use ranking::Rankings;
use sweep::{Sweep, Sweeping};
use table::{Results, Row, Tallies};
use truth::Truth;

mod alerts;
pub(crate) mod clips;
mod page;
mod play;
mod ranking;
mod sheet;
mod sweep;
mod table;
#[cfg(test)]
mod tests;
mod timeline;
mod truth;

/// Measure a model on video: lesions found and how soon, false alerts a minute, time under alert, AUROC and AP of frames and pixels.
///
/// Clips are played through the element acdclip with the settings of a profile and those that are given here. An alert is an event of the
/// element. A lesion is found if an alert that begins while it is in view has the centroid of a region on it; an alert that touches no lesion is
/// false. Synthetic clips are counted apart.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Indexes of clips, one JSON object a line: {"video", "lesions": [{"id", "first_frame", "last_frame", "boxes"}], "masks"}, or {"video",
    /// "normal": true}. `acdclip dataset clips` writes them.
    #[arg(long, value_name = "INDEX", required = true, num_args = 1..)]
    data: Vec<PathBuf>,
    /// A profile in TOML, as the element's `config`.
    #[arg(long, value_name = "FILE")]
    profile: Option<PathBuf>,
    /// A bundle (.safetensors), as the element's `model`; the profile's where left out, else the built-in one.
    #[arg(long, value_name = "FILE")]
    model: Option<PathBuf>,
    /// What `acdclip calibrate` has written, as the element's `calibration`.
    #[arg(long, value_name = "FILE")]
    calibration: Option<PathBuf>,
    /// Any property of the element; may be given again. It wins over the profile.
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = crate::property::setting)]
    settings: Vec<(String, String)>,
    /// Play each clip as long as it lasts and let frames pass with the newest result (mode=latest), as from a camera: times to the first alert
    /// then include what this machine costs. Has no curves.
    #[arg(long)]
    live: bool,
    /// Try other values of a property by which frames are judged, for the curves: threshold, map-threshold, min-duration, hold, smoothing and the
    /// like. May be given again; the threshold from 0.05 to 0.95 where left out.
    #[arg(long = "sweep", value_name = "NAME=VALUES", conflicts_with = "live")]
    sweeps: Vec<Sweep>,
    /// Write the numbers to FILE, as fractions and milliseconds.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write a page with tables, curves, the score of every clip over time, and what was missed or falsely told of, to DIR/index.html.
    #[arg(long, value_name = "DIR")]
    report: Option<PathBuf>,
}

/// Frames and truth of a clip, for the page.
struct Watched {
    clip: Clip,
    truth: Truth,
    frames: Vec<alerts::Shown>,
    row: Row,
}

pub(crate) fn run(args: &Args) -> Outcome {
    eval::check_outputs(args.report.as_deref(), args.json.as_deref())?;
    let clips = clips::read_all(&args.data)?;
    let (results, watched) = evaluate(args, clips, say)?;
    if let Some(path) = &args.json {
        eval::write_json(path, &results)?;
    }
    if let Some(directory) = &args.report {
        page::write(directory, args, &results, &watched)?;
    }
    Ok(())
}

/// Measures `clips`, and has `tell` print each line of the table when it is known.
fn evaluate(
    args: &Args,
    clips: Vec<Clip>,
    tell: impl Fn(String) -> Outcome,
) -> Outcome<(Results, Vec<Watched>)> {
    video::init()?;
    let manner = args.manner();
    manner.check()?;
    let mut sweeps = args.sweeps(&manner)?;
    let has_masks = clips.iter().any(|clip| !clip.masks.is_empty());
    let (mut tallies, mut rankings) = (Tallies::default(), Rankings::default());
    let mut watched = Vec::new();
    let width = clips.iter().map(|clip| clip.name().chars().count() + 12);
    let width = width.max().unwrap_or_default();
    tell(table::header(width))?;
    let progress = footage::progress();
    for clip in clips {
        let truth = Truth::load(&clip)?;
        let played = manner.play(&clip, &progress)?;
        let measured = measure(&played.frames, &truth);
        tallies.add(&clip, &measured);
        rankings.add_frames(&clip, &truth, &played.frames)?;
        let again = played.replay(&manner.element(&[])?, |judged| {
            let at = usize::try_from(judged.record.frame).ok();
            let number = at.and_then(|at| played.frames.get(at));
            match number.filter(|_| has_masks) {
                Some(frame) => rankings.add_pixels(&clip, &truth, frame.number, judged),
                None => Ok(()),
            }
        })?;
        if !args.live && again != played.frames {
            warn(&format_args!(
                "{}: judged again it is not what was told of it, so there are no curves",
                clip.name()
            ));
            sweeps.clear();
        }
        for sweep in &mut sweeps {
            sweep.add(&clip, &truth, &played)?;
        }
        let row = Row::new(&clip, &played.frames, &measured);
        progress.suspend(|| tell(table::line(&row.name(), width, &row.cells())))?;
        watched.push(Watched {
            clip,
            truth,
            frames: played.frames,
            row,
        });
    }
    progress.finish_and_clear();
    let totals = tallies.totals();
    for (name, totals) in totals.named() {
        tell(table::line(name, width, &totals.cells()))?;
    }
    let (ranked, with_synthetic) = rankings.finish()?;
    tell(table::ranked_line("%", &ranked))?;
    let with_synthetic = totals.synthetic.as_ref().map(|_| with_synthetic);
    if let Some(ranked) = &with_synthetic {
        tell(table::ranked_line("% with the synthetic clips", ranked))?;
    }
    let results = Results {
        live: args.live,
        clips: watched.iter().map(|watched| watched.row.clone()).collect(),
        totals,
        ranked,
        with_synthetic,
        curves: sweeps.iter().map(Sweeping::curve).collect(),
    };
    Ok((results, watched))
}

impl Args {
    fn manner(&self) -> Manner {
        let path = |name: &str, path: &Option<PathBuf>| {
            path.as_ref()
                .map(|path| (name.to_owned(), path.display().to_string()))
        };
        let named = [
            path("config", &self.profile),
            path("model", &self.model),
            path("calibration", &self.calibration),
        ];
        let settings = named.into_iter().flatten();
        Manner {
            settings: settings.chain(self.settings.iter().cloned()).collect(),
            is_live: self.live,
        }
    }

    fn sweeps(&self, manner: &Manner) -> Outcome<Vec<Sweeping>> {
        let sweeps = match self.sweeps.as_slice() {
            [] if self.live => Vec::new(),
            [] => vec![Sweep::usual()],
            sweeps => sweeps.to_vec(),
        };
        sweeps
            .into_iter()
            .map(|sweep| Sweeping::new(sweep, manner))
            .collect()
    }
}
