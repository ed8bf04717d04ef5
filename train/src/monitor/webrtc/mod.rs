//! The live picture by WebRTC: low latency, over UDP, decoded by the browser's video.
//!
//! Frames leave the pipeline for one encoder ([`encoder`]) and go from there to a pipeline for each viewer ([`viewer`]). Each runs by itself:
//! a viewer, whatever it does, holds up neither the others nor the video that is watched. What this machine lacks for it is told once.

mod answer;
mod encoder;
pub(super) mod signal;
mod unsafe_description;
mod viewer;

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use gst::prelude::*;
use parking_lot::Mutex;
use tokio::sync::OwnedSemaphorePermit;

use self::{
    answer::Answer,
    encoder::{Encoder, Inlet},
    viewer::{Time, Viewer, Ways},
};
use super::listen::Door;
use crate::outcome::{Failure, Outcome, one_line, warn};

/// How the live picture goes to the page.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Way {
    /// By WebRTC where this machine and the browser can, else MJPEG.
    Auto,
    /// By WebRTC or not at all.
    #[value(name = "webrtc")]
    #[serde(rename = "webrtc")]
    WebRtc,
    /// As pictures, one by one.
    #[default]
    Mjpeg,
}

/// How the live picture goes to the page, on the command line.
#[derive(Debug, clap::Args)]
pub(super) struct WayArgs {
    /// How the live picture goes to the page.
    #[arg(long, value_name = "WAY", value_enum, default_value = "auto")]
    picture: Way,
    /// A STUN server (stun://HOST:PORT), which tells this machine its address as viewers in other networks see it; none is asked where left out.
    #[arg(long, value_name = "URI", value_parser = stun)]
    stun_server: Option<String>,
}

fn stun(text: &str) -> Result<String, String> {
    let place = text
        .strip_prefix("stun://")
        .and_then(|place| place.rsplit_once(':'));
    let is_right =
        place.is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
    let wanted = || format!("wanted stun://HOST:PORT, found {text}");
    is_right.then(|| text.to_owned()).ok_or_else(wanted)
}

impl WayArgs {
    /// Gets ready to send the picture, of so many bits a second, to where others come to; tells why where it cannot.
    pub(super) fn open(&self, door: &Door, bits: u32) -> Outcome<(Way, Option<Arc<Broadcast>>)> {
        match (self.picture, missing()) {
            (Way::Mjpeg, _) => Ok((Way::Mjpeg, None)),
            (Way::WebRtc, Some(why)) => Err(Failure::Arguments(format!("--picture webrtc: {why}"))),
            (Way::Auto, Some(why)) => {
                warn(&format!("the picture goes as MJPEG: {why}"));
                Ok((Way::Mjpeg, None))
            }
            (way, None) => {
                let local = Some(door.address.ip()).filter(|ip| !ip.is_unspecified());
                Ok((
                    way,
                    Some(Broadcast::new(local, self.stun_server.clone(), bits)),
                ))
            }
        }
    }
}

/// What it takes, and Debian's package of it.
const NEEDED: [(&str, &str); 6] = [
    ("webrtcbin", "gstreamer1.0-plugins-bad"),
    ("dtlssrtpenc", "gstreamer1.0-plugins-bad"),
    ("srtpenc", "gstreamer1.0-plugins-bad"),
    ("nicesrc", "gstreamer1.0-nice"),
    ("vp8enc", "gstreamer1.0-plugins-good"),
    ("rtpvp8pay", "gstreamer1.0-plugins-good"),
];

/// What is missing on this machine, if anything is.
fn missing() -> Option<String> {
    let is_missing = |(element, _): &&(&str, &str)| gst::ElementFactory::find(element).is_none();
    let (element, package) = NEEDED.iter().find(is_missing)?;
    Some(format!(
        "WebRTC wants the element {element}, found none (Debian: {package})"
    ))
}

/// Why nobody is let in after the end.
const OVER: &str = "wanted a picture that goes on, found a stream that has ended";

