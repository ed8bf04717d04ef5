//! TensorBoard's event files: scalars by name and step.
//!
//! A file is a row of TFRecords (length, checksum, bytes, checksum), each an `Event` message of TensorFlow's `event.proto`, of which only
//! the few fields that scalars need are written here.

use std::{
    fs::File,
    io::Write,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use crate::outcome::{Failure, Outcome};

/// What every event file begins with.
const FILE_VERSION: &str = "brain.Event:2";

/// Protobuf's wire types.
const VARINT: u8 = 0;
const FIXED64: u8 = 1;
const BYTES: u8 = 2;
const FIXED32: u8 = 5;

/// A file that scalars are added to.
pub(crate) struct Events {
    file: File,
    path: PathBuf,
}

impl Events {
    /// A new file in `folder`, of what comes after `step`. TensorBoard forgets what files before it say of later steps.
    pub(crate) fn create(folder: &Path, step: u64) -> Outcome<Self> {
        std::fs::create_dir_all(folder).map_err(Failure::io(folder))?;
        let name = format!(
            "events.out.tfevents.{:010}.acdclip.{}",
            now() as u64,
            std::process::id()
        );
        let path = folder.join(name);
        let file = File::create(&path).map_err(Failure::io(&path))?;
        let mut events = Self { file, path };
        let mut version = Message::event(0);
        version.bytes(3, FILE_VERSION.as_bytes());
        events.write(&version)?;
        let mut log = Message::default();
        log.varint(1, 1); // SessionLog.status = START
        let mut start = Message::event(step + 1);
        start.bytes(7, &log.0);
        events.write(&start)?;
        Ok(events)
    }

    /// Adds scalars of one step.
    pub(crate) fn scalars(&mut self, step: u64, scalars: &[(&str, f64)]) -> Outcome {
        let mut summary = Message::default();
        for (tag, number) in scalars {
            let mut value = Message::default();
            value.bytes(1, tag.as_bytes());
            value.fixed32(2, *number as f32);
            summary.bytes(1, &value.0);
        }
        let mut event = Message::event(step);
        event.bytes(5, &summary.0);
        self.write(&event)
    }

    fn write(&mut self, event: &Message) -> Outcome {
        self.file
            .write_all(&record(&event.0))
            .map_err(Failure::io(&self.path))
    }
}

/// Seconds since 1970.
fn now() -> f64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0.0, |since| since.as_secs_f64())
}

/// A TFRecord of `bytes`.
fn record(bytes: &[u8]) -> Vec<u8> {
    let length = (bytes.len() as u64).to_le_bytes();
    let mut record = Vec::with_capacity(bytes.len() + 16);
    record.extend(length);
    record.extend(masked_crc(&length).to_le_bytes());
    record.extend(bytes);
    record.extend(masked_crc(bytes).to_le_bytes());
    record
}

/// TFRecord's checksum: CRC-32C, turned and moved so that a checksum of checksums is none of the usual ones.
fn masked_crc(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes)
        .rotate_right(15)
        .wrapping_add(0xa282_ead8)
}

/// A protobuf message under construction.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    /// An `Event` of now and `step`.
    fn event(step: u64) -> Self {
        let mut event = Self::default();
        event.key(1, FIXED64);
        event.0.extend(now().to_le_bytes());
        event.varint(2, step);
        event
    }

    fn key(&mut self, field: u8, wire: u8) {
        self.0.push(field << 3 | wire);
    }

    fn number(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.0.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.0.push(number as u8);
    }

    fn varint(&mut self, field: u8, number: u64) {
        self.key(field, VARINT);
        self.number(number);
    }

    fn fixed32(&mut self, field: u8, number: f32) {
        self.key(field, FIXED32);
        self.0.extend(number.to_le_bytes());
    }

    fn bytes(&mut self, field: u8, bytes: &[u8]) {
        self.key(field, BYTES);
        self.number(bytes.len() as u64);
        self.0.extend(bytes);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_record_has_the_checksums_that_tensorflow_wants() {
        // From TFRecord's definition, with a CRC-32C computed bit by bit in another language.
        let expected = [
            7, 0, 0, 0, 0, 0, 0, 0, 187, 215, 159, 17, b'a', b'c', b'd', b'c', b'l', b'i', b'p',
            16, 248, 170, 250,
        ];
        assert_eq!(record(b"acdclip"), expected);
    }

    #[test]
    fn what_a_run_goes_on_after_is_not_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let events = Events::create(folder.path(), 299).unwrap();
        let bytes = std::fs::read(&events.path).unwrap();
        // Event(step=300, session_log=SessionLog(status=START)), without the time; TensorBoard purges from that step on.
        let expected = [0x10, 0xac, 0x02, 0x3a, 0x02, 0x08, 0x01];
        let message = &bytes[bytes.len() - 4 - expected.len()..bytes.len() - 4];
        assert_eq!(message, expected);
    }

    #[test]
    fn a_scalar_is_the_message_that_protobuf_makes() {
        // Event(step=300, summary=Summary(value=[Value(tag="a", simple_value=1.5)])), without the time.
        let folder = tempfile::tempdir().unwrap();
        let mut events = Events::create(folder.path(), 0).unwrap();
        events.scalars(300, &[("a", 1.5)]).unwrap();
        let bytes = std::fs::read(&events.path).unwrap();
        let expected = [
            0x10, 0xac, 0x02, 0x2a, 0x0a, 0x0a, 0x08, 0x0a, 0x01, b'a', 0x15, 0, 0, 0xc0, 0x3f,
        ];
        let message = &bytes[bytes.len() - 4 - expected.len()..bytes.len() - 4];
        assert_eq!(message, expected);
    }
}
