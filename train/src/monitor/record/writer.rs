//! Which frames go into which clip, and what the journal says of the events in it.

use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions},
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use serde::Serialize;

use super::{
    Encoded, JOURNAL,
    clip::Clip,
    keep::{self, Limits, NAMES},
    ring::{Frame, Ring},
};
use crate::{
    monitor::{
        findings::{Moment, Told},
        hub::Hub,
    },
    outcome::{Failure, Outcome, warn},
};

const SECOND: u64 = 1_000_000_000;
/// By how much an event may be told of late.
const LATE: u64 = 5 * SECOND;
/// What lasts longer goes on in another clip.
const LONGEST: u64 = 120 * SECOND;

/// An event that belongs to the clip.
#[derive(Debug, Clone, Default, Serialize)]
struct Entry {
    /// The clips it lies in, one after the other.
    clips: Vec<String>,
    event_id: u64,
    /// Milliseconds since 1970 when its first clip was begun.
    recorded_at: u64,
    /// Seconds of the first clip at which it begins.
    offset: f64,
    begin_pts: u64,
    end_pts: Option<u64>,
    peak: f64,
    peak_pts: Option<u64>,
}

/// Writes clips.
pub(super) struct Writer {
    folder: PathBuf,
    limits: Limits,
    pre_roll: u64,
    post_roll: u64,
    hub: Arc<Hub>,
    ring: Ring<Encoded>,
    clip: Option<(Clip, String)>,
    /// Events that the journal does not know yet.
    entries: BTreeMap<u64, Entry>,
    /// Events for which there was nothing yet to begin a clip with.
    waiting: Vec<Told>,
    newest: u64,
    /// When the last event has ended.
    ended: u64,
}

impl Writer {
    pub(super) fn new(
        folder: &Path,
        limits: Limits,
        (pre, post): (u64, u64),
        hub: &Arc<Hub>,
    ) -> Outcome<Self> {
        keep::tidy(folder, limits, SystemTime::now())?;
        Ok(Self {
            folder: folder.into(),
            limits,
            pre_roll: pre * SECOND,
            post_roll: post * SECOND,
            hub: Arc::clone(hub),
            ring: Ring::new(pre * SECOND + LATE),
            clip: None,
            entries: BTreeMap::new(),
            waiting: Vec::new(),
            newest: 0,
            ended: 0,
        })
    }

    /// Takes the next frame.
    pub(super) fn take(&mut self, frame: Frame<Encoded>) {
        if self
            .clip
            .as_ref()
            .is_some_and(|(clip, _)| !clip.takes(&frame))
        {
            self.close();
            self.ring.clear();
        }
        self.newest = self.newest.max(frame.pts);
        let is_long = |(clip, _): &(Clip, String)| frame.pts > clip.first() + LONGEST;
        if frame.is_key && self.clip.as_ref().is_some_and(is_long) {
            self.go_on(frame);
            return;
        }
        if let Some((clip, _)) = &self.clip
            && let Err(e) = clip.push(&frame)
        {
            self.give_up(&e);
        }
        self.ring.push(frame);
        if !self.ring.is_empty() {
            let waiting = std::mem::take(&mut self.waiting);
            waiting.iter().for_each(|told| self.begin(told));
        }
        if self.clip.is_some() && !self.is_open() && self.newest >= self.ended + self.post_roll {
            self.close();
        }
    }

    /// Frames are missing here.
    pub(super) fn skip(&mut self) {
        self.close();
        self.ring.clear();
        self.complain("the disk is too slow: frames of clips are missing");
    }

    /// What has come so far has come to an end, and events with it.
    pub(super) fn cut(&mut self) {
        let newest = self.newest;
        for entry in self.entries.values_mut() {
            entry.end_pts.get_or_insert(newest);
        }
        self.close();
        self.ring.clear();
        self.waiting.clear();
        self.newest = 0;
        self.ended = 0;
    }

    /// Takes what is said of an event.
    pub(super) fn hear(&mut self, told: &Told) {
        match told.moment {
            Moment::Begin => self.begin(told),
            Moment::Peak => {
                if let Some(entry) = self.entries.get_mut(&told.id) {
                    entry.peak = told.score;
                    entry.peak_pts = told.pts;
                }
            }
            Moment::End => {
                self.waiting.retain(|waiting| waiting.id != told.id);
                if let Some(entry) = self.entries.get_mut(&told.id) {
                    let end = told.pts.unwrap_or(self.newest);
                    entry.end_pts = Some(end);
                    self.ended = self.ended.max(end);
                }
            }
        }
    }

