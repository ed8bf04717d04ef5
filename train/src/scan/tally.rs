//! What was found of what is annotated, as numbers: a row a strip and all of them together, as JSON and as text.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{
    defect::Defect,
    truth::{Annotated, Mark},
};

/// Lines that false defects are counted by.
const LINES: f64 = 1000.0;

/// Above each column of numbers.
const COLUMNS: [&str; 7] = [
    "lines",
    "flaws",
    "found",
    "missed",
    "false",
    "per 1000",
    "at no flaw",
];

/// Flaws, and those of them that were found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(super) struct Found {
    pub(super) flaws: usize,
    pub(super) found: usize,
}

/// The numbers of a strip, or of all.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(super) struct Tally {
    pub(super) strip: String,
    pub(super) lines: u64,
    #[serde(flatten)]
    pub(super) all: Found,
    /// Defects that were told of.
    pub(super) defects: usize,
    /// Those where nothing is annotated.
    #[serde(rename = "false")]
    pub(super) wrong: usize,
    pub(super) false_per_1000_lines: Option<f64>,
    /// Those at what is annotated and no flaw, and at no flaw beside it.
    pub(super) at_no_flaw: usize,
    pub(super) categories: BTreeMap<String, Found>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) missed: Vec<Mark>,
}

impl Tally {
    /// Of a strip of so many lines.
    pub(super) fn new(strip: &Annotated, lines: u64, defects: &[Defect]) -> Self {
        let mut tally = Self {
            strip: strip.source.path.display().to_string(),
            lines,
            defects: defects.len(),
            ..Self::default()
        };
        let (flaws, others): (Vec<_>, Vec<_>) = strip.marks.iter().partition(|mark| mark.is_flaw);
        for flaw in &flaws {
            let found = usize::from(defects.iter().any(|defect| flaw.touches(defect)));
            let one = Found { flaws: 1, found };
            tally.all.add(one);
            let of_its_kind = tally.categories.entry(flaw.category.clone());
            of_its_kind.or_default().add(one);
            if found == 0 {
                tally.missed.push((*flaw).clone());
            }
        }
        for defect in defects {
            let touches = |marks: &[&Mark]| marks.iter().any(|mark| mark.touches(defect));
            match (touches(&flaws), touches(&others)) {
                (true, _) => {}
                (false, true) => tally.at_no_flaw += 1,
                (false, false) => tally.wrong += 1,
            }
        }
        tally.finish()
    }

    /// Of all strips together.
    pub(super) fn sum(strips: &[Self]) -> Self {
        let mut sum = Self {
            strip: "all".into(),
            ..Self::default()
        };
        for one in strips {
            sum.lines += one.lines;
            sum.all.add(one.all);
            sum.defects += one.defects;
            sum.wrong += one.wrong;
            sum.at_no_flaw += one.at_no_flaw;
            for (category, found) in &one.categories {
                sum.categories
                    .entry(category.clone())
                    .or_default()
                    .add(*found);
            }
        }
        sum.finish()
    }

    fn finish(mut self) -> Self {
        let thousands = self.lines as f64 / LINES;
        self.false_per_1000_lines =
            (thousands > 0.0).then(|| (self.wrong as f64 / thousands * 1e4).round() / 1e4);
        self
    }

    fn cells(&self) -> [String; COLUMNS.len()] {
        let rate = self.false_per_1000_lines;
        [
            self.lines.to_string(),
            self.all.flaws.to_string(),
            self.all.found.to_string(),
            (self.all.flaws - self.all.found).to_string(),
            self.wrong.to_string(),
            rate.map_or("-".into(), |rate| format!("{rate:.2}")),
            self.at_no_flaw.to_string(),
        ]
    }
}

impl Found {
    fn add(&mut self, other: Self) {
        self.flaws += other.flaws;
        self.found += other.found;
    }
}

/// What was tried, and what came of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Trial {
    /// `NAME=VALUE`, none where nothing was swept.
    pub(super) setting: Option<String>,
    pub(super) strips: Vec<Tally>,
    pub(super) all: Tally,
}

impl Trial {
    pub(super) fn new(setting: Option<String>, strips: Vec<Tally>) -> Self {
        let all = Tally::sum(&strips);
        Self {
            setting,
            strips,
            all,
        }
    }

    /// Its rows as text: a strip each where there are several, and all of them.
    pub(super) fn rows(&self) -> Vec<String> {
        let name = |tally: &Tally| match &self.setting {
            Some(setting) => format!("{} {setting}", tally.strip),
            None => tally.strip.clone(),
        };
        let strips = match self.strips.as_slice() {
            [_] => &[],
            strips => strips,
        };
        let rows = strips.iter().chain([&self.all]);
        rows.map(|tally| line(&name(tally), &tally.cells()))
            .collect()
    }

    /// What was found of each category, as text; nothing where flaws have none.
    pub(super) fn categories(&self) -> Vec<String> {
        let named = self
            .all
            .categories
            .iter()
            .filter(|(name, _)| !name.is_empty());
        named
            .map(|(name, found)| format!("{name}: {} of {} found", found.found, found.flaws))
            .collect()
    }
}

/// The first line of the text.
pub(super) fn header() -> String {
    line("", &COLUMNS.map(str::to_owned))
}

fn line(name: &str, cells: &[String; COLUMNS.len()]) -> String {
    let cells = cells.iter().map(|cell| format!("{cell:>11}"));
    let cells: String = cells.collect();
    format!("{cells}  {name}").trim_end().to_owned()
}
