//! From a score to an alarm: two levels and two durations, so that neither noise nor flicker makes or ends one.

/// The levels between which an alarm keeps its state.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Levels {
    /// A value at or above it is abnormal.
    pub raise: f32,
    /// What is abnormal stays so at or above it. Above `raise` it counts as `raise`.
    pub release: f32,
}

impl Levels {
    /// Whether a value may raise an alarm. What is not finite may not.
    fn raised_by(self, value: f32) -> bool {
        value.is_finite() && value >= self.raise
    }

    /// Whether a value keeps one.
    fn kept_by(self, value: f32) -> bool {
        value.is_finite() && value >= self.release.min(self.raise)
    }
}

/// How long things must last, nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Durations {
    /// Something abnormal is told when it has lasted this long; 0: at once.
    pub min_duration: u64,
    /// It is over when nothing of it has been seen for longer than this; 0: at once.
    pub hold: u64,
}

/// Whether what was last seen at `seen`, and is not seen at `now`, is over.
pub(super) fn is_over(seen: u64, now: u64, hold: u64) -> bool {
    hold == 0 || now.saturating_sub(seen) > hold
}

/// What an alarm makes of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum State {
    /// Nothing abnormal.
    #[default]
    Normal,
    /// Abnormal, but not for long enough yet.
    Suspected,
    /// The alarm stands, and the value is abnormal.
    Raised,
    /// The alarm stands, though the value is below the release level, for no longer than the hold time.
    Held,
}

impl State {
    /// Whether the alarm stands.
    pub fn stands(self) -> bool {
        matches!(self, Self::Raised | Self::Held)
    }

    /// Whether the value is abnormal.
    pub fn is_abnormal(self) -> bool {
        matches!(self, Self::Suspected | Self::Raised)
    }
}

/// An alarm with hysteresis over a stream of values.
///
/// The run that leads to it starts with a value at or above the raise level, and lasts while none falls below the release level. Levels and
/// durations are given with each value and may change in between.
#[derive(Debug, Clone, Default)]
pub struct Alarm {
    state: State,
    run: Option<Run>,
}

#[derive(Debug, Clone, Copy)]
struct Run {
    onset: u64,
    last: u64,
}

impl Alarm {
    /// Takes the value at `time`, which must not go back.
    pub fn push(&mut self, time: u64, value: f32, levels: Levels, durations: Durations) -> State {
        let kept = levels.kept_by(value);
        self.run = match self.run {
            Some(run) if kept => Some(Run { last: time, ..run }),
            Some(run) if self.state.stands() && !is_over(run.last, time, durations.hold) => {
                Some(run)
            }
            None if levels.raised_by(value) => Some(Run {
                onset: time,
                last: time,
            }),
            _ => None,
        };
        self.state = match self.run {
            None => State::Normal,
            Some(_) if !kept => State::Held,
            Some(_) if self.state.stands() => State::Raised,
            Some(run) if time.saturating_sub(run.onset) >= durations.min_duration => State::Raised,
            Some(_) => State::Suspected,
        };
        self.state
    }

    /// What was made of the last value.
    pub fn state(&self) -> State {
        self.state
    }

    /// When the run began that led to the alarm, or may lead to it.
    pub fn onset(&self) -> Option<u64> {
        self.run.map(|run| run.onset)
    }

    /// The last moment of that run at or above the release level.
    pub fn last(&self) -> Option<u64> {
        self.run.map(|run| run.last)
    }

