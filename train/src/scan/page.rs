//! The report's page: every strip drawn from end to end, and the most severe defects with their pictures. No network, no script.

use std::{collections::BinaryHeap, fmt::Write, path::Path};

use htmlize::{escape_attribute, escape_text};

use super::{
    chart::{self, DOTS, STRETCHES, Track},
    defect::Defect,
    ledger,
    state::Done,
};
use crate::{
    files::write_whole,
    outcome::{Failure, Outcome},
    report::STYLE,
};

/// Defects that have a row of their own, at most.
const ROWS: usize = 500;

const OWN_STYLE: &str = include_str!("style.css");

/// What the page says of the scan.
pub(super) struct About<'a> {
    pub(super) model: &'a str,
    pub(super) class: &'a str,
    pub(super) threshold: f32,
    pub(super) is_calibrated: bool,
    /// Millimetres at line 0, and from line to line; none where that is not known.
    pub(super) mm: Option<(f64, f64)>,
    /// The strips by name, in their order.
    pub(super) strips: &'a [(String, Done)],
}

/// A defect that is the greater the less severe it is.
struct Mild(Defect);

impl PartialEq for Mild {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Mild {}

impl PartialOrd for Mild {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Mild {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        Defect::by_severity(&self.0, &other.0)
    }
}

/// The most severe of many defects, so many of them.
struct Worst {
    most: usize,
    heap: BinaryHeap<Mild>,
}

impl Worst {
    fn new(most: usize) -> Self {
        Self {
            most,
            heap: BinaryHeap::new(),
        }
    }

    fn push(&mut self, defect: Defect) {
        self.heap.push(Mild(defect));
        if self.heap.len() > self.most {
            self.heap.pop();
        }
    }

