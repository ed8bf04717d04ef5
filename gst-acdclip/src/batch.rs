//! Jobs of many streams, done by one worker thread: several at a time, and everybody in turn.
//!
//! A stream has a [`Line`] to the worker and waits on it for what it has asked for, so no line can have a queue that grows. When the worker
//! is free it takes the jobs that wait, the oldest first: a stream of 60 frames a second, whose next job comes when its last one is done,
//! never overtakes one of 5 frames a second that waits. What a job is, and how a batch is done, is the caller's.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded, select, unbounded};
use parking_lot::Mutex;

/// How long a job may wait for company, and how much of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Most jobs in one batch, 1 or more.
    pub(crate) max_batch: usize,
    /// How long a job waits at most for others, where there are others.
    pub(crate) timeout: Duration,
}

/// Why a job has no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Failure {
    /// Its line was closed while it waited.
    Cancelled,
    /// The batch failed, for the reason given.
    Failed(String),
}

/// A job's answer, and how it came about.
#[derive(Debug)]
pub(crate) struct Done<R> {
    pub(crate) answer: R,
    /// From the call to the batch's start.
    pub(crate) queued: Duration,
    /// From the batch's start to its end.
    pub(crate) ran: Duration,
    /// Jobs in the batch.
    pub(crate) batch: usize,
}

struct Waiting<J, R> {
    job: J,
    limits: Limits,
    since: Instant,
    withdrawn: Arc<AtomicBool>,
    reply: Sender<Result<Done<R>, Failure>>,
}

/// The worker. Dropped, it ends its thread, once the last line is gone.
pub(crate) struct Worker<J, R> {
    jobs: Option<Sender<Vec<Waiting<J, R>>>>,
    lines: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
}

impl<J: Send + 'static, R: Send + 'static> Worker<J, R> {
    /// A worker that does batches by `run`, which answers in order. A panic in it is the batch's failure.
    pub(crate) fn spawn(
        name: &str,
        run: impl FnMut(Vec<J>) -> Vec<Result<R, String>> + Send + 'static,
    ) -> std::io::Result<Self> {
        let (jobs, received) = unbounded();
        let lines = Arc::new(AtomicUsize::new(0));
        let state = Batches {
            received,
            lines: lines.clone(),
            waiting: Vec::new(),
        };
        let thread = std::thread::Builder::new()
            .name(name.into())
            .spawn(move || state.serve(run))?;
        Ok(Self {
            jobs: Some(jobs),
            lines,
            thread: Some(thread),
        })
    }

    /// A new stream's line. It must not outlive the worker, which waits for it.
    pub(crate) fn line(&self) -> Line<J, R> {
        self.lines.fetch_add(1, Ordering::Relaxed);
        Line {
            jobs: self.jobs.clone(),
            lines: self.lines.clone(),
            gate: Mutex::new(Gate::open()),
        }
    }
}

impl<J, R> Drop for Worker<J, R> {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // It has caught its panics, so there is nothing to hear of.
            let _ = thread.join();
        }
    }
}

/// Open while somebody holds its sender: a waiter sees the receiver hang up.
struct Gate {
    _open: Sender<()>,
    closed: Receiver<()>,
}

impl Gate {
    fn open() -> Option<Self> {
        let (open, closed) = bounded(0);
        Some(Self {
            _open: open,
            closed,
        })
    }
}

/// A stream's line to the worker.
pub(crate) struct Line<J, R> {
    jobs: Option<Sender<Vec<Waiting<J, R>>>>,
    lines: Arc<AtomicUsize>,
    gate: Mutex<Option<Gate>>,
}

impl<J, R> Line<J, R> {
    /// Has `job` done and waits for it, unless the line is or gets closed.
    pub(crate) fn call(&self, job: J, limits: Limits) -> Result<Done<R>, Failure> {
        let done = self.call_all(vec![job], limits)?.pop();
        done.ok_or_else(|| Failure::Failed("a job was not answered".into()))
    }

