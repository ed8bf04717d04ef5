//! Scoring beside the stream: a thread that looks at one frame at a time, and holds at most one more, the newest.
//!
//! The streaming thread offers a frame only where the thread is free or about to be ([`Latest::wants`]), so that what is scored next is
//! new, and the memory of few frames is held. Every offer replaces the one before. A flush makes whatever is under way worthless: its
//! result is thrown away when it comes.

use std::{
    sync::Arc,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex};

use crate::batch::{Failure, guarded};

/// Scores what it is offered. `Job` is what is offered, `Answer` what comes of it.
pub(super) struct Latest<Job, Answer> {
    shared: Arc<Shared<Job, Answer>>,
    thread: Option<JoinHandle<()>>,
}

struct Shared<Job, Answer> {
    state: Mutex<State<Job, Answer>>,
    /// Told of every change of the state.
    changed: Condvar,
}

struct State<Job, Answer> {
    waiting: Option<Job>,
    answer: Option<Result<Answer, Failure>>,
    /// When the job under way was begun.
    begun: Option<Instant>,
    /// What the last one took.
    took: Duration,
    /// Jobs of an earlier era have no answer.
    era: u64,
    ended: bool,
}

impl<Job: Send + 'static, Answer: Send + 'static> Latest<Job, Answer> {
    /// A thread that does jobs by `run`.
    pub(super) fn spawn(
        run: impl FnMut(Job) -> Result<Answer, Failure> + Send + 'static,
    ) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                waiting: None,
                answer: None,
                begun: None,
                took: Duration::ZERO,
                era: 0,
                ended: false,
            }),
            changed: Condvar::new(),
        });
        let own = shared.clone();
        let thread = std::thread::Builder::new()
            .name("acdclip:latest".into())
            .spawn(move || own.serve(run))?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// Whether a job offered now will be begun within `soon`, as far as can be told from what the last one took.
    pub(super) fn wants(&self, soon: Duration) -> bool {
        let state = self.shared.state.lock();
        state
            .begun
            .is_none_or(|begun| begun.elapsed() + soon >= state.took)
    }

    /// To be done next, instead of what waits; tells whether something waited.
    pub(super) fn offer(&self, job: Job) -> bool {
        // What is replaced is dropped outside the lock.
        let replaced = self.shared.state.lock().waiting.replace(job);
        self.shared.changed.notify_all();
        replaced.is_some()
    }

    /// The newest answer, once.
    pub(super) fn take(&self) -> Option<Result<Answer, Failure>> {
        self.shared.state.lock().answer.take()
    }

    /// Forgets what waits, what is under way and what was answered.
    pub(super) fn flush(&self) {
        let mut state = self.shared.state.lock();
        state.era += 1;
        let forgotten = (state.waiting.take(), state.answer.take());
        drop(state);
        drop(forgotten);
    }

    /// The next answer, waited for until `until` where a job is under way or waits; none where there will be none, or not in time.
    pub(super) fn next_answer(&self, until: Instant) -> Option<Result<Answer, Failure>> {
        let mut state = self.shared.state.lock();
        while state.answer.is_none() && (state.begun.is_some() || state.waiting.is_some()) {
            let waited = self.shared.changed.wait_until(&mut state, until);
            if waited.timed_out() {
                break;
            }
        }
        state.answer.take()
    }
}

impl<Job, Answer> Drop for Latest<Job, Answer> {
    fn drop(&mut self) {
        self.shared.state.lock().ended = true;
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            // It has caught its panics, so there is nothing to hear of.
            let _ = thread.join();
        }
    }
}

impl<Job, Answer> Shared<Job, Answer> {
    fn serve(&self, mut run: impl FnMut(Job) -> Result<Answer, Failure>) {
        while let Some((job, era)) = self.next() {
            let start = Instant::now();
            let answer = guarded(|| run(job)).unwrap_or_else(|e| Err(Failure::Failed(e)));
            let mut state = self.state.lock();
            state.begun = None;
            state.took = start.elapsed();
            if state.era == era {
                state.answer = Some(answer);
            }
            drop(state);
            self.changed.notify_all();
        }
    }

