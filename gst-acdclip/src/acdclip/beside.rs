//! A strip that is looked at beside the stream: a thread takes frames in order, and tells of each when its lines have settled.
//!
//! Frames wait for it in a queue of bounded length. One that finds the queue full goes by unseen: its lines are missing from the strip, which is
//! broken there.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded, unbounded};

use super::strip::{Progress, StripRun, Terms};
use crate::batch::{Failure, guarded};

enum Job {
    Frame {
        buffer: gst::Buffer,
        frame: u64,
        /// Frames before it that went by unseen.
        missed: usize,
        terms: Terms,
    },
    End(Terms),
}

/// Why a frame was not taken.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// As many as may wait do.
    Full,
    /// The thread has ended.
    Gone,
}

/// A strip on a thread of its own.
pub(super) struct Beside {
    jobs: Sender<Job>,
    answers: Receiver<Progress>,
    given_up: Arc<AtomicBool>,
    thread: JoinHandle<()>,
    missed: usize,
}

impl Beside {
    /// Looks at a strip on a thread, for which up to `waiting` frames wait.
    pub(super) fn spawn(run: StripRun, waiting: usize) -> std::io::Result<Self> {
        let (jobs, todo) = bounded(waiting);
        let (tell, answers) = unbounded();
        let given_up = Arc::new(AtomicBool::new(false));
        let heard = given_up.clone();
        let thread = std::thread::Builder::new()
            .name("acdclip:strip".into())
            .spawn(move || serve(run, &todo, &tell, &heard))?;
        Ok(Self {
            jobs,
            answers,
            given_up,
            thread,
            missed: 0,
        })
    }

    /// Has a frame looked at after those before it.
    pub(super) fn offer(
        &mut self,
        buffer: gst::Buffer,
        frame: u64,
        terms: Terms,
    ) -> Result<(), Refusal> {
        let job = Job::Frame {
            buffer,
            frame,
            missed: self.missed,
            terms,
        };
        let refusal = match self.jobs.try_send(job) {
            Ok(()) => {
                self.missed = 0;
                return Ok(());
            }
            Err(TrySendError::Full(_)) => Refusal::Full,
            Err(TrySendError::Disconnected(_)) => Refusal::Gone,
        };
        self.miss();
        Err(refusal)
    }

    /// A frame goes by unseen.
    pub(super) fn miss(&mut self) {
        self.missed += 1;
    }

    /// What has become of frames since it was last asked for.
    pub(super) fn news(&self) -> Vec<Progress> {
        self.answers.try_iter().collect()
    }

    /// No frame of the strip follows. Waits until all are looked at.
    pub(super) fn end(self, terms: Terms) -> Vec<Progress> {
        // A thread that is gone has nothing left to look at.
        let _ = self.jobs.send(Job::End(terms));
        self.finish()
    }

    /// Forgets the frames that wait.
    pub(super) fn discard(self) -> Vec<Progress> {
        self.given_up.store(true, Ordering::Relaxed);
        self.finish()
    }

    fn finish(self) -> Vec<Progress> {
        drop(self.jobs);
        let news = self.answers.iter().collect();
        // It has caught its panics, so there is nothing to hear of.
        let _ = self.thread.join();
        news
    }
}

fn serve(mut run: StripRun, todo: &Receiver<Job>, tell: &Sender<Progress>, given_up: &AtomicBool) {
    for job in todo {
        if given_up.load(Ordering::Relaxed) {
            break;
        }
        let is_end = matches!(job, Job::End(_));
        let progress = guarded(|| done(&mut run, job));
        let panicked = progress.is_err();
        let progress = progress.unwrap_or_else(|e| Progress {
            failure: Some(Failure::Failed(e)),
            ..Progress::default()
        });
        // Where nobody listens any more there is nobody to look for.
        if tell.send(progress).is_err() || panicked || is_end {
            return;
        }
    }
    let _ = tell.send(run.discard());
}

fn done(run: &mut StripRun, job: Job) -> Progress {
    match job {
        Job::Frame {
            buffer,
            frame,
            missed,
            terms,
        } => {
            run.miss(missed);
            run.take(buffer, frame, true, terms)
        }
        Job::End(terms) => run.end(terms),
    }
}
