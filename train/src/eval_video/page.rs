//! The report's page: the table, curves, each clip over time, and what was missed or falsely told of. One file, no network, no script.

use std::{
    fmt::{self, Write},
    path::Path,
};

use htmlize::escape_text;

use super::{
    Args, Watched, sheet,
    table::{Both, COLUMNS, Curve, Point, Results, Totals, ranked_line},
    timeline,
};
use crate::{
    files::write_whole,
    outcome::{Failure, Outcome},
    report::{
        STYLE,
        chart::{Axis, plot},
    },
};

const OWN_STYLE: &str = include_str!("style.css");

/// Writes `directory/index.html`.
pub(super) fn write(
    directory: &Path,
    args: &Args,
    results: &Results,
    watched: &[Watched],
) -> Outcome {
    let path = directory.join("index.html");
    let sheet = sheet::contact_sheet(watched)?;
    let page = page(args, results, watched, &sheet);
    let page = page.map_err(|e| Failure::wrong_file(&path, &e))?;
    write_whole(&path, page.as_bytes())
}

fn page(
    args: &Args,
    results: &Results,
    watched: &[Watched],
    sheet: &str,
) -> Result<String, fmt::Error> {
    let mut page = String::new();
    writeln!(
        page,
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>ACD-CLIP evaluation on video</title>\n<style>\n{STYLE}{OWN_STYLE}</style>\n</head>\n<body>\n<h1>ACD-CLIP evaluation on video</h1>"
    )?;
    header(&mut page, args, results, watched)?;
    table(&mut page, results)?;
    lesions(&mut page, results)?;
    for curve in &results.curves {
        curves(&mut page, curve, &results.totals)?;
    }
    page.push_str("<h2>Over time</h2>\n");
    for watched in watched {
        writeln!(page, "<h3>{}</h3>", escape_text(watched.row.name()))?;
        page.push_str(&timeline::chart(watched)?);
    }
    page.push_str(sheet);
    page.push_str("</body>\n</html>\n");
    Ok(page)
}

fn header(page: &mut String, args: &Args, results: &Results, watched: &[Watched]) -> fmt::Result {
    let records = watched.iter().flat_map(|watched| &watched.frames);
    let model = records
        .filter_map(|frame| frame.record.as_ref())
        .map(|record| record.model.as_str())
        .next();
    let settings = args.manner().settings.into_iter();
    let settings: Vec<_> = settings
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    let manner = match results.live {
        true => {
            "Played live, frames pass with the newest result (mode=latest): times include what the machine costs."
        }
        false => {
            "Every frame is scored before it leaves (mode=sync): times are those of the video alone."
        }
    };
    writeln!(
        page,
        "<p class=\"about\">Model {}. {} {manner}</p>\n<p class=\"about\">For research use. This is no medical device.</p>\n\
         <p class=\"note\">A lesion is found by an alert that begins while it is in view and has the centroid of a region on it (where its place is not \
         known, by any alert that begins while it is in view). The first alert is timed from the lesion's first frame to the first one in which such an \
         alert touches it. An alert that touches no lesion is false.</p>",
        escape_text(model.unwrap_or("unknown")),
        escape_text(settings.join(" "))
    )
}

fn table(page: &mut String, results: &Results) -> fmt::Result {
    page.push_str("<table>\n<thead><tr><th>clip</th>");
    for (above, below) in COLUMNS {
        write!(page, "<th>{above} {below}</th>")?;
    }
    page.push_str("</tr></thead>\n<tbody>\n");
    for clip in &results.clips {
        row(page, &clip.name(), &clip.cells(), clip.synthetic)?;
    }
    page.push_str("</tbody>\n<tfoot>\n");
    for (name, totals) in results.totals.named() {
        row(page, name, &totals.cells(), name.contains("synthetic"))?;
    }
    page.push_str("</tfoot>\n</table>\n");
    writeln!(
        page,
        "<p class=\"note\">{}</p>",
        ranked_line("Percent", &results.ranked)
    )?;
    if let Some(ranked) = &results.with_synthetic {
        writeln!(
            page,
            "<p class=\"note\">{}</p>",
            ranked_line("Percent, the synthetic clips among them", ranked)
        )?;
    }
    Ok(())
}

fn row(page: &mut String, name: &str, cells: &[String], is_synthetic: bool) -> fmt::Result {
    let class = match is_synthetic {
        true => " class=\"synthetic\"",
        false => "",
    };
    write!(page, "<tr{class}><th>{}</th>", escape_text(name))?;
    for cell in cells {
        write!(page, "<td>{cell}</td>")?;
    }
    page.push_str("</tr>\n");
    Ok(())
}