    /// The same for several jobs, which wait together; answers in order.
    pub(crate) fn call_all(&self, jobs: Vec<J>, limits: Limits) -> Result<Vec<Done<R>>, Failure> {
        let closed = match &*self.gate.lock() {
            Some(gate) => gate.closed.clone(),
            None => return Err(Failure::Cancelled),
        };
        let withdrawn = Arc::new(AtomicBool::new(false));
        let since = Instant::now();
        let (waiting, answers): (Vec<_>, Vec<_>) = jobs
            .into_iter()
            .map(|job| {
                let (reply, answer) = bounded(1);
                let waiting = Waiting {
                    job,
                    limits,
                    since,
                    withdrawn: withdrawn.clone(),
                    reply,
                };
                (waiting, answer)
            })
            .unzip();
        let gone = || Failure::Failed("the worker has ended".into());
        let worker = self.jobs.as_ref().ok_or_else(gone)?;
        worker.send(waiting).map_err(|_| gone())?;
        let wait = |answer: Receiver<Result<Done<R>, Failure>>| {
            select! {
                recv(answer) -> done => done.unwrap_or_else(|_| Err(gone())),
                recv(closed) -> _ => Err(Failure::Cancelled),
            }
        };
        let done: Result<Vec<_>, _> = answers.into_iter().map(wait).collect();
        if done.is_err() {
            withdrawn.store(true, Ordering::Relaxed);
        }
        done
    }

    /// Ends a wait at once, and lets nobody wait until it is opened again.
    pub(crate) fn close(&self) {
        *self.gate.lock() = None;
    }

    /// Lets jobs be done again.
    pub(crate) fn open(&self) {
        let mut gate = self.gate.lock();
        if gate.is_none() {
            *gate = Gate::open();
        }
    }
}

impl<J, R> Drop for Line<J, R> {
    fn drop(&mut self) {
        self.lines.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What the worker's thread knows.
struct Batches<J, R> {
    received: Receiver<Vec<Waiting<J, R>>>,
    lines: Arc<AtomicUsize>,
    waiting: Vec<Waiting<J, R>>,
}

impl<J, R> Batches<J, R> {
    fn serve(mut self, mut run: impl FnMut(Vec<J>) -> Vec<Result<R, String>>) {
        while self.gather() {
            let batch = self.take();
            let start = Instant::now();
            let (jobs, callers): (Vec<_>, Vec<_>) = batch
                .into_iter()
                .map(|waiting| {
                    let queued = start.duration_since(waiting.since);
                    (waiting.job, (queued, waiting.reply))
                })
                .unzip();
            let batch = jobs.len();
            let answers = guarded(|| run(jobs)).unwrap_or_else(|reason| {
                let each = std::iter::repeat_with(|| Err(reason.clone()));
                each.take(batch).collect()
            });
            let ran = start.elapsed();
            for ((queued, reply), answer) in callers.into_iter().zip(answers) {
                let done = answer.map_err(Failure::Failed).map(|answer| Done {
                    answer,
                    queued,
                    ran,
                    batch,
                });
                // Whoever has withdrawn meanwhile does not listen.
                let _ = reply.send(done);
            }
        }
    }

    /// Waits until there is a batch to be done; false when nobody can ask any more.
    fn gather(&mut self) -> bool {
        loop {
            self.waiting.extend(self.received.try_iter().flatten());
            self.forget_withdrawn();
            let next = match self.patience() {
                Some(Duration::ZERO) => return true,
                Some(patience) => self.received.recv_timeout(patience),
                None => self
                    .received
                    .recv()
                    .map_err(|_| RecvTimeoutError::Disconnected),
            };
            match next {
                Ok(waiting) => self.waiting.extend(waiting),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    self.forget_withdrawn();
                    return !self.waiting.is_empty();
                }
            }
        }
    }

    fn forget_withdrawn(&mut self) {
        self.waiting
            .retain(|waiting| !waiting.withdrawn.load(Ordering::Relaxed));
    }

    /// How long to wait for more jobs; none where there is no job yet.
    fn patience(&self) -> Option<Duration> {
        let patience = |waiting: &Waiting<J, R>| {
            let waited = waiting.since.elapsed();
            waiting.limits.timeout.saturating_sub(waited)
        };
        let least = self.waiting.iter().map(patience).min()?;
        let full = self.waiting.len() >= self.room();
        let everybody = self.callers() >= self.lines.load(Ordering::Relaxed);
        Some(if full || everybody {
            Duration::ZERO
        } else {
            least
        })
    }

    /// How many lines have jobs here, however many each: all of one call are withdrawn together.
    fn callers(&self) -> usize {
        let calls = self.waiting.iter();
        let mut calls: Vec<_> = calls.map(|job| Arc::as_ptr(&job.withdrawn)).collect();
        calls.sort_unstable();
        calls.dedup();
        calls.len()
    }

    /// The most jobs that all who wait agree to.
    fn room(&self) -> usize {
        let rooms = self.waiting.iter().map(|waiting| waiting.limits.max_batch);
        rooms.min().unwrap_or(1).max(1)
    }

    /// The jobs that have waited longest.
    fn take(&mut self) -> Vec<Waiting<J, R>> {
        let room = self.room().min(self.waiting.len());
        self.waiting.sort_by_key(|waiting| waiting.since);
        self.waiting.drain(..room).collect()
    }
}

/// What `run` gives, or what it said when it panicked. What it worked on is not looked at again.
pub(crate) fn guarded<R>(run: impl FnOnce() -> R) -> Result<R, String> {
    catch_unwind(AssertUnwindSafe(run))
        .map_err(|panic| format!("scoring panicked: {}", message(&*panic)))
}

/// What a panic said.
fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("it did not say why")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::thread;

