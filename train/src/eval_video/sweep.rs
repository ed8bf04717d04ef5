//! What becomes of the clips as a setting changes. The network looks at each frame once; the element's own judging is run again for each
//! value on what it found, so that a point of a curve is what the element does at that setting.

use super::{
    alerts::measure,
    clips::Clip,
    play::{Manner, Played},
    table::{Curve, Point, Tallies},
    truth::Truth,
};
use crate::outcome::{Failure, Outcome};

/// What is swept where nothing is asked for.
const USUAL: [&str; 19] = [
    "0.05", "0.1", "0.15", "0.2", "0.25", "0.3", "0.35", "0.4", "0.45", "0.5", "0.55", "0.6",
    "0.65", "0.7", "0.75", "0.8", "0.85", "0.9", "0.95",
];

/// Settings by which frames are judged; what others change the network has to see.
const JUDGING: [&str; 8] = [
    "threshold",
    "release-threshold",
    "map-threshold",
    "map-release-threshold",
    "min-area",
    "min-duration",
    "hold",
    "smoothing",
];

/// A property and the values that it takes.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Sweep {
    property: String,
    values: Vec<String>,
}

/// A curve, being gathered.
pub(super) struct Sweeping {
    sweep: Sweep,
    elements: Vec<gst::Element>,
    tallies: Vec<Tallies>,
}

impl Sweep {
    /// The threshold of the score.
    pub(super) fn usual() -> Self {
        Self {
            property: "threshold".into(),
            values: USUAL.map(str::to_owned).to_vec(),
        }
    }
}

impl std::str::FromStr for Sweep {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (property, values) = text.split_once('=').ok_or("wanted NAME=VALUE,VALUE,...")?;
        if !JUDGING.contains(&property) {
            return Err(format!("wanted one of {}", JUDGING.join(", ")));
        }
        let values = values.split(',').map(|value| value.trim().to_owned());
        Ok(Self {
            property: property.into(),
            values: values.filter(|value| !value.is_empty()).collect(),
        })
    }
}

impl Sweeping {
    /// Checks every value.
    pub(super) fn new(sweep: Sweep, manner: &Manner) -> Outcome<Self> {
        if sweep.values.is_empty() {
            return Err(Failure::Arguments(format!(
                "--sweep {}: wanted values, found none",
                sweep.property
            )));
        }
        let elements = sweep.values.iter();
        let elements = elements.map(|value| manner.element(&[(&sweep.property, value)]));
        Ok(Self {
            elements: elements.collect::<Outcome<_>>()?,
            tallies: sweep.values.iter().map(|_| Tallies::default()).collect(),
            sweep,
        })
    }

    /// Adds a clip, judged by every value.
    pub(super) fn add(&mut self, clip: &Clip, truth: &Truth, played: &Played) -> Outcome {
        for (element, tallies) in self.elements.iter().zip(&mut self.tallies) {
            let frames = played.replay(element, |_| Ok(()))?;
            tallies.add(clip, &measure(&frames, truth));
        }
        Ok(())
    }

    pub(super) fn curve(&self) -> Curve {
        let values = self.sweep.values.iter().zip(&self.tallies);
        Curve {
            property: self.sweep.property.clone(),
            points: values
                .map(|(value, tallies)| Point {
                    value: value.clone(),
                    totals: tallies.totals(),
                })
                .collect(),
        }
    }
}
