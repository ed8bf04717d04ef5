//! Time that passes, and never goes back.

/// Adds up the steps of a stream's time. A step back counts as none: what is measured goes on from there, and does not wait until the time
/// before is reached again.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Clock {
    last: Option<u64>,
    passed: u64,
}

impl Clock {
    /// Nanoseconds that have passed at `time` since the first time given.
    pub(super) fn advance(&mut self, time: u64) -> u64 {
        let step = self.last.map_or(0, |last| time.saturating_sub(last));
        self.last = Some(time);
        self.passed = self.passed.saturating_add(step);
        self.passed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_back_is_no_time_at_all() {
        let mut clock = Clock::default();
        let passed = [100, 130, 20, 25, 25, 30].map(|time| clock.advance(time));
        assert_eq!(passed, [0, 30, 30, 35, 35, 40]);
    }

    #[test]
    fn the_ends_of_time_are_taken() {
        let mut clock = Clock::default();
        let passed = [0, u64::MAX, 0, u64::MAX].map(|time| clock.advance(time));
        assert_eq!(passed, [0, u64::MAX, u64::MAX, u64::MAX]);
    }
}