    use super::*;

    const ALONE: Limits = Limits {
        max_batch: 1,
        timeout: Duration::ZERO,
    };

    /// Far longer than any test waits for anything that comes.
    const LONG: Duration = Duration::from_secs(60);

    /// A worker that tells of each batch before it does it, and waits for leave to go on; it answers with the job's double.
    struct Slow {
        worker: Worker<u32, u32>,
        begun: Receiver<Vec<u32>>,
        leave: Sender<()>,
    }

    fn slow() -> Slow {
        let (tell, begun) = unbounded();
        let (leave, left) = unbounded();
        let worker = Worker::spawn("test", move |jobs: Vec<u32>| {
            tell.send(jobs.clone()).unwrap();
            left.recv().unwrap();
            jobs.iter().map(|job| Ok(job * 2)).collect()
        });
        Slow {
            worker: worker.unwrap(),
            begun,
            leave,
        }
    }

    #[test]
    fn a_job_is_answered() {
        let slow = slow();
        slow.leave.send(()).unwrap();
        let done = slow.worker.line().call(4, ALONE).unwrap();
        assert_eq!((done.answer, done.batch), (8, 1));
    }

    #[test]
    fn jobs_that_wait_together_are_done_together() {
        let slow = slow();
        let limits = Limits {
            max_batch: 8,
            timeout: LONG,
        };
        let lines: Vec<_> = (0..3).map(|_| slow.worker.line()).collect();
        slow.leave.send(()).unwrap();
        thread::scope(|scope| {
            for (job, line) in lines.iter().enumerate() {
                scope.spawn(move || {
                    let done = line.call(job as u32, limits).unwrap();
                    assert_eq!((done.answer, done.batch), (2 * job as u32, 3));
                });
            }
        });
        let mut jobs = slow.begun.recv().unwrap();
        jobs.sort_unstable();
        assert_eq!(jobs, [0, 1, 2], "everybody waited, and nobody for longer");
    }

    #[test]
    fn several_jobs_of_one_stream_do_not_stand_for_another_stream() {
        let slow = slow();
        let (tiled, plain) = (slow.worker.line(), slow.worker.line());
        let patient = Limits {
            max_batch: 8,
            timeout: LONG,
        };
        slow.leave.send(()).unwrap();
        thread::scope(|scope| {
            scope.spawn(|| tiled.call_all(vec![1, 2], patient).unwrap());
            // By then the worker has them; were they enough for it, they would be a batch of their own.
            thread::sleep(Duration::from_millis(200));
            slow.leave.send(()).unwrap();
            scope.spawn(|| plain.call(3, patient).unwrap());
        });
        let mut jobs = slow.begun.recv().unwrap();
        jobs.sort_unstable();
        assert_eq!(jobs, [1, 2, 3]);
    }

