//! What scoring costs, as the LATENCY query needs it: the worst of the recent past, and only told anew when it has really changed.

use std::{collections::VecDeque, time::Duration};

/// Measurements that count as recent.
const WINDOW: usize = 128;

/// The cost of scoring a frame.
#[derive(Debug, Default)]
pub(crate) struct LatencyMeter {
    recent: VecDeque<Duration>,
    announced: Duration,
}

impl LatencyMeter {
    /// Announces an estimate, which counts only until there is a measurement.
    pub(crate) fn expect(&mut self, cost: Duration) {
        self.announced = with_room(cost);
    }

    /// Takes a measurement; tells whether [`Self::announced`] has changed.
    pub(crate) fn push(&mut self, cost: Duration) -> bool {
        if self.recent.len() == WINDOW {
            self.recent.pop_front();
        }
        self.recent.push_back(cost);
        let worst = self
            .recent
            .iter()
            .max()
            .map_or(Duration::ZERO, |worst| with_room(*worst));
        let changed = worst.abs_diff(self.announced) > self.announced / 4;
        if changed {
            self.announced = worst;
        }
        changed
    }

    /// What a frame needs at worst; steady but for changes of more than a quarter.
    pub(crate) fn announced(&self) -> Duration {
        self.announced
    }
}

/// 5 % more than was ever needed of late, so that the worst frame itself is still in time.
fn with_room(worst: Duration) -> Duration {
    worst * 21 / 20
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_estimate_gives_way_to_the_first_measurement() {
        let ms = Duration::from_millis;
        let mut meter = LatencyMeter::default();
        meter.expect(ms(200));
        assert_eq!(meter.announced(), ms(210));
        assert!(meter.push(ms(100)));
        assert_eq!(meter.announced(), ms(105));
    }

    #[test]
    fn only_large_changes_are_told() {
        let ms = Duration::from_millis;
        let mut meter = LatencyMeter::default();
        assert!(meter.push(ms(100)));
        assert_eq!(meter.announced(), ms(105));
        assert!(!meter.push(ms(110)));
        assert_eq!(meter.announced(), ms(105));
        assert!(meter.push(ms(200)));
        assert_eq!(meter.announced(), ms(210));
        let told = (0..WINDOW).filter(|_| meter.push(ms(100))).count();
        assert_eq!(told, 1, "the old worst is forgotten once");
        assert_eq!(meter.announced(), ms(105));
    }
}
