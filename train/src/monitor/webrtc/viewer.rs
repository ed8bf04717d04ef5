//! A viewer: a pipeline of its own that packs encoded frames and sends them, so that what goes wrong with one is nobody else's matter.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::sync_channel,
    },
    time::{Duration, Instant},
};

use gst::{
    glib::{self, EnumValue},
    prelude::*,
};
use gst_app::{AppSrc, AppStreamType};
use gst_sdp::SDPMessage;
use gst_video::UpstreamForceKeyUnitEvent;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, watch};

use super::{
    answer::{Answer, PAYLOAD},
    unsafe_description::{ANSWER, describe, text},
};
use crate::{launch, outcome::one_line};

/// How long webrtcbin may take for what it does without the other side.
const PATIENCE: Duration = Duration::from_secs(5);
/// A viewer that is not heard of for so long is gone.
const SILENCE: Duration = Duration::from_secs(15);
/// Frames that wait to be packed, at most: a viewer's machine never makes them so many.
const WAITING: u64 = 30;

/// When every pipeline here began, by which clock, so that a frame's time is the same in all.
#[derive(Debug, Clone)]
pub(super) struct Time {
    clock: gst::Clock,
    begin: gst::ClockTime,
}

impl Time {
    /// Begins now.
    pub(super) fn begin() -> Self {
        let clock = gst::SystemClock::obtain();
        let begin = clock.time();
        Self { clock, begin }
    }

    /// Has a pipeline, not yet running, go by it.
    pub(super) fn rule(&self, pipeline: &gst::Pipeline) {
        pipeline.use_clock(Some(&self.clock));
        pipeline.set_start_time(gst::ClockTime::NONE);
        pipeline.set_base_time(self.begin);
    }
}

/// Where a viewer is looked for.
#[derive(Debug, Clone, Default)]
pub(super) struct Ways {
    /// The address of this machine that it comes to; any where left out.
    pub(super) local: Option<IpAddr>,
    /// A STUN server that tells this machine its address as others see it.
    pub(super) stun: Option<String>,
}

/// How far a viewer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Contact {
    Seeking,
    Made,
    /// For good.
    Lost,
}

/// Somebody who sees the picture.
pub(super) struct Viewer {
    pipeline: gst::Pipeline,
    source: AppSrc,
    peer: gst::Element,
    contact: watch::Receiver<Contact>,
    /// Whether frames are of no use up to the next key frame.
    is_lost: AtomicBool,
    wants_key: Arc<AtomicBool>,
    /// When its last packet came.
    heard: Arc<Mutex<Instant>>,
    offer: Mutex<Option<String>>,
    _seat: OwnedSemaphorePermit,
}

impl Viewer {
    /// Makes the pipeline and begins to listen; `wants_key` is set when the viewer needs a key frame.
    pub(super) fn new(
        time: &Time,
        ways: &Ways,
        wants_key: &Arc<AtomicBool>,
        seat: OwnedSemaphorePermit,
    ) -> Result<Self, String> {
        let text = format!(
            "appsrc name=source ! rtpvp8pay pt={PAYLOAD} mtu=1200 picture-id-mode=15-bit \
             ! application/x-rtp,media=video,encoding-name=VP8,payload={PAYLOAD},clock-rate=90000,rtcp-fb-nack-pli=true \
             ! webrtcbin name=peer bundle-policy=max-bundle"
        );
        let pipeline = launch::pipeline(&text)?;
        let source: AppSrc = launch::element(&pipeline, "source")?;
        let peer = launch::element(&pipeline, "peer")?;
        source.set_is_live(true);
        source.set_format(gst::Format::Time);
        source.set_stream_type(AppStreamType::Stream);
        source.set_max_bytes(0);
        time.rule(&pipeline);
        find_ways(&peer, ways);
        hear_requests(&source, wants_key);
        let heard = listen(&pipeline);
        let viewer = Self {
            contact: follow(&peer),
            pipeline,
            source,
            peer,
            is_lost: AtomicBool::new(true),
            wants_key: Arc::clone(wants_key),
            heard,
            offer: Mutex::default(),
            _seat: seat,
        };
        let transceiver: Option<glib::Object> = viewer.peer.emit_by_name("get-transceiver", &[&0]);
        let transceiver = transceiver.ok_or("webrtcbin has no place for the video")?;
        transceiver.set_property_from_str("direction", "sendonly");
        transceiver.set_property("do-nack", true);
        viewer
            .pipeline
            .set_state(gst::State::Playing)
            .map_err(|_| "webrtcbin does not start")?;
        Ok(viewer)
    }