    /// Clears the alarm and forgets the run.
    pub fn reset(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LEVELS: Levels = Levels {
        raise: 0.6,
        release: 0.4,
    };

    /// What becomes of one value every 10 ns.
    fn states(values: &[f32], levels: Levels, min_duration: u64, hold: u64) -> String {
        let mut alarm = Alarm::default();
        let durations = Durations { min_duration, hold };
        let letter = |(i, value): (usize, &f32)| match alarm.push(
            i as u64 * 10,
            *value,
            levels,
            durations,
        ) {
            State::Normal => '.',
            State::Suspected => '?',
            State::Raised => '#',
            State::Held => '-',
        };
        values.iter().enumerate().map(letter).collect()
    }

    #[test]
    fn between_the_levels_an_alarm_keeps_its_state() {
        assert_eq!(
            states(&[0.5, 0.6, 0.5, 0.4, 0.39, 0.5], LEVELS, 0, 0),
            ".###.."
        );
    }

    #[test]
    fn what_does_not_last_raises_nothing() {
        assert_eq!(states(&[0.7, 0.5, 0.3, 0.7], LEVELS, 20, 0), "??.?");
        assert_eq!(states(&[0.7, 0.5, 0.5, 0.3], LEVELS, 20, 0), "??#.");
    }

    #[test]
    fn an_alarm_is_held_over_a_gap_no_longer_than_the_hold_time() {
        assert_eq!(states(&[0.7, 0.1, 0.1, 0.5], LEVELS, 0, 20), "#--#");
        assert_eq!(states(&[0.7, 0.1, 0.1, 0.1, 0.5], LEVELS, 0, 20), "#--..");
    }

    #[test]
    fn a_release_above_the_raise_level_counts_as_that() {
        let levels = Levels {
            raise: 0.5,
            release: 0.9,
        };
        assert_eq!(states(&[0.5, 0.6, 0.49], levels, 0, 0), "##.");
    }

    #[test]
    fn what_is_not_finite_is_not_abnormal() {
        let values = [f32::INFINITY, 0.7, f32::NAN, 0.7, f32::INFINITY];
        assert_eq!(states(&values, LEVELS, 0, 0), ".#.#.");
    }

    #[test]
    fn the_onset_is_the_first_frame_at_the_raise_level() {
        let mut alarm = Alarm::default();
        let durations = Durations {
            min_duration: 20,
            hold: 100,
        };
        for (time, value) in [(0, 0.5), (10, 0.7), (20, 0.5), (30, 0.5), (40, 0.1)] {
            alarm.push(time, value, LEVELS, durations);
        }
        assert_eq!(alarm.state(), State::Held);
        assert_eq!((alarm.onset(), alarm.last()), (Some(10), Some(30)));
        alarm.reset();
        assert_eq!((alarm.onset(), alarm.state()), (None, State::Normal));
    }

    #[test]
    fn other_levels_hold_from_the_next_value_on() {
        let mut alarm = Alarm::default();
        let at_once = Durations::default();
        assert!(alarm.push(0, 0.7, LEVELS, at_once).stands());
        let higher = Levels {
            raise: 0.9,
            release: 0.8,
        };
        assert!(!alarm.push(10, 0.7, higher, at_once).stands());
    }

    /// The words of the definition, looked up in all that was: raised at a moment, and at none since cleared.
    fn stands(frames: &[(u64, f32)], levels: Levels, durations: Durations) -> bool {
        let kept = |i: usize| frames[i].1 >= levels.release.min(levels.raise);
        let raised_at = |j: usize| {
            (0..=j).any(|k| {
                frames[k].1 >= levels.raise
                    && (k..=j).all(kept)
                    && frames[j].0 - frames[k].0 >= durations.min_duration
            })
        };
        let cleared_at = |c: usize| {
            let last = (0..c).rev().find(|i| kept(*i)).map(|i| frames[i].0);
            !kept(c)
                && last
                    .is_none_or(|last| durations.hold == 0 || frames[c].0 - last > durations.hold)
        };
        (0..frames.len()).any(|j| raised_at(j) && !(j + 1..frames.len()).any(cleared_at))
    }

    proptest! {
        #[test]
        fn an_alarm_stands_by_its_definition(
            steps in prop::collection::vec((0u64..30, 0.0f32..1.0), 1..40),
            (raise, release) in (0.2f32..0.8, 0.2f32..0.8),
            (min_duration, hold) in (0u64..60, 0u64..60),
        ) {
            let (levels, durations) = (Levels { raise, release }, Durations { min_duration, hold });
            let mut alarm = Alarm::default();
            let mut frames = Vec::new();
            let mut time = 0;
            for (elapsed, value) in steps {
                time += elapsed;
                frames.push((time, value));
                let state = alarm.push(time, value, levels, durations);
                prop_assert_eq!(state.stands(), stands(&frames, levels, durations));
            }
        }
    }
}