/// The first error that a pipeline has told of since it was asked.
fn problem(pipeline: &gst::Pipeline) -> Option<String> {
    let bus = pipeline.bus()?;
    while let Some(message) = bus.pop() {
        if let gst::MessageView::Error(e) = message.view() {
            return Some(one_line(&e.error().to_string()));
        }
    }
    None
}

/// Everybody who sees the picture by WebRTC, and what they share.
pub(super) struct Broadcast {
    this: Weak<Self>,
    time: Time,
    ways: Ways,
    bits: u32,
    viewers: Mutex<BTreeMap<u64, Arc<Viewer>>>,
    encoder: Mutex<Option<Encoder>>,
    /// Of the picture: whoever comes sees it at once, also where none follows.
    newest: Mutex<Option<gst::Sample>>,
    wants_key: Arc<AtomicBool>,
    count: AtomicU64,
    is_over: AtomicBool,
}

impl Broadcast {
    /// For pictures of so many bits a second; see [`Ways`] for where viewers are looked for.
    fn new(local: Option<IpAddr>, stun: Option<String>, bits: u32) -> Arc<Self> {
        Arc::new_cyclic(|this| Self {
            this: this.clone(),
            time: Time::begin(),
            ways: Ways { local, stun },
            bits,
            viewers: Mutex::default(),
            encoder: Mutex::default(),
            newest: Mutex::default(),
            wants_key: Arc::default(),
            count: AtomicU64::default(),
            is_over: AtomicBool::default(),
        })
    }

    /// Takes a raw frame; never waits.
    pub(super) fn take(&self, buffer: &gst::Buffer, caps: &gst::Caps) {
        let sample = gst::Sample::builder().buffer(buffer).caps(caps).build();
        *self.newest.lock() = Some(sample.clone());
        if let Some(inlet) = self.inlet() {
            inlet.take(&sample, &self.wants_key);
        }
    }

    fn inlet(&self) -> Option<Inlet> {
        let encoder = self.encoder.lock();
        encoder.as_ref().map(|encoder| encoder.inlet.clone())
    }

    /// Hands an encoded frame to everybody.
    fn show(&self, sample: &gst::Sample) {
        let viewers: Vec<_> = self.viewers.lock().values().cloned().collect();
        viewers.iter().for_each(|viewer| viewer.show(sample));
    }

    /// How many viewers there are.
    pub(super) fn viewers(&self) -> usize {
        self.viewers.lock().len()
    }

    /// Whether the encoder is at work.
    pub(super) fn is_encoding(&self) -> bool {
        self.encoder.lock().is_some()
    }

    fn viewer(&self, id: u64) -> Option<Arc<Viewer>> {
        self.viewers.lock().get(&id).cloned()
    }

    /// Offers the picture to a new viewer: its number, and what to answer to. Takes up to a few seconds.
    fn offer(&self, seat: OwnedSemaphorePermit) -> Result<(u64, String), String> {
        let viewer = Viewer::new(&self.time, &self.ways, &self.wants_key, seat)?;
        let offer = viewer.offer()?;
        let id = self.count.fetch_add(1, Ordering::Relaxed) + 1;
        self.viewers.lock().insert(id, Arc::new(viewer));
        // The end may have come meanwhile, and have found everybody but this one.
        if self.is_over() {
            self.remove(id);
            return Err(OVER.into());
        }
        Ok((id, offer))
    }

    /// A viewer can be reached: it is sent what there is, from a key frame on.
    fn begin(&self) -> Result<(), String> {
        if !self.is_encoding() {
            let encoder = Encoder::start(&self.time, self.bits, &self.this)?;
            // Of two that came at once one is enough.
            let mut place = self.encoder.lock();
            let left = if place.is_none() {
                place.replace(encoder)
            } else {
                Some(encoder)
            };
            drop(place);
            drop(left);
            // The viewer may have gone meanwhile.
            self.rest();
        }
        self.wants_key.store(true, Ordering::Relaxed);
        self.repeat();
        Ok(())
    }

