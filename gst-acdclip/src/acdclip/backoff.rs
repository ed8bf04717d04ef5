//! When to try again what has failed: at once never, soon at first, later each time.

use std::time::{Duration, Instant};

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);

/// Failures in a row.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    wait: Option<(Instant, Duration)>,
}

impl Backoff {
    /// It has failed; says how long it is left alone.
    pub(super) fn fail(&mut self, now: Instant) -> Duration {
        let wait = match self.wait {
            Some((_, wait)) => (wait * 2).min(LONGEST),
            None => FIRST,
        };
        self.wait = Some((now + wait, wait));
        wait
    }

    /// It has gone well.
    pub(super) fn succeed(&mut self) {
        self.wait = None;
    }

    /// Whether it is to be left alone at `now`.
    pub(super) fn is_waiting(&self, now: Instant) -> bool {
        self.wait.is_some_and(|(until, _)| now < until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_doubles_up_to_a_minute_and_is_forgotten_when_all_is_well() {
        let now = Instant::now();
        let mut backoff = Backoff::default();
        assert!(!backoff.is_waiting(now));
        let waits: Vec<_> = (0..8).map(|_| backoff.fail(now).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert!(backoff.is_waiting(now + Duration::from_secs(59)));
        assert!(!backoff.is_waiting(now + LONGEST));
        backoff.succeed();
        assert!(!backoff.is_waiting(now));
        assert_eq!(backoff.fail(now), FIRST);
    }
}