    fn is_open(&self) -> bool {
        self.entries.values().any(|entry| entry.end_pts.is_none())
    }

    fn begin(&mut self, told: &Told) {
        if self.ring.is_empty() {
            self.waiting.push(told.clone());
            return;
        }
        let since = told.since.or(told.pts).unwrap_or(self.newest);
        if self.clip.is_none()
            && let Err(e) = self.open(since.saturating_sub(self.pre_roll))
        {
            self.give_up(&e);
        }
        let Some((clip, name)) = &self.clip else {
            return;
        };
        let entry = Entry {
            clips: vec![name.clone()],
            event_id: told.id,
            recorded_at: crate::monitor::board::now(),
            offset: since.saturating_sub(clip.first()) as f64 / SECOND as f64,
            begin_pts: since,
            peak: told.score,
            peak_pts: told.pts,
            ..Entry::default()
        };
        self.entries.insert(told.id, entry);
    }

    /// Begins a clip with what is remembered since `pts`.
    fn open(&mut self, pts: u64) -> Outcome {
        let mut frames = self.ring.from(pts).peekable();
        let Some(first) = frames.peek() else {
            return Ok(());
        };
        let clip = Clip::begin(&self.folder, first)?;
        for frame in frames {
            clip.push(frame)?;
        }
        self.clip = Some((clip, self.name()?));
        Ok(())
    }

    /// Goes on in another clip, which begins with that key frame.
    fn go_on(&mut self, frame: Frame<Encoded>) {
        let entries = std::mem::take(&mut self.entries).into_iter();
        let (open, ended): (BTreeMap<_, _>, BTreeMap<_, _>) =
            entries.partition(|(_, entry)| entry.end_pts.is_none());
        self.entries = ended;
        self.close();
        self.ring.clear();
        let pts = frame.pts;
        self.ring.push(frame);
        if open.is_empty() {
            return;
        }
        if let Err(e) = self.open(pts) {
            self.give_up(&e);
        }
        let Some((_, name)) = &self.clip else { return };
        for (id, mut entry) in open {
            entry.clips.push(name.clone());
            self.entries.insert(id, entry);
        }
    }

    fn name(&self) -> Outcome<String> {
        let now = gst::glib::DateTime::now_utc();
        let now =
            now.and_then(|now| Ok((now.format("%Y-%m-%dT%H-%M-%S")?, now.microsecond() / 1000)));
        let (now, ms) =
            now.map_err(|e| Failure::Arguments(format!("the clock cannot be read: {e}")))?;
        Ok(format!("{}{now}-{ms:03}Z{}", NAMES[0], NAMES[1]))
    }

    /// Ends the clip, if there is one.
    pub(super) fn close(&mut self) {
        let Some((clip, name)) = self.clip.take() else {
            return;
        };
        let entries = std::mem::take(&mut self.entries);
        let done = clip
            .finish(&self.folder.join(&name))
            .and_then(|()| self.enter(entries.values()));
        match done {
            Ok(()) => entries
                .keys()
                .for_each(|id| self.hub.board.record(*id, &name)),
            Err(e) => self.complain(&e.to_string()),
        }
        if let Err(e) = keep::tidy(&self.folder, self.limits, SystemTime::now()) {
            self.complain(&e.to_string());
        }
    }

    /// Appends events to the journal.
    fn enter<'a>(&self, entries: impl Iterator<Item = &'a Entry>) -> Outcome {
        let path = self.folder.join(JOURNAL);
        let append = || {
            let mut lines = String::new();
            for entry in entries {
                lines.push_str(&serde_json::to_string(entry)?);
                lines.push('\n');
            }
            let mut options = OpenOptions::new();
            let mut file = options.append(true).create(true).mode(0o600).open(&path)?;
            file.write_all(lines.as_bytes())?;
            file.sync_all()?;
            File::open(&self.folder)?.sync_all()
        };
        append().map_err(Failure::io(&path))
    }

    fn give_up(&mut self, why: &Failure) {
        self.clip = None;
        self.entries.clear();
        self.complain(&why.to_string());
    }

    fn complain(&self, why: &str) {
        let why = format!("--record {}: {why}", self.folder.display());
        warn(&why);
        self.hub.board.tell(|status| status.warning = Some(why));
    }
}