    /// Where the picture stands still no frame comes that a key frame could be made of.
    fn catch_up(&self) {
        if self.wants_key.load(Ordering::Relaxed) {
            self.repeat();
        }
    }

    /// Has the newest picture encoded once more.
    fn repeat(&self) {
        let newest = || self.newest.lock().clone();
        let mut next = newest();
        while let Some((inlet, sample)) = self.inlet().zip(next) {
            inlet.take(&sample, &self.wants_key);
            // A newer one may have gone in just before it, and is to be the one that stands.
            next = newest().filter(|newest| !std::ptr::eq(&**newest, &*sample));
        }
    }

    /// What has gone wrong for that viewer, if anything has. An encoder that fails fails for all: each begins again with another.
    fn check(&self, id: u64) -> Result<(), String> {
        if let Some(problem) = self.give_up_encoder() {
            self.dismiss();
            return Err(problem);
        }
        let problem = self.viewer(id).and_then(|viewer| viewer.problem());
        problem.map_or(Ok(()), Err)
    }

    /// What has gone wrong with the encoder, which tells it once: nobody who comes after that finds it there.
    fn give_up_encoder(&self) -> Option<String> {
        let mut place = self.encoder.lock();
        let problem = place.as_ref().and_then(Encoder::problem)?;
        let failed = place.take();
        drop(place);
        drop(failed);
        Some(problem)
    }

    /// A viewer is gone, and with the last one the encoder.
    fn remove(&self, id: u64) {
        let gone = self.viewers.lock().remove(&id);
        // Whoever shows it a frame just now may be the last to hold it, and is no thread to stop a pipeline in.
        if let Some(gone) = gone {
            gone.stop();
        }
        self.rest();
    }

    /// Without a viewer there is no encoder.
    fn rest(&self) {
        let mut encoder = self.encoder.lock();
        let idle = if self.viewers.lock().is_empty() {
            encoder.take()
        } else {
            None
        };
        drop(encoder);
        drop(idle);
    }

    /// There will be no picture any more, and nobody who waits for one.
    pub(super) fn end(&self) {
        self.is_over.store(true, Ordering::SeqCst);
        self.dismiss();
    }

    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::SeqCst)
    }

    /// Everybody is gone.
    fn dismiss(&self) {
        let ids: Vec<_> = self.viewers.lock().keys().copied().collect();
        ids.into_iter().for_each(|id| self.remove(id));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::{
        net::Ipv4Addr,
        time::{Duration, Instant},
    };

    use tokio::sync::Semaphore;

    use super::*;

    #[test]
    fn an_encoder_that_has_failed_is_not_there_for_whoever_comes() {
        gst::init().unwrap();
        if let Some(why) = missing() {
            println!("skipped: {why}");
            return;
        }
        let broadcast = Broadcast::new(Some(Ipv4Addr::LOCALHOST.into()), None, 300_000);
        let seats = Arc::new(Semaphore::new(1));
        broadcast.offer(seats.try_acquire_owned().unwrap()).unwrap();
        broadcast.begin().unwrap();
        assert!(broadcast.is_encoding());
        // What is no picture it cannot encode.
        let caps = gst::Caps::new_empty_simple("text/x-raw");
        broadcast.take(&gst::Buffer::from_slice([0u8; 16]), &caps);
        let begun = Instant::now();
        while broadcast.give_up_encoder().is_none() {
            assert!(
                begun.elapsed() < Duration::from_secs(60),
                "it tells nothing"
            );
            std::thread::sleep(Duration::from_millis(10));
        }
        // Whoever finds that out has not yet let anybody go.
        assert_eq!((broadcast.viewers(), broadcast.is_encoding()), (1, false));
        broadcast.end();
        assert_eq!(broadcast.viewers(), 0);
    }
}
