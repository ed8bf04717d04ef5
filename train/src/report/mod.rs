//! `acdclip eval --report`: one page that shows what the numbers mean. One file, no network, no script.

use std::{
    fmt::Write,
    path::{Path, PathBuf},
};

use htmlize::escape_text;

use crate::{
    eval::{class::ClassResult, table::Results},
    files::write_whole,
    outcome::{Failure, Outcome},
};

pub(crate) mod chart;
mod sheet;

/// How pages look.
pub(crate) const STYLE: &str = include_str!("style.css");

/// What the page says of where its numbers come from.
pub(crate) struct About<'a> {
    /// The model's short hash.
    pub(crate) model: &'a str,
    /// The indexes.
    pub(crate) data: &'a [PathBuf],
    /// Side of the network's input, at which maps are compared.
    pub(crate) input_size: usize,
}

/// Writes `directory/index.html`.
pub(crate) fn write(
    directory: &Path,
    about: &About<'_>,
    classes: &[ClassResult],
    results: &Results,
) -> Outcome {
    let path = directory.join("index.html");
    let page = page(about, classes, results).map_err(|failure| match failure {
        PageError::Outcome(failure) => failure,
        PageError::Format => Failure::Picture {
            path: path.clone(),
            reason: "the page could not be put together".into(),
        },
    })?;
    write_whole(&path, page.as_bytes())
}

/// Why there is no page.
enum PageError {
    Outcome(Failure),
    Format,
}

impl From<std::fmt::Error> for PageError {
    fn from(_: std::fmt::Error) -> Self {
        Self::Format
    }
}

impl From<Failure> for PageError {
    fn from(failure: Failure) -> Self {
        Self::Outcome(failure)
    }
}

fn page(
    about: &About<'_>,
    classes: &[ClassResult],
    results: &Results,
) -> Result<String, PageError> {
    let mut page = String::new();
    writeln!(
        page,
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>ACD-CLIP evaluation</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<h1>ACD-CLIP evaluation</h1>"
    )?;
    header(&mut page, about)?;
    table(&mut page, results)?;
    for (i, class) in classes.iter().enumerate() {
        section(&mut page, i, class)?;
    }
    page.push_str("</body>\n</html>\n");
    Ok(page)
}

fn header(page: &mut String, about: &About<'_>) -> std::fmt::Result {
    let data: Vec<_> = about
        .data
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    writeln!(
        page,
        "<p class=\"about\">Model {} on {}. Maps and masks are compared at {side} x {side} pixels. Percentages.</p>",
        escape_text(about.model),
        escape_text(data.join(", ")),
        side = about.input_size
    )
}

fn table(page: &mut String, results: &Results) -> std::fmt::Result {
    page.push_str(
        "<table>\n<thead><tr><th rowspan=\"2\">class</th><th rowspan=\"2\">images</th>\
         <th colspan=\"4\" class=\"group\">pixel</th><th colspan=\"3\" class=\"group\">image</th></tr>\n\
         <tr><th class=\"group\">AUROC</th><th>AP</th><th>AUPRO</th><th>F1-max</th>\
         <th class=\"group\">AUROC</th><th>AP</th><th>F1-max</th></tr></thead>\n<tbody>\n",
    );
    for (i, class) in results.classes.iter().enumerate() {
        row(page, &class.texts(), Some(i))?;
    }
    if results.classes.len() > 1 {
        page.push_str("</tbody>\n<tfoot>\n");
        row(page, &results.mean_texts(), None)?;
        page.push_str("</tfoot>\n</table>\n");
    } else {
        page.push_str("</tbody>\n</table>\n");
    }
    Ok(())
}

fn row(page: &mut String, texts: &[String], section: Option<usize>) -> std::fmt::Result {
    page.push_str("<tr>");
    for (column, text) in texts.iter().enumerate() {
        let text = escape_text(text);
        match (column, section) {
            (0, Some(i)) => write!(page, "<th><a href=\"#class-{i}\">{text}</a></th>")?,
            (0, None) => write!(page, "<th>{text}</th>")?,
            (2 | 6, _) => write!(page, "<td class=\"group\">{text}</td>")?,
            _ => write!(page, "<td>{text}</td>")?,
        }
    }
    page.push_str("</tr>\n");
    Ok(())
}

fn section(page: &mut String, i: usize, class: &ClassResult) -> Result<(), PageError> {
    writeln!(
        page,
        "<section id=\"class-{i}\">\n<h2>{}</h2>\n<div class=\"charts\">",
        escape_text(&class.class_name)
    )?;
    for (of, summary) in [("Pixel", &class.pixel), ("Image", &class.image)] {
        if summary.auroc.is_some() {
            page.push_str(&chart::roc(&format!("{of} ROC"), &summary.curves.roc)?);
            page.push_str(&chart::pr(
                &format!("{of} precision-recall"),
                &summary.curves.pr,
            )?);
        }
    }
    page.push_str(&chart::histogram("Pixel scores", &class.pixel_scores)?);
    page.push_str(&chart::histogram("Image scores", &class.image_scores)?);
    page.push_str("</div>\n");
    page.push_str(&sheet::contact_sheet(&class.pictures)?);
    page.push_str("</section>\n");
    Ok(())
}