    fn sorted(self) -> Vec<Defect> {
        let sorted = self.heap.into_sorted_vec().into_iter();
        sorted.map(|Mild(defect)| defect).collect()
    }
}

/// Writes the page about the defects in the file `from` to `path`.
pub(super) fn write(from: &Path, path: &Path, about: &About<'_>) -> Outcome {
    let mut worst = Worst::new(ROWS);
    let mut charts = Vec::new();
    let mut defects = ledger::read(from)?;
    for (name, done) in about.strips {
        let mut counts = vec![0; STRETCHES];
        let mut dots = Worst::new(DOTS);
        for defect in defects.by_ref().take(done.defects as usize) {
            let defect = defect?;
            counts[chart::stretch(defect.line, done.lines)] += 1;
            dots.push(defect.clone());
            worst.push(defect);
        }
        charts.push(chart::track(&Track {
            name,
            lines: done.lines,
            width: done.width,
            mm: about.mm,
            counts: &counts,
            dots: &dots.sorted(),
            threshold: about.threshold,
        }));
    }
    let page = page(about, charts, &worst.sorted());
    let page = page.map_err(|e| Failure::wrong_file(path, &e))?;
    write_whole(path, page.as_bytes())
}

fn page(
    about: &About<'_>,
    charts: Vec<Result<String, std::fmt::Error>>,
    worst: &[Defect],
) -> Result<String, std::fmt::Error> {
    let mut page = String::new();
    writeln!(
        page,
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>ACD-CLIP strip scan</title>\n<style>\n{STYLE}{OWN_STYLE}</style>\n</head>\n<body>\n<h1>ACD-CLIP strip scan</h1>"
    )?;
    header(&mut page, about)?;
    strips(&mut page, about)?;
    page.push_str("<h2>Along the track</h2>\n");
    for chart in charts {
        page.push_str(&chart?);
    }
    defects(&mut page, about, worst)?;
    page.push_str("</body>\n</html>\n");
    Ok(page)
}

fn all(about: &About<'_>) -> u64 {
    about.strips.iter().map(|(_, done)| done.defects).sum()
}

fn header(page: &mut String, about: &About<'_>) -> std::fmt::Result {
    writeln!(
        page,
        "<p class=\"about\">Model {}, class {}. A defect reaches {} on the {} scale. The same defects are in \
         <a href=\"defects.csv\">defects.csv</a>, <a href=\"defects.parquet\">defects.parquet</a> and \
         <a href=\"defects.jsonl\">defects.jsonl</a>.</p>",
        escape_text(about.model),
        escape_text(about.class),
        about.threshold,
        if about.is_calibrated {
            "calibrated"
        } else {
            "model's own"
        }
    )
}

fn strips(page: &mut String, about: &About<'_>) -> std::fmt::Result {
    page.push_str(
        "<table>\n<thead><tr><th>strip</th><th>lines</th><th>metres</th><th>defects</th><th>in 1000 lines</th></tr></thead>\n<tbody>\n",
    );
    for (name, done) in about.strips {
        let metres = about.mm.map(|(_, pitch)| done.lines as f64 * pitch / 1e3);
        writeln!(
            page,
            "<tr><th>{}</th><td>{}</td><td>{}</td><td>{}</td><td>{:.2}</td></tr>",
            escape_text(name),
            done.lines,
            metres.map_or("–".into(), |metres| format!("{metres:.3}")),
            done.defects,
            done.defects as f64 * 1e3 / done.lines.max(1) as f64
        )?;
    }
    page.push_str("</tbody>\n</table>\n");
    Ok(())
}

fn defects(page: &mut String, about: &About<'_>, worst: &[Defect]) -> std::fmt::Result {
    page.push_str("<h2>Defects</h2>\n");
    let all = all(about);
    let note = match worst.len() as u64 {
        0 => "None was found.".to_owned(),
        shown if shown < all => {
            format!("The {shown} most severe of {all}, by score, then by area.")
        }
        _ => "The most severe first: by score, then by area.".to_owned(),
    };
    writeln!(page, "<p class=\"note\">{note}</p>")?;
    if worst.is_empty() {
        return Ok(());
    }
    page.push_str(
        "<table class=\"defects\">\n<thead><tr><th>defect</th><th></th><th>score</th><th>line</th><th>metre</th><th>column</th>\
         <th>size, px</th><th>size, mm</th><th>area, px</th><th class=\"name\">strip</th></tr></thead>\n<tbody>\n",
    );
    for defect in worst {
        row(page, defect)?;
    }
    page.push_str("</tbody>\n</table>\n");
    Ok(())
}

fn row(page: &mut String, defect: &Defect) -> std::fmt::Result {
    let dash = || "–".to_owned();
    let picture = defect.crop.as_ref().map(|crop| {
        let crop = escape_attribute(crop);
        format!(
            "<a href=\"{crop}\"><img loading=\"lazy\" src=\"{crop}\" alt=\"defect {}\"></a>",
            defect.id
        )
    });
    let size = match (defect.width_mm, defect.length_mm) {
        (None, None) => dash(),
        (width, length) => format!(
            "{} × {}",
            width.map_or_else(dash, |mm| format!("{mm:.1}")),
            length.map_or_else(dash, |mm| format!("{mm:.1}"))
        ),
    };
    writeln!(
        page,
        "<tr id=\"defect-{id}\"><th>{id}</th><td>{}</td><td>{:.3}</td><td>{}–{}</td><td>{}</td><td>{}</td><td>{} × {}</td><td>{size}</td>\
         <td>{}</td><td class=\"name\">{}</td></tr>",
        picture.unwrap_or_default(),
        defect.score,
        defect.line,
        defect.last_line,
        defect
            .position_mm
            .map_or_else(dash, |mm| format!("{:.3}", mm / 1e3)),
        defect.x,
        defect.w,
        defect.h,
        defect.area,
        escape_text(&defect.source),
        id = defect.id
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::scan::ledger::{Ledger, tests::defect};

    #[test]
    fn a_page_has_the_most_severe_first_and_asks_for_nothing_from_elsewhere() {
        let folder = tempfile::tempdir().unwrap();
        let [from, path] = ["defects.jsonl", "index.html"].map(|name| folder.path().join(name));
        let mut ledger = Ledger::open(&from, 0).unwrap();
        (1..=3).for_each(|id| ledger.push(&defect(id)).unwrap());
        ledger.end_strip().unwrap();
        let done = Done {
            lines: 100,
            width: 20,
            defects: 3,
        };
        let about = About {
            model: "0123",
            class: "<rail>",
            threshold: 0.5,
            is_calibrated: false,
            mm: Some((0.0, 0.25)),
            strips: &[("a.png".into(), done)],
        };
        write(&from, &path, &about).unwrap();
        let page = std::fs::read_to_string(&path).unwrap();
        let at = |text: &str| page.find(text).unwrap();
        assert!(at("id=\"defect-3\"") < at("id=\"defect-2\""));
        assert!(page.contains("&lt;rail&gt;") && page.contains("src=\"crops/000002.jpg\""));
        assert!(!page.contains("http") && !page.contains("<script"));
    }

    #[test]
    fn only_the_most_severe_are_kept() {
        let mut worst = Worst::new(3);
        (1..=9).for_each(|id| worst.push(defect(id * 7 % 10)));
        let ids: Vec<_> = worst.sorted().iter().map(|defect| defect.id).collect();
        assert_eq!(ids, [9, 8, 7]);
    }
}
