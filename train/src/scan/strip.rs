//! One strip from its first line to its last: what the network is shown, and the defects that come of it.

use std::{
    ops::Range,
    sync::atomic::{AtomicBool, Ordering},
};

use acdclip_model::{
    Detector,
    detector::{Finding, Query, Settings},
    preprocess::Resize,
    stream::{
        flaws::{Change, Flaw},
        place::read_counters,
        scan::{Counters, Due, Scan, View},
    },
};

use super::{
    crop::{self, Kept},
    defect::Defect,
    journal::Journal,
    ledger::Ledger,
    manner::Manner,
    progress::Progress,
    source::{Source, band::Band},
    state::{Done, Folder},
};
use crate::{
    files::write_whole,
    outcome::{Failure, Outcome},
};

/// Tiles that the network looks at together, at most.
const BATCH: usize = 8;

/// What scanning strips needs.
pub(super) struct Scanner<'a> {
    pub(super) detector: &'a Detector,
    pub(super) manner: &'a Manner,
    pub(super) folder: &'a Folder,
    /// Set when the scan is to stop.
    pub(super) stop: &'a AtomicBool,
}

/// A strip that is being scanned.
struct Run<'a> {
    scanner: &'a Scanner<'a>,
    source: String,
    /// Those of a line that are looked at.
    columns: Range<usize>,
    scan: Scan,
    kept: Kept,
    journal: Journal,
    ledger: &'a mut Ledger,
    progress: &'a Progress,
}

impl Scanner<'_> {
    /// Scans strip number `number`.
    ///
    /// [`Failure::Stopped`] if it was told to.
    pub(super) fn scan(
        &self,
        number: u64,
        source: &Source,
        ledger: &mut Ledger,
        progress: &Progress,
    ) -> Outcome<Done> {
        let mut lines = source.open(self.manner.reading)?;
        progress.begin(&source.path, lines.total());
        let before = ledger.count();
        let mut band = Band::default();
        let name = |failure| of_strip(source, failure);
        if !lines.next(&mut band)? {
            return Err(Failure::wrong_file(
                &source.path,
                &"wanted lines, found none",
            ));
        }
        let width = band.width;
        let (columns, plan) = self.manner.plan(width, self.detector).map_err(name)?;
        let mut run = Run {
            scanner: self,
            source: source.path.display().to_string(),
            columns,
            scan: Scan::new(plan),
            kept: Kept::default(),
            journal: Journal::open(&self.folder.journal(), number)?,
            ledger,
            progress,
        };
        loop {
            run.push(&band).map_err(name)?;
            if !lines.next(&mut band)? {
                break;
            }
        }
        run.end().map_err(name)?;
        let lines = run.scan.lines();
        ledger.end_strip()?;
        Ok(Done {
            lines,
            width,
            defects: ledger.count() - before,
        })
    }

    fn check_stop(&self) -> Outcome {
        match self.stop.load(Ordering::Relaxed) {
            true => Err(Failure::Stopped {
                report: self.folder.root().into(),
            }),
            false => Ok(()),
        }
    }

    /// What the network finds in the tiles of a row.
    fn look(&self, views: &[View<'_>]) -> Outcome<Vec<Finding>> {
        let mut findings = Vec::with_capacity(views.len());
        for batch in views.chunks(BATCH) {
            self.check_stop()?;
            let inputs = batch.iter().map(|view| {
                let settings = Settings {
                    // A strip that is shorter than a tile keeps its shape; all else is square.
                    resize: Resize::Fit,
                    domain: self.manner.domain,
                    mask: view.mask.clone(),
                    blanks: view.blanks,
                    ..Settings::default()
                };
                self.detector.prepare(&view.frame, &settings)
            });
            let inputs = inputs.collect::<acdclip_model::Result<Vec<_>>>()?;
            let queries: Vec<_> = inputs
                .iter()
                .map(|input| Query {
                    input,
                    text: &self.manner.text,
                    domain: self.manner.domain,
                })
                .collect();
            for finding in self.detector.run(&queries)? {
                findings.push(finding?);
            }
        }
        Ok(findings)
    }
}