    /// What is offered to the browser, with every way to come here. Takes up to a few seconds, once.
    pub(super) fn offer(&self) -> Result<String, String> {
        let reply = self.ask("create-offer", &None::<gst::Structure>.to_value())?;
        let offer = reply.as_ref().and_then(|reply| reply.value("offer").ok());
        self.ask(
            "set-local-description",
            offer.ok_or("webrtcbin makes no offer")?,
        )?;
        let begun = Instant::now();
        while nick(&self.peer, "ice-gathering-state").as_deref() != Some("complete") {
            if begun.elapsed() > PATIENCE {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let offer = text(&self.peer.property_value("local-description"));
        let offer = offer.filter(|offer| offer.contains("a=candidate:"));
        let offer = offer.ok_or("webrtcbin finds no address of this machine")?;
        *self.offer.lock() = Some(offer.clone());
        Ok(offer)
    }

    /// Takes the browser's answer to the offer, once.
    pub(super) fn take(&self, answer: &Answer) -> Result<(), String> {
        let offer = self.offer.lock().take();
        let sdp = answer.sdp(&offer.ok_or("wanted one answer, found another")?);
        let sdp = SDPMessage::parse_buffer(sdp.as_bytes()).map_err(|e| e.to_string())?;
        let answer = describe(ANSWER, &sdp).ok_or("webrtcbin knows no descriptions")?;
        self.ask("set-remote-description", &answer).map(drop)
    }

    /// Has webrtcbin do something with `what`; its reply, or what it has against it.
    fn ask(&self, action: &str, what: &glib::Value) -> Result<Option<gst::Structure>, String> {
        let (sender, receiver) = sync_channel(1);
        let promise = gst::Promise::with_change_func(move |reply| {
            let reply = reply.map(|reply| reply.map(ToOwned::to_owned));
            // Nobody waits any more.
            let _ = sender.send(reply);
        });
        self.peer
            .emit_by_name_with_values(action, &[what.clone(), promise.to_value()]);
        let reply = receiver
            .recv_timeout(PATIENCE)
            .map_err(|_| format!("webrtcbin does not answer {action}"))?;
        let reply = reply.map_err(|e| format!("webrtcbin: {action}: {e:?}"))?;
        match reply
            .as_ref()
            .and_then(|reply| reply.get::<glib::Error>("error").ok())
        {
            Some(problem) => Err(one_line(&format!("webrtcbin: {problem}"))),
            None => Ok(reply),
        }
    }

    /// How far it is, as it changes.
    pub(super) fn contact(&self) -> watch::Receiver<Contact> {
        self.contact.clone()
    }

    /// Whether it has gone without a word: browsers report every second or so what has come.
    pub(super) fn is_silent(&self) -> bool {
        self.heard.lock().elapsed() > SILENCE
    }

    /// What has gone wrong with its pipeline, if anything has.
    pub(super) fn problem(&self) -> Option<String> {
        super::problem(&self.pipeline)
    }

    /// Sends an encoded frame. Never waits: where frames pile up they are passed over, up to the next key frame.
    pub(super) fn show(&self, sample: &gst::Sample) {
        let is_key =
            |buffer: &gst::BufferRef| !buffer.flags().contains(gst::BufferFlags::DELTA_UNIT);
        let is_key = sample.buffer().is_some_and(is_key);
        if *self.contact.borrow() != Contact::Made {
            return;
        }
        let is_behind = self.source.current_level_buffers() > WAITING;
        if is_behind || (self.is_lost.load(Ordering::Relaxed) && !is_key) {
            self.is_lost.store(true, Ordering::Relaxed);
            self.wants_key.store(true, Ordering::Relaxed);
            return;
        }
        let sent = self.source.push_sample(sample);
        self.is_lost.store(sent.is_err(), Ordering::Relaxed);
    }

    /// Sends nothing any more, for good. Takes its time.
    pub(super) fn stop(&self) {
        // A pipeline can always be told to stop.
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

impl Drop for Viewer {
    fn drop(&mut self) {
        // A pipeline is not dropped while it runs.
        self.stop();
    }
}

/// Addresses that others cannot reach are not opened; and UDP alone, which is what a picture that is never late goes by.
fn find_ways(peer: &gst::Element, ways: &Ways) {
    if let Some(stun) = &ways.stun {
        peer.set_property("stun-server", stun);
    }
    let ice: Option<glib::Object> = peer.property("ice-agent");
    let Some(ice) = ice else { return };
    if let Some(local) = ways.local {
        let _: bool = ice.emit_by_name("add-local-ip-address", &[&local.to_string()]);
    }
    if ice.find_property("agent").is_some() {
        let agent: Option<glib::Object> = ice.property("agent");
        if let Some(agent) = agent.filter(|agent| agent.find_property("ice-tcp").is_some()) {
            agent.set_property("ice-tcp", false);
        }
    }
}

/// Notes when packets of the session come; those by which libnice keeps the way open do not get so far.
fn listen(pipeline: &gst::Pipeline) -> Arc<Mutex<Instant>> {
    let heard = Arc::new(Mutex::new(Instant::now()));
    let note = Arc::clone(&heard);
    pipeline.connect_deep_element_added(move |_, _, element| {
        let is_ear = element
            .factory()
            .is_some_and(|factory| factory.name() == "nicesrc");
        let Some(pad) = element.static_pad("src").filter(|_| is_ear) else {
            return;
        };
        let note = Arc::clone(&note);
        let kinds = gst::PadProbeType::BUFFER | gst::PadProbeType::BUFFER_LIST;
        pad.add_probe(kinds, move |_, _| {
            *note.lock() = Instant::now();
            gst::PadProbeReturn::Ok
        });
    });
    heard
}

/// Sets `wants_key` when the browser says that it cannot decode what it has.
fn hear_requests(source: &AppSrc, wants_key: &Arc<AtomicBool>) {
    let Some(pad) = source.static_pad("src") else {
        return;
    };
    let wants_key = Arc::clone(wants_key);
    pad.add_probe(gst::PadProbeType::EVENT_UPSTREAM, move |_, info| {
        if info
            .event()
            .is_some_and(|event| UpstreamForceKeyUnitEvent::parse(event).is_ok())
        {
            wants_key.store(true, Ordering::Relaxed);
        }
        gst::PadProbeReturn::Ok
    });
}

fn nick(object: &gst::Element, name: &str) -> Option<String> {
    let value = object.property_value(name);
    EnumValue::from_value(&value).map(|(_, value)| value.nick().to_owned())
}

fn follow(peer: &gst::Element) -> watch::Receiver<Contact> {
    let (sender, receiver) = watch::channel(Contact::Seeking);
    peer.connect_notify(Some("connection-state"), move |peer, _| {
        let contact = match nick(peer, "connection-state").as_deref() {
            Some("connected") => Contact::Made,
            Some("failed" | "closed") => Contact::Lost,
            _ => return,
        };
        sender.send_replace(contact);
    });
    receiver
}