fn lesions(page: &mut String, results: &Results) -> fmt::Result {
    page.push_str(
        "<h2>Lesions</h2>\n<table>\n<thead><tr><th>lesion</th><th>clip</th><th>frames</th><th>first alert, ms</th></tr></thead>\n<tbody>\n",
    );
    for clip in &results.clips {
        for lesion in &clip.lesions {
            let time = lesion.time_to_first_alert_ms;
            writeln!(
                page,
                "<tr><th>{}</th><td class=\"text\">{}</td><td>{}–{}</td><td>{}</td></tr>",
                escape_text(&lesion.id),
                escape_text(clip.name()),
                lesion.first_frame,
                lesion.last_frame,
                time.map_or_else(|| "missed".to_owned(), |ms| format!("{ms:.0}"))
            )?;
        }
    }
    page.push_str("</tbody>\n</table>\n");
    Ok(())
}

fn curves(page: &mut String, curve: &Curve, played: &Both) -> fmt::Result {
    let name = escape_text(&curve.property);
    writeln!(
        page,
        "<h2>By {name}</h2>\n<p class=\"note\">What the element does as {name} changes and all other settings stay. The ring is the \
         setting that was played; each dot says its own.</p>\n<div class=\"charts\">"
    )?;
    let real = Alarms {
        label: "false alerts a minute",
        of: |both| both.real.as_ref(),
    };
    let synthetic = Alarms {
        label: "false alerts a minute, synthetic clips",
        of: |both| both.synthetic.as_ref(),
    };
    for alarms in [real, synthetic] {
        chart(page, curve, played, &alarms, &SENSITIVITY)?;
        chart(page, curve, played, &alarms, &TIME)?;
    }
    page.push_str("</div>\n");
    Ok(())
}

/// The false alerts of which clips are shown from left to right.
struct Alarms {
    label: &'static str,
    of: fn(&Both) -> Option<&Totals>,
}

/// What is shown from below to above. What is to be found is in the real clips alone.
struct Gain {
    title: &'static str,
    label: &'static str,
    of: fn(&Totals) -> Option<f64>,
    /// Where the axis ends; none for where the curve does.
    top: Option<f64>,
}

const SENSITIVITY: Gain = Gain {
    title: "Sensitivity",
    label: "found of all lesions",
    of: |totals| totals.sensitivity,
    top: Some(1.0),
};

const TIME: Gain = Gain {
    title: "Time to first alert",
    label: "median, ms",
    of: |totals| totals.median_time_to_first_alert_ms,
    top: None,
};

fn chart(
    page: &mut String,
    curve: &Curve,
    played: &Both,
    alarms: &Alarms,
    gain: &Gain,
) -> fmt::Result {
    let place = |both: &Both| {
        let rate = (alarms.of)(both)?.false_alerts_per_minute?;
        Some((rate, (gain.of)(both.real.as_ref()?)?))
    };
    let named = |point: &Point| {
        let (x, y) = place(&point.totals)?;
        Some((x, y, format!("{} {}", curve.property, point.value)))
    };
    let points: Vec<_> = curve.points.iter().filter_map(named).collect();
    if points.is_empty() {
        return Ok(());
    }
    let (right, top) = points.iter().fold((0.0_f64, 0.0_f64), |(x, y), point| {
        (x.max(point.0), y.max(point.1))
    });
    let x = Axis {
        label: alarms.label,
        top: round_up(right),
    };
    let y = Axis {
        label: gain.label,
        top: gain.top.unwrap_or_else(|| round_up(top)),
    };
    page.push_str(&plot(gain.title, [&x, &y], &points, place(played))?);
    Ok(())
}

/// The next of 1, 2, 4 and 8, times a power of ten.
fn round_up(value: f64) -> f64 {
    if value <= 0.0 || value.is_nan() {
        return 1.0;
    }
    let power = 10_f64.powf(value.log10().floor());
    let steps = [1.0, 2.0, 4.0, 8.0, 10.0].map(|step| step * power);
    let enough = steps.into_iter().find(|step| *step >= value);
    enough.unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_end_at_round_numbers() {
        for (value, top) in [
            (0.0, 1.0),
            (0.3, 0.4),
            (1.0, 1.0),
            (9.0, 10.0),
            (150.0, 200.0),
        ] {
            assert!((round_up(value) - top).abs() < 1e-9, "{value}");
        }
    }
}