    #[test]
    fn a_job_without_company_waits_no_longer_than_it_must() {
        let slow = slow();
        let _idle = slow.worker.line();
        slow.leave.send(()).unwrap();
        let limits = Limits {
            max_batch: 8,
            timeout: Duration::from_millis(20),
        };
        let done = slow.worker.line().call(1, limits).unwrap();
        assert_eq!(done.batch, 1);
        assert!(done.queued >= limits.timeout);
    }

    #[test]
    fn an_eager_stream_does_not_overtake_a_rare_one() {
        let slow = slow();
        let (eager, rare) = (slow.worker.line(), slow.worker.line());
        thread::scope(|scope| {
            let eager = &eager;
            scope.spawn(move || {
                for _ in 0..4 {
                    eager.call(60, ALONE).unwrap();
                }
            });
            assert_eq!(slow.begun.recv().unwrap(), [60]);
            // While the eager one's job is done the rare one comes.
            let sent = rare.jobs.clone().unwrap();
            scope.spawn(|| rare.call(5, ALONE).unwrap());
            while sent.is_empty() {
                thread::yield_now();
            }
            slow.leave.send(()).unwrap();
            assert_eq!(slow.begun.recv().unwrap(), [5]);
            (0..4).for_each(|_| slow.leave.send(()).unwrap());
        });
        assert_eq!(slow.begun.try_iter().count(), 3);
    }

    #[test]
    fn a_closed_line_waits_for_nothing_and_leaves_the_others_alone() {
        let slow = slow();
        let (closing, other) = (slow.worker.line(), slow.worker.line());
        thread::scope(|scope| {
            let waiter = scope.spawn(|| closing.call(1, ALONE));
            assert_eq!(slow.begun.recv().unwrap(), [1]);
            let bystander = scope.spawn(|| other.call(2, ALONE));
            closing.close();
            assert_eq!(waiter.join().unwrap().unwrap_err(), Failure::Cancelled);
            assert_eq!(closing.call(3, ALONE).unwrap_err(), Failure::Cancelled);
            (0..2).for_each(|_| slow.leave.send(()).unwrap());
            assert_eq!(bystander.join().unwrap().unwrap().answer, 4);
        });
        closing.open();
        slow.leave.send(()).unwrap();
        assert_eq!(closing.call(5, ALONE).unwrap().answer, 10);
        let begun: Vec<_> = slow.begun.try_iter().flatten().collect();
        assert_eq!(begun, [2, 5], "a job of a closed line was done");
    }

    #[test]
    fn a_panic_is_the_answer_of_those_in_the_batch_and_of_no_other() {
        let worker = Worker::spawn("test", |jobs: Vec<u32>| {
            assert!(!jobs.contains(&13), "thirteen");
            jobs.into_iter().map(Ok).collect()
        })
        .unwrap();
        let line = worker.line();
        let Err(Failure::Failed(reason)) = line.call(13, ALONE) else {
            panic!("a panic was answered")
        };
        assert!(reason.contains("thirteen"), "{reason}");
        assert_eq!(line.call(14, ALONE).unwrap().answer, 14);
    }

    #[test]
    fn a_failed_job_does_not_fail_its_neighbours() {
        let worker = Worker::spawn("test", |jobs: Vec<u32>| {
            let one = |job| match job {
                13 => Err("unlucky".to_owned()),
                job => Ok(job),
            };
            jobs.into_iter().map(one).collect()
        })
        .unwrap();
        let limits = Limits {
            max_batch: 2,
            timeout: LONG,
        };
        let (first, second) = (worker.line(), worker.line());
        thread::scope(|scope| {
            let bad = scope.spawn(|| first.call(13, limits));
            let good = scope.spawn(|| second.call(14, limits));
            let unlucky = Failure::Failed("unlucky".into());
            assert_eq!(bad.join().unwrap().unwrap_err(), unlucky);
            assert_eq!(good.join().unwrap().unwrap().batch, 2);
        });
    }
}