    /// The next job and its era; none at the end.
    fn next(&self) -> Option<(Job, u64)> {
        let mut state = self.state.lock();
        loop {
            if state.ended {
                return None;
            }
            if let Some(job) = state.waiting.take() {
                state.begun = Some(Instant::now());
                return Some((job, state.era));
            }
            self.changed.wait(&mut state);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use crossbeam_channel::{Receiver, Sender, unbounded};

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn next(latest: &Latest<u32, u32>) -> Option<Result<u32, Failure>> {
        latest.next_answer(Instant::now() + LONG)
    }

    /// Doubles a number when it is told to.
    struct Slow {
        latest: Latest<u32, u32>,
        begun: Receiver<u32>,
        leave: Sender<()>,
    }

    fn slow() -> Slow {
        let (tell, begun) = unbounded();
        let (leave, left) = unbounded();
        let latest = Latest::spawn(move |job: u32| {
            tell.send(job).unwrap();
            left.recv().unwrap();
            Ok(job * 2)
        });
        Slow {
            latest: latest.unwrap(),
            begun,
            leave,
        }
    }

    #[test]
    fn the_newest_frame_is_next_and_no_other_waits() {
        let slow = slow();
        assert!(!slow.latest.offer(1));
        assert_eq!(slow.begun.recv().unwrap(), 1);
        let replaced = (2..=5).filter(|job| slow.latest.offer(*job)).count();
        assert_eq!(replaced, 3);
        (0..2).for_each(|_| slow.leave.send(()).unwrap());
        let answers: Vec<_> = std::iter::from_fn(|| next(&slow.latest)).collect();
        assert_eq!(answers.last(), Some(&Ok(10)));
        assert_eq!(slow.begun.try_iter().collect::<Vec<_>>(), [5]);
    }

    #[test]
    fn nothing_from_before_a_flush_comes_after_it() {
        let slow = slow();
        slow.latest.offer(1);
        assert_eq!(slow.begun.recv().unwrap(), 1);
        slow.latest.offer(2);
        slow.latest.flush();
        slow.leave.send(()).unwrap();
        assert_eq!(next(&slow.latest), None);
        slow.leave.send(()).unwrap();
        slow.latest.offer(3);
        assert_eq!(next(&slow.latest), Some(Ok(6)));
        slow.latest.offer(4);
        slow.leave.send(()).unwrap();
        slow.begun.iter().find(|job| *job == 4).unwrap();
        slow.latest.flush();
        assert_eq!(next(&slow.latest), None);
    }

    #[test]
    fn a_frame_is_wanted_when_the_one_before_is_about_to_be_done() {
        let slow = slow();
        assert!(slow.latest.wants(Duration::ZERO), "it had nothing to do");
        slow.leave.send(()).unwrap();
        slow.latest.offer(1);
        assert_eq!(next(&slow.latest), Some(Ok(2)));
        slow.latest.shared.state.lock().took = LONG;
        slow.latest.offer(2);
        slow.begun.iter().find(|job| *job == 2).unwrap();
        assert!(!slow.latest.wants(Duration::ZERO));
        assert!(slow.latest.wants(LONG));
        slow.leave.send(()).unwrap();
    }

    #[test]
    fn a_panic_is_an_answer_and_not_the_end() {
        let latest = Latest::spawn(|job: u32| {
            assert_ne!(job, 13, "unlucky");
            Ok(job)
        })
        .unwrap();
        latest.offer(13);
        let Some(Err(Failure::Failed(reason))) = next(&latest) else {
            panic!("a panic was answered")
        };
        assert!(reason.contains("unlucky"), "{reason}");
        latest.offer(14);
        assert_eq!(next(&latest), Some(Ok(14)));
    }

    #[test]
    fn waiting_for_the_last_one_has_an_end() {
        let slow = slow();
        slow.latest.offer(1);
        let until = Instant::now() + Duration::from_millis(10);
        assert_eq!(slow.latest.next_answer(until), None);
        slow.leave.send(()).unwrap();
    }
}
