//! Which frames are late, by what downstream says of earlier ones (QoS events).

/// The earliest running time that is still of use, as far as is known.
#[derive(Debug, Default)]
pub(super) struct Lateness {
    earliest: Option<gst::ClockTime>,
}

impl Lateness {
    /// Takes a QoS event: a buffer of running time `timestamp` came `jitter` ns after it was due, or before.
    pub(super) fn hear(&mut self, timestamp: Option<gst::ClockTime>, jitter: i64) {
        let Some(timestamp) = timestamp else { return };
        let late = gst::ClockTime::from_nseconds(jitter.max(0).unsigned_abs());
        self.earliest = Some(if jitter > 0 {
            // As GStreamer's decoders do: what comes now will be later by as much again.
            timestamp.saturating_add(late).saturating_add(late)
        } else {
            timestamp
        });
    }

    /// Whether a buffer of that running time comes too late.
    pub(super) fn is_late(&self, running_time: Option<gst::ClockTime>) -> bool {
        running_time
            .zip(self.earliest)
            .is_some_and(|(time, earliest)| time < earliest)
    }

    /// Forgets all of it, with the timeline that it was about.
    pub(super) fn forget(&mut self) {
        self.earliest = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Option<gst::ClockTime> {
        Some(gst::ClockTime::from_mseconds(ms))
    }

    #[test]
    fn what_comes_after_a_late_frame_is_late_for_as_long_again() {
        let mut lateness = Lateness::default();
        assert!(!lateness.is_late(ms(0)));
        lateness.hear(ms(100), 40_000_000);
        assert!(lateness.is_late(ms(120)) && lateness.is_late(ms(179)));
        assert!(!lateness.is_late(ms(180)) && !lateness.is_late(None));
        lateness.hear(ms(200), -5_000_000);
        assert!(!lateness.is_late(ms(210)));
        lateness.hear(ms(200), i64::MIN);
        lateness.hear(ms(300), 40_000_000);
        lateness.forget();
        assert!(!lateness.is_late(ms(310)));
    }
}
