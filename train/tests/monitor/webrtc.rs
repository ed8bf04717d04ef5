//! The picture by WebRTC: as a receiver without a browser gets it, who is refused, and what is left of a viewer that is gone.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::channel,
    },
    time::{Duration, Instant},
};

use gst::{glib, prelude::*};
use gst_sdp::SDPMessage;
use serde_json::{Value, json};

use crate::{
    common::acdclip,
    running::{BALL, LONG, Monitor, agent},
    server,
    unsafe_description::{describe, text},
};

const TOKEN: &str = "0123456789abcdef-token";

/// A description that is an offer, of GstWebRTCSDPType.
const OFFER: i32 = 1;

/// What it takes, here as there.
const NEEDED: [&str; 4] = ["webrtcbin", "nicesrc", "vp8enc", "dtlssrtpenc"];

/// Whether it can be had; says what is missing where not.
pub(crate) fn is_there() -> bool {
    gst::init().unwrap();
    let missing = NEEDED
        .iter()
        .find(|name| gst::ElementFactory::find(name).is_none());
    if let Some(name) = missing {
        println!(
            "skipped: there is no {name} (Debian: gstreamer1.0-plugins-bad, gstreamer1.0-nice)"
        );
    }
    missing.is_none()
}

/// An offer's number and text.
fn offer(monitor: &Monitor) -> (u64, String) {
    let url = format!("{}/api/webrtc", monitor.url);
    let mut answer = agent().post(url).send_empty().unwrap();
    let offer: Value = answer.body_mut().read_json().unwrap();
    assert_eq!(answer.status(), 201, "{offer}");
    let sdp = offer["sdp"].as_str().unwrap();
    (offer["id"].as_u64().unwrap(), sdp.to_owned())
}

/// Answers an offer; the answer's status and what it says.
fn send(monitor: &Monitor, id: u64, sdp: &str) -> (u16, String) {
    let url = format!("{}/api/webrtc/{id}/answer", monitor.url);
    let mut answer = agent().post(url).send(sdp).unwrap();
    let said = answer.body_mut().read_to_string().unwrap();
    (answer.status().as_u16(), said)
}

/// The figures of viewers once they are so many by WebRTC.
pub(crate) fn wait_for_viewers(monitor: &Monitor, count: u64) -> Value {
    let state = monitor.wait_for("change of viewers", |state| {
        state["stats"]["viewers-webrtc"] == count
    });
    state["stats"].clone()
}

/// Waits for the end of everything that viewers took; the figures then. The last one is off the list before its pipeline stands still.
pub(crate) fn wait_for_nobody(monitor: &Monitor) -> Value {
    let state = monitor.wait_for("end of what viewers took", |state| {
        let stats = &state["stats"];
        stats["viewers-webrtc"] == 0 && stats["viewers"] == 0 && stats["webrtc-encoding"] == false
    });
    state["stats"].clone()
}

/// A receiver, as a browser is one.
struct Receiver {
    pipeline: gst::Pipeline,
    frames: Arc<AtomicU64>,
}

impl Receiver {
    /// Takes an offer and gives an answer.
    fn new(offer: &str) -> (Self, String) {
        let pipeline = gst::Pipeline::new();
        let peer = gst::ElementFactory::make("webrtcbin").build().unwrap();
        peer.set_property_from_str("bundle-policy", "max-bundle");
        let ice: glib::Object = peer.property("ice-agent");
        assert!(ice.emit_by_name::<bool>("add-local-ip-address", &[&"127.0.0.1"]));
        pipeline.add(&peer).unwrap();
        let frames = Arc::<AtomicU64>::default();
        let (count, into) = (Arc::clone(&frames), pipeline.downgrade());
        peer.connect_pad_added(move |_, pad| {
            let decoder = "rtpvp8depay ! vp8dec ! fakesink name=sink sync=false";
            let decoder = gst::parse::bin_from_description(decoder, true).unwrap();
            let count = Arc::clone(&count);
            let sink = decoder.by_name("sink").unwrap().static_pad("sink").unwrap();
            sink.add_probe(gst::PadProbeType::BUFFER, move |pad, _| {
                let caps = pad.current_caps().unwrap();
                assert_eq!(caps.structure(0).unwrap().get("width"), Ok(160));
                count.fetch_add(1, Ordering::Relaxed);
                gst::PadProbeReturn::Ok
            });
            into.upgrade().unwrap().add(&decoder).unwrap();
            decoder.sync_state_with_parent().unwrap();
            pad.link(&decoder.static_pad("sink").unwrap()).unwrap();
        });
        pipeline.set_state(gst::State::Playing).unwrap();
        let sdp = SDPMessage::parse_buffer(offer.as_bytes()).unwrap();
        ask(
            &peer,
            "set-remote-description",
            &describe(OFFER, &sdp).unwrap(),
        );
        let reply = ask(&peer, "create-answer", &None::<gst::Structure>.to_value()).unwrap();
        ask(
            &peer,
            "set-local-description",
            reply.value("answer").unwrap(),
        );
        let begun = Instant::now();
        let is_gathered = || {
            let state = peer.property_value("ice-gathering-state");
            glib::EnumValue::from_value(&state).unwrap().1.nick() == "complete"
        };
        while !is_gathered() {
            assert!(begun.elapsed() < LONG, "no address of this machine");
            std::thread::sleep(Duration::from_millis(10));
        }
        let answer = text(&peer.property_value("local-description")).unwrap();
        (Self { pipeline, frames }, answer)
    }

