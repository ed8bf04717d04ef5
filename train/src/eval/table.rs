//! Results as numbers: a row a class, the mean of the rows, as JSON and as a table of percentages.

use serde::Serialize;

use super::class::ClassResult;
use crate::metrics::Summary;

/// Pixel metrics, fractions.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Pixel {
    pub(crate) auroc: Option<f64>,
    pub(crate) ap: Option<f64>,
    aupro: Option<f64>,
    f1_max: Option<f64>,
}

/// Image metrics, fractions.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Image {
    pub(crate) auroc: Option<f64>,
    pub(crate) ap: Option<f64>,
    f1_max: Option<f64>,
}

/// One class.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Row {
    class_name: String,
    images: usize,
    pixel: Pixel,
    image: Image,
}

/// The mean over classes, of those that have the metric.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Mean {
    pixel: Pixel,
    image: Image,
}

/// Everything that was measured.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Results {
    /// In the order of the index.
    pub(crate) classes: Vec<Row>,
    /// Each class weighing the same.
    pub(crate) mean: Mean,
}

impl Row {
    /// The row of a class.
    pub(crate) fn of(class: &ClassResult) -> Self {
        Self {
            class_name: class.class_name.clone(),
            images: class.images,
            pixel: Pixel::of(&class.pixel),
            image: Image::of(&class.image),
        }
    }

    /// The row as text, under [`header`].
    pub(crate) fn line(&self, width: usize) -> String {
        line(&self.class_name, width, self.images, &self.cells())
    }

    /// The class, its pictures and its percentages, as text.
    pub(crate) fn texts(&self) -> Vec<String> {
        let mut texts = vec![self.class_name.clone(), self.images.to_string()];
        texts.extend(self.cells().iter().map(percent));
        texts
    }

    fn cells(&self) -> [Option<f64>; 7] {
        cells(&self.pixel, &self.image)
    }
}

impl Pixel {
    /// Of what was ranked.
    pub(crate) fn of(summary: &Summary) -> Self {
        Self {
            auroc: summary.auroc,
            ap: summary.ap,
            aupro: summary.aupro,
            f1_max: summary.f1_max,
        }
    }
}

impl Image {
    /// Of what was ranked.
    pub(crate) fn of(summary: &Summary) -> Self {
        Self {
            auroc: summary.auroc,
            ap: summary.ap,
            f1_max: summary.f1_max,
        }
    }
}

impl Results {
    /// The rows of `classes` and their mean.
    pub(crate) fn of(classes: &[ClassResult]) -> Self {
        let classes: Vec<_> = classes.iter().map(Row::of).collect();
        let mean = Mean::of(&classes);
        Self { classes, mean }
    }

    /// The mean as text, under [`header`].
    pub(crate) fn mean_line(&self, width: usize) -> String {
        self.line("mean", width)
    }

    /// The mean as text, called `name`.
    pub(crate) fn line(&self, name: &str, width: usize) -> String {
        let mean = &self.mean;
        line(name, width, self.images(), &cells(&mean.pixel, &mean.image))
    }

    /// `mean`, all pictures and the mean percentages, as text.
    pub(crate) fn mean_texts(&self) -> Vec<String> {
        let mut texts = vec!["mean".to_owned(), self.images().to_string()];
        let cells = cells(&self.mean.pixel, &self.mean.image);
        texts.extend(cells.iter().map(percent));
        texts
    }

    fn images(&self) -> usize {
        self.classes.iter().map(|row| row.images).sum()
    }
}

impl Mean {
    fn of(rows: &[Row]) -> Self {
        let mean = |metric: &dyn Fn(&Row) -> Option<f64>| {
            let values: Vec<f64> = rows.iter().filter_map(metric).collect();
            (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
        };
        Self {
            pixel: Pixel {
                auroc: mean(&|row| row.pixel.auroc),
                ap: mean(&|row| row.pixel.ap),
                aupro: mean(&|row| row.pixel.aupro),
                f1_max: mean(&|row| row.pixel.f1_max),
            },
            image: Image {
                auroc: mean(&|row| row.image.auroc),
                ap: mean(&|row| row.image.ap),
                f1_max: mean(&|row| row.image.f1_max),
            },
        }
    }
}

fn cells(pixel: &Pixel, image: &Image) -> [Option<f64>; 7] {
    let Pixel {
        auroc,
        ap,
        aupro,
        f1_max,
    } = *pixel;
    [
        auroc,
        ap,
        aupro,
        f1_max,
        image.auroc,
        image.ap,
        image.f1_max,
    ]
}

/// What stands above the columns, the first of which is `width` wide.
pub(crate) fn header(first: &str, width: usize) -> String {
    format!(
        "{:width$} {:>7}  {:>8} {:>6} {:>6} {:>6}  {:>8} {:>6} {:>6}\n{first:width$} {:>7}  {:>8} {:>6} {:>6} {:>6}  {:>8} {:>6} {:>6}",
        "",
        "",
        "pixel",
        "",
        "",
        "",
        "image",
        "",
        "",
        "images",
        "AUROC",
        "AP",
        "AUPRO",
        "F1",
        "AUROC",
        "AP",
        "F1"
    )
}

fn line(name: &str, width: usize, images: usize, cells: &[Option<f64>; 7]) -> String {
    let [a, b, c, d, e, f, g] = cells.each_ref().map(percent);
    format!("{name:width$} {images:>7}  {a:>8} {b:>6} {c:>6} {d:>6}  {e:>8} {f:>6} {g:>6}")
}

/// Two decimals, or a dash.
pub(crate) fn percent(value: &Option<f64>) -> String {
    value.map_or_else(|| "-".into(), |value| format!("{:.2}", value * 100.0))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn row(name: &str, auroc: Option<f64>) -> Row {
        Row {
            class_name: name.into(),
            images: 2,
            pixel: Pixel {
                auroc,
                ap: None,
                aupro: None,
                f1_max: Some(0.5),
            },
            image: Image {
                auroc: None,
                ap: None,
                f1_max: None,
            },
        }
    }

    #[test]
    fn the_mean_is_over_the_classes_that_have_the_metric() {
        let rows = [row("a", Some(0.5)), row("b", None), row("c", Some(1.0))];
        let mean = Mean::of(&rows);
        assert_eq!((mean.pixel.auroc, mean.pixel.ap), (Some(0.75), None));
        assert_eq!(mean.image.auroc, None);
    }

    #[test]
    fn columns_line_up_and_what_is_not_there_is_null() {
        let row = row("a", Some(0.12345));
        let header = header("class", 6);
        let lines: Vec<_> = header.lines().collect();
        assert_eq!(lines[0].len(), lines[1].len());
        assert_eq!(row.line(6).len(), lines[1].len());
        assert!(row.line(6).contains("12.35") && row.line(6).ends_with('-'));
        let json = serde_json::to_value(&row).unwrap();
        assert_eq!(json["pixel"]["ap"], serde_json::Value::Null);
    }
}