/// A failure of the model with the strip's name.
fn of_strip(source: &Source, failure: Failure) -> Failure {
    match failure {
        Failure::Model(e) => Failure::wrong_file(&source.path, &e),
        other => other,
    }
}

impl Run<'_> {
    /// Takes the next lines.
    fn push(&mut self, band: &Band) -> Outcome {
        if band.len() == 0 {
            return Ok(());
        }
        let counters = match self.scanner.manner.counts_in_pixels {
            true => Some(read_counters(band.lines(), self.scan.last_counter())?),
            false => None,
        };
        let counters = counters.as_deref().map_or(Counters::None, Counters::Each);
        let before = self.scan.lines();
        let lines = self.scan.push(&band.frame(&self.columns)?, counters)?;
        // Of a counter that stands only the first line is one.
        self.kept
            .push(band, |row| lines.line(row).filter(|line| *line >= before));
        self.see()
    }

    /// No more lines follow.
    fn end(&mut self) -> Outcome {
        self.scan.end();
        self.see()?;
        let change = self.scan.finish();
        self.tell(change)
    }

    /// Has the network look at all that is due.
    fn see(&mut self) -> Outcome {
        while let Some(due) = self.scan.due()? {
            self.scanner.check_stop()?;
            let findings = self.findings(&due)?;
            self.scan.take(due, &findings);
            let settled = self.scan.settled();
            let manner = self.scanner.manner;
            let change = self.scan.follow(settled, manner.scale, &manner.rules)?;
            self.tell(change)?;
            self.scan.forget(settled);
            self.kept.forget(settled);
            self.progress.reach(settled, self.ledger.count());
        }
        Ok(())
    }

    /// What the network finds in a row of tiles, or what it found before.
    fn findings(&mut self, due: &Due) -> Outcome<Vec<Finding>> {
        let views = self.scan.views(due)?;
        let masks: Vec<_> = views.iter().map(|view| view.mask.clone()).collect();
        let kind = self.scanner.detector.map_values();
        if let Some(findings) = self.journal.next(kind, &masks)? {
            return Ok(findings);
        }
        let findings = self.scanner.look(&views)?;
        self.journal.push(&findings)?;
        Ok(findings)
    }

    /// Tells of the flaws that are complete.
    fn tell(&mut self, change: Change) -> Outcome {
        if change.ended.is_empty() {
            return Ok(());
        }
        let root = self.scanner.folder.root();
        for flaw in change.ended {
            let mut defect = self.defect(&flaw);
            defect.crop = crop::name(defect.id).filter(|_| self.kept.shows(&defect));
            // The picture first: a line says that it is there.
            if let Some(name) = &defect.crop
                && self.ledger.is_new()?
                && let Some(picture) = self.kept.picture(&defect)?
            {
                write_whole(&root.join(name), &picture)?;
            }
            self.ledger.push(&defect)?;
        }
        self.ledger.sync()
    }

    fn defect(&self, flaw: &Flaw) -> Defect {
        let place = self.scan.place_of(flaw);
        let left = self.columns.start as u32;
        Defect {
            id: self.ledger.count() + 1,
            source: self.source.clone(),
            line: flaw.first,
            last_line: flaw.last,
            x: flaw.left + left,
            w: flaw.width(),
            h: flaw.length(),
            score: flaw.score,
            area: flaw.area,
            worst_x: flaw.worst.0 + left,
            worst_line: flaw.worst.1,
            position_mm: place.position_mm,
            length_mm: place.length_mm,
            width_mm: place.width_mm,
            model: self.scanner.detector.short_hash().to_owned(),
            class_name: self.scanner.manner.class.clone(),
            threshold: self.scanner.manner.rules.levels.raise,
            crop: None,
        }
    }
}