    fn wait_for_frames(&self, more: u64) {
        self.wait_until(self.frames.load(Ordering::Relaxed) + more);
    }

    /// Waits until so many have come.
    fn wait_until(&self, wanted: u64) {
        let begun = Instant::now();
        while self.frames.load(Ordering::Relaxed) < wanted {
            assert!(begun.elapsed() < LONG, "no frame comes");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

fn ask(peer: &gst::Element, action: &str, what: &glib::Value) -> Option<gst::Structure> {
    let (sender, receiver) = channel();
    let promise = gst::Promise::with_change_func(move |reply| {
        sender.send(reply.unwrap().map(ToOwned::to_owned)).unwrap();
    });
    peer.emit_by_name_with_values(action, &[what.clone(), promise.to_value()]);
    receiver.recv_timeout(LONG).unwrap()
}

#[test]
fn a_receiver_gets_the_stream_and_leaves_nothing_behind() {
    if !is_there() {
        return;
    }
    let monitor = Monitor::start(&["--picture", "webrtc"], BALL);
    monitor.wait_for("picture", |state| state["status"]["phase"] == "live");
    let (id, sdp) = offer(&monitor);
    assert!(
        sdp.contains(" 127.0.0.1 ") && !sdp.contains("TCP"),
        "others can reach none of {sdp}"
    );
    let (receiver, answer) = Receiver::new(&sdp);
    assert_eq!(send(&monitor, id, &answer), (204, String::new()));
    receiver.wait_for_frames(10);
    monitor.wait_for("encoder", |state| state["stats"]["webrtc-encoding"] == true);
    assert_eq!(send(&monitor, id, &answer).0, 409, "a second answer");
    wait_for_viewers(&monitor, 0);

    // One that comes and says goodbye, and one that is gone without a word.
    for says_goodbye in [true, false] {
        let (id, sdp) = offer(&monitor);
        let (receiver, answer) = Receiver::new(&sdp);
        assert_eq!(send(&monitor, id, &answer).0, 204);
        receiver.wait_for_frames(3);
        let seen = wait_for_viewers(&monitor, 1)["frames"].as_u64();
        drop(receiver);
        if says_goodbye {
            let url = format!("{}/api/webrtc/{id}", monitor.url);
            assert_eq!(agent().delete(&url).call().unwrap().status(), 204);
            assert_eq!(agent().delete(&url).call().unwrap().status(), 404);
        }
        wait_for_nobody(&monitor);
        monitor.wait_for("frame after it", |state| {
            state["stats"]["frames"].as_u64() > seen
        });
    }
}

#[test]
fn a_picture_that_stands_still_reaches_everybody() {
    if !is_there() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let film = server::film(folder.path());
    let monitor = Monitor::start(&["--stay"], film.to_str().unwrap());
    monitor.wait_for("end", |state| state["status"]["phase"] == "ended");
    let come = |_| {
        let (id, sdp) = offer(&monitor);
        let (receiver, answer) = Receiver::new(&sdp);
        (id, receiver, answer)
    };
    // All at once, so that one key frame does not do for all.
    let receivers: Vec<_> = (0..3).map(come).collect();
    for (id, _, answer) in &receivers {
        assert_eq!(send(&monitor, *id, answer).0, 204);
    }
    for (_, receiver, _) in &receivers {
        receiver.wait_until(1);
    }
}

#[test]
fn with_the_stream_its_viewers_are_gone() {
    if !is_there() {
        return;
    }
    let monitor = Monitor::start(&["--stay"], &BALL.replace("3000", "300"));
    let (id, sdp) = offer(&monitor);
    let (receiver, answer) = Receiver::new(&sdp);
    assert_eq!(send(&monitor, id, &answer).0, 204);
    receiver.wait_for_frames(3);
    let state = monitor.wait_for("end", |state| state["status"]["phase"] == "ended");
    let stats = &state["stats"];
    assert_eq!(
        (&stats["viewers-webrtc"], &stats["webrtc-encoding"]),
        (&json!(0), &json!(false))
    );
    let url = format!("{}/api/webrtc", monitor.url);
    let mut refused = agent().post(url).send_empty().unwrap();
    let why = refused.body_mut().read_to_string().unwrap();
    assert!(refused.status() == 410 && why.contains("ended"), "{why}");
    monitor.interrupt();
    let (status, complaints) = monitor.wait();
    assert!(status.success(), "{complaints}");
}

#[test]
fn what_is_missing_for_it_is_told_once() {
    if !is_there() {
        return;
    }
    // This system's plugins, but for one.
    let folder = tempfile::tempdir().unwrap();
    let plugins = folder.path().join("plugins");
    std::fs::create_dir(&plugins).unwrap();
    let element = gst::ElementFactory::find("nicesrc").unwrap();
    let nice = element.plugin().unwrap().filename().unwrap();
    for plugin in std::fs::read_dir(nice.parent().unwrap()).unwrap() {
        let path = plugin.unwrap().path();
        if path != nice {
            std::os::unix::fs::symlink(&path, plugins.join(path.file_name().unwrap())).unwrap();
        }
    }
    let monitor = || {
        let mut command = acdclip();
        command.env("GST_PLUGIN_SYSTEM_PATH_1_0", &plugins);
        command.env("GST_REGISTRY_1_0", folder.path().join("registry"));
        command
    };
    let running = Monitor::start_by(monitor(), &[], BALL);
    running.wait_for("picture", |state| state["status"]["phase"] == "live");
    assert_eq!(running.state()["status"]["picture"], "mjpeg");
    assert_eq!(running.get("/api/picture.jpg").status(), 200);
    running.interrupt();
    let (status, complaints) = running.wait();
    assert!(status.success(), "{complaints}");
    assert_eq!(complaints.matches("nicesrc").count(), 1, "{complaints}");
    assert!(complaints.contains("gstreamer1.0-nice"), "{complaints}");

    let refused = monitor()
        .args([
            "monitor",
            "--picture",
            "webrtc",
            "--listen",
            "127.0.0.1:0",
            "--",
            BALL,
        ])
        .output()
        .unwrap();
    let complaint = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(1), "{complaint}");
    assert!(
        complaint.contains("--picture webrtc") && complaint.contains("nicesrc"),
        "{complaint}"
    );
}

#[test]
fn strangers_and_garbage_are_refused() {
    if !is_there() {
        return;
    }
    let monitor = Monitor::start(&["--max-viewers", "2"], BALL);
    let (id, sdp) = offer(&monitor);
    for (garbage, named) in [
        ("", "wanted an answer in SDP"),
        ("\0\r\n%n%n%n", "wanted an answer in SDP"),
        (&sdp, "does not"),
        (&sdp.replace("sendonly", "recvonly"), "a=setup"),
    ] {
        let (status, said) = send(&monitor, id, garbage);
        assert!(status == 400 && said.contains(named), "{status} {said}");
    }
    assert_eq!(send(&monitor, id, &"a".repeat(100_000)).0, 413);
    assert_eq!(send(&monitor, 77, &sdp).0, 404);
    let url = format!("{}/api/webrtc", monitor.url);
    assert_eq!(agent().get(&url).call().unwrap().status(), 405);
    let foreign = agent().post(&url).header("Origin", "http://evil.example");
    assert_eq!(foreign.send_empty().unwrap().status(), 403);

    offer(&monitor);
    let full = agent().post(&url).send_empty().unwrap();
    assert_eq!(full.status(), 503, "two viewers are there");
    // Whoever does not answer loses the place.
    wait_for_viewers(&monitor, 2);
    wait_for_viewers(&monitor, 0);
    offer(&monitor);
    drop(monitor);

    let monitor = Monitor::start(&["--token", TOKEN], BALL);
    let url = format!("{}/api/webrtc", monitor.url);
    let ask = |token: &str| {
        let request = agent()
            .post(&url)
            .header("Authorization", format!("Bearer {token}"));
        request.send_empty().unwrap().status().as_u16()
    };
    assert_eq!(agent().post(&url).send_empty().unwrap().status(), 401);
    assert_eq!(
        agent()
            .post(format!("{url}/1/answer"))
            .send("v=0")
            .unwrap()
            .status(),
        401
    );
    assert_eq!(ask("0123456789abcdef-tokem"), 401);
    assert_eq!(ask(TOKEN), 201);
    drop(monitor);

    let monitor = Monitor::start(&["--picture", "mjpeg"], BALL);
    let url = format!("{}/api/webrtc", monitor.url);
    assert_eq!(agent().post(&url).send_empty().unwrap().status(), 404);
    assert_eq!(monitor.state()["status"]["picture"], json!("mjpeg"));
}
