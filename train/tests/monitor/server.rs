//! The page over HTTP: who is let in, what is served, and that viewers do not wait for each other.

use std::{
    io::{BufRead, BufReader, Read},
    net::TcpStream,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use gst::prelude::*;
use serde_json::json;
use ureq::{
    Agent,
    tls::{Certificate, RootCerts, TlsConfig},
};

use crate::{
    common::run,
    record,
    running::{BALL, LONG, Monitor, agent},
};

const TOKEN: &str = "0123456789abcdef-token";

/// Pictures that cannot be compressed, so that whoever does not read is soon behind.
const SNOW: &str = "videotestsrc is-live=true pattern=snow num-buffers=3000 ! video/x-raw,width=640,height=480,framerate=20/1";

/// A viewer's request.
const LIVE: &str = "GET /live.mjpeg HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// A picture of the stream, in chunks as HTTP/1.1 sends it; each is one chunk.
fn next_picture(stream: &mut BufReader<TcpStream>) -> Vec<u8> {
    loop {
        let mut length = String::new();
        stream.read_line(&mut length).unwrap();
        let length = usize::from_str_radix(length.trim(), 16).unwrap();
        let mut chunk = vec![0; length + 2];
        stream.read_exact(&mut chunk).unwrap();
        let start = chunk.windows(2).position(|pair| pair == [0xff, 0xd8]);
        if let Some(start) = start {
            return chunk[start..].to_vec();
        }
        assert!(chunk.starts_with(b"--"), "neither a picture nor a boundary");
    }
}

#[test]
fn what_is_served_comes_from_here_alone() {
    let monitor = Monitor::start(&[], BALL);
    for path in [
        "/",
        "/page.js",
        "/picture.js",
        "/chart.js",
        "/style.css",
        "/icon.svg",
    ] {
        let mut answer = monitor.get(path);
        assert_eq!(answer.status(), 200, "{path}");
        let policy = answer.headers()["content-security-policy"]
            .to_str()
            .unwrap();
        assert!(
            policy.contains("default-src 'none'") && !policy.contains("unsafe"),
            "{policy}"
        );
        assert_eq!(answer.headers()["x-content-type-options"], "nosniff");
        let text = answer.body_mut().read_to_string().unwrap();
        let inline = ["<style", " style=", " onclick=", "<script>", "https://"];
        let found = inline
            .iter()
            .find(|words| path == "/" && text.contains(**words));
        assert_eq!(found, None, "{path}");
    }
    let page = monitor.get("/").body_mut().read_to_string().unwrap();
    assert!(page.contains("For research. No medical device."));
    assert_eq!(monitor.get("/../Cargo.toml").status(), 404);
    assert_eq!(monitor.get("/api/events/77/peak.jpg").status(), 404);

    // Another site's name for this machine, and another site's page.
    let head = |request: String| monitor.ask(&request).1;
    let get = |host: &str| head(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"));
    assert!(get("evil.example").starts_with("HTTP/1.1 421"));
    assert!(get("127.0.0.1.evil.example").starts_with("HTTP/1.1 421"));
    assert!(get("localhost:9").starts_with("HTTP/1.1 200"));
    assert!(get("[::1]:9").starts_with("HTTP/1.1 200"));
    let post = |origin: &str| {
        head(format!(
            "POST /api/settings HTTP/1.1\r\nHost: localhost:9\r\nOrigin: {origin}\r\nContent-Type: application/json\r\n\
             Content-Length: 2\r\n\r\n{{}}"
        ))
    };
    assert!(post("http://evil.example").starts_with("HTTP/1.1 403"));
    assert!(post("null").starts_with("HTTP/1.1 403"));
    assert!(post("http://localhost:9").starts_with("HTTP/1.1 200"));
    let socket = |origin: &str| {
        head(format!(
            "GET /api/updates HTTP/1.1\r\nHost: localhost:9\r\nOrigin: {origin}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        ))
    };
    assert!(socket("http://evil.example").starts_with("HTTP/1.1 403"));
    let accepted = socket("http://localhost:9");
    // The example of RFC 6455, 1.3.
    assert!(
        accepted.starts_with("HTTP/1.1 101") && accepted.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
        "{accepted}"
    );
}

#[test]
fn settings_reach_the_element_and_events_the_page() {
    // Of which the score is low, so that nothing holds an event open.
    let options = ["--picture", "mjpeg"];
    let monitor = Monitor::start(&options, &BALL.replace("ball", "gradient"));
    monitor.wait_for("score", |state| !state["points"][0].is_null());
    for (change, status) in [
        (json!({"threshold": 1.5}), 422),
        (json!({"threshold": "high"}), 422),
        (json!({"treshold": 0.5}), 422),
        (json!({"muted": "m".repeat(20_000)}), 413),
    ] {
        let mut answer = monitor.set(&change);
        assert_eq!(
            answer.status(),
            status,
            "{}",
            answer.body_mut().read_to_string().unwrap()
        );
    }
    let url = format!("{}/api/settings", monitor.url);
    assert_eq!(
        agent()
            .post(&url)
            .content_type("text/plain")
            .send("{}")
            .unwrap()
            .status(),
        415
    );
    assert_eq!(agent().get(&url).call().unwrap().status(), 405);

    let set = json!({"threshold": 0.0, "map_threshold": 0.0});
    assert_eq!(monitor.set(&set).status(), 200);
    let state = monitor.wait_for("event with a picture", |state| {
        state["events"][0]["picture"].as_u64() > Some(0)
    });
    assert_eq!(state["settings"]["threshold"], 0.0);
    let event = &state["events"][0];
    assert!(
        event["end"].is_null() && event["peak"].as_f64() > Some(0.0),
        "{event}"
    );
    let path = format!("/api/events/{}/peak.jpg", event["id"]);
    let jpeg = monitor.get(&path).body_mut().read_to_vec().unwrap();
    let picture = image::load_from_memory(&jpeg).unwrap();
    assert_eq!((picture.width(), picture.height()), (160, 120));

    monitor.set(&json!({"threshold": 1.0, "map_threshold": 1.0, "muted": true}));
    let state = monitor.wait_for("end of the events", |state| {
        let events = state["events"].as_array().unwrap();
        events.iter().all(|event| !event["end"].is_null())
    });
    assert_eq!(state["settings"]["muted"], true);
    let state = monitor.wait_for("figures", |state| {
        state["stats"]["frames"].as_u64() > Some(0)
    });
    assert_eq!(state["stats"]["mode"], "latest");
    assert_eq!(
        state["status"],
        json!({"phase": "live", "source": "pipeline", "problem": null, "warning": null, "picture": "mjpeg", "seekable": false, "records": false})
    );
}

#[test]
fn viewers_do_not_wait_for_each_other_and_are_so_many_at_most() {
    let monitor = Monitor::start(&["--max-viewers", "4"], SNOW);
    monitor.wait_for("picture", |state| state["status"]["phase"] == "live");
    let (idle, head) = monitor.ask(LIVE);
    assert!(head.contains("multipart/x-mixed-replace"), "{head}");
    let mut viewers: Vec<_> = (0..3).map(|_| monitor.ask(LIVE).0).collect();
    let (_, refused) = monitor.ask(LIVE);
    assert!(
        refused.starts_with("HTTP/1.1 503") && refused.contains("retry-after: 5"),
        "{refused}"
    );

    // More than any buffer between the one that does not read and the monitor can hold.
    let mut bytes = 0;
    while bytes < 16 << 20 {
        for viewer in &mut viewers {
            let picture = next_picture(viewer);
            let end = picture.windows(2).any(|pair| pair == [0xff, 0xd9]);
            assert!(end, "a picture is cut off");
            bytes += picture.len();
        }
    }

    drop(idle);
    let begun = Instant::now();
    while !monitor.ask(LIVE).1.starts_with("HTTP/1.1 200") {
        assert!(begun.elapsed() < LONG, "a seat does not become free");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Reads pictures until they are so many bytes, all of them whole.
fn look(viewer: &mut BufReader<TcpStream>, wanted: usize) {
    let mut bytes = 0;
    while bytes < wanted {
        bytes += next_picture(viewer).len();
    }
}

#[test]
fn who_never_reads_holds_up_nothing_and_takes_no_memory() {
    let monitor = Monitor::start(&["--picture", "mjpeg"], SNOW);
    monitor.wait_for("picture", |state| state["status"]["phase"] == "live");
    let socket = "GET /api/updates HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                  Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    let stuck: Vec<_> = [LIVE, LIVE, LIVE, socket, socket, socket]
        .iter()
        .map(|request| monitor.ask(request))
        .collect();
    for (_, head) in &stuck {
        assert!(
            head.starts_with("HTTP/1.1 200") || head.starts_with("HTTP/1.1 101"),
            "{head}"
        );
    }
    let (mut viewer, _) = monitor.ask(LIVE);
    // Until as many pictures are remembered as ever will be.
    look(&mut viewer, 32 << 20);
    let frames = |state: &serde_json::Value| state["stats"]["frames"].as_u64().unwrap();
    let (seen, before) = (frames(&monitor.state()), monitor.memory());
    look(&mut viewer, 48 << 20);
    let grown = monitor.memory().saturating_sub(before);
    assert!(
        grown < 16 << 20,
        "{grown} bytes more, while 48 MiB of pictures have passed"
    );
    assert!(frames(&monitor.state()) > seen);
}

#[test]
fn a_file_goes_on_from_before_an_event() {
    let folder = tempfile::tempdir().unwrap();
    let film = film(folder.path());
    let monitor = Monitor::start(&["--stay"], film.to_str().unwrap());
    let jump = |id: u64| {
        let url = format!("{}/api/events/{id}/jump", monitor.url);
        agent().post(url).send_empty().unwrap().status().as_u16()
    };
    monitor.set(&json!({"threshold": 0.0, "map_threshold": 1.0}));
    let state = monitor.wait_for("end", |state| state["status"]["phase"] == "ended");
    assert_eq!(state["status"]["seekable"], true);
    let [event] = &state["events"].as_array().unwrap()[..] else {
        panic!("{state}")
    };
    assert_eq!((event["id"].as_u64(), jump(99)), (Some(1), 404));
    assert_eq!(state["stats"]["frames"], 60);

    // What is seen again is the same event, open once more.
    for _ in 0..2 {
        assert_eq!(jump(1), 204);
        let state = monitor.wait_for("the event again", |state| {
            state["status"]["phase"] == "live" && state["events"][0]["end"].is_null()
        });
        assert_eq!(state["events"].as_array().unwrap().len(), 1, "{state}");
        assert_eq!(
            state["events"][0]["stream_seconds"],
            event["stream_seconds"]
        );
        let state = monitor.wait_for("end", |state| state["status"]["phase"] == "ended");
        let event = &state["events"][0];
        assert!(event["end"].as_u64() >= event["begin"].as_u64(), "{event}");
    }
    monitor.interrupt();
    let (status, complaints) = monitor.wait();
    assert!(status.success(), "{complaints}");

    // What is live cannot, also when it is over.
    let profile = record::alarm(folder.path());
    let options = ["--stay", "--profile", profile.to_str().unwrap()];
    let why = |monitor: &Monitor| {
        monitor.wait_for("event", |state| !state["events"][0].is_null());
        let url = format!("{}/api/events/1/jump", monitor.url);
        let mut refused = agent().post(url).send_empty().unwrap();
        assert_eq!(refused.status(), 409);
        refused.body_mut().read_to_string().unwrap()
    };
    let monitor = Monitor::start(&options, BALL);
    assert!(why(&monitor).contains("live"));
    let monitor = Monitor::start(&options, &BALL.replace("3000", "30"));
    monitor.wait_for("end", |state| state["status"]["phase"] == "ended");
    assert!(why(&monitor).contains("is over"));
}

/// A film of six seconds, in which a ball moves.
pub(crate) fn film(folder: &Path) -> PathBuf {
    film_of(folder, 6, "! jpegenc")
}

/// A film of so many seconds, in which a ball moves, encoded by that.
pub(crate) fn film_of(folder: &Path, seconds: u32, encoder: &str) -> PathBuf {
    let film = folder.join("ball.mkv");
    gst::init().unwrap();
    let text = format!(
        "videotestsrc pattern=ball num-buffers={} ! video/x-raw,width=160,height=120,framerate=10/1 {encoder} ! matroskamux \
         ! filesink location={}",
        10 * seconds,
        film.display()
    );
    let pipeline = gst::parse::launch(&text).unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    let kinds = [gst::MessageType::Eos, gst::MessageType::Error];
    let wait = gst::ClockTime::from_seconds(LONG.as_secs());
    let last = pipeline.bus().unwrap().timed_pop_filtered(wait, &kinds);
    assert_eq!(last.unwrap().type_(), gst::MessageType::Eos);
    pipeline.set_state(gst::State::Null).unwrap();
    film
}

#[test]
fn others_are_let_in_with_the_token_alone() {
    let folder = tempfile::tempdir().unwrap();
    let signed = rcgen::generate_simple_self_signed(vec!["127.0.0.1".into()]).unwrap();
    let file = |name: &str, text: String| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let cert = file("cert.pem", signed.cert.pem());
    let key = file("key.pem", signed.signing_key.serialize_pem());
    let token = file("token", format!("{TOKEN}\n"));
    let options = [
        "--listen",
        "0.0.0.0:0",
        "--token-file",
        &token,
        "--tls-cert",
        &cert,
        "--tls-key",
        &key,
    ];
    let monitor = Monitor::start(&options, BALL);
    let url = format!("https://127.0.0.1:{}", monitor.port());
    let root = Certificate::from_der(signed.cert.der()).to_owned();
    let tls = TlsConfig::builder()
        .root_certs(RootCerts::Specific(std::sync::Arc::new(vec![root])))
        .build();
    let agent: Agent = Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .timeout_global(Some(LONG))
        .tls_config(tls)
        .build()
        .into();

    for path in [
        "/",
        "/page.js",
        "/live.mjpeg",
        "/api/state",
        "/api/updates",
        "/api/picture.jpg",
    ] {
        assert_eq!(
            agent.get(format!("{url}{path}")).call().unwrap().status(),
            401,
            "{path}"
        );
    }
    let with = |header: &str, value: &str| {
        let request = agent.get(format!("{url}/api/state")).header(header, value);
        request.call().unwrap().status()
    };
    assert_eq!(with("Authorization", "Bearer 0123456789abcdef-tokem"), 401);
    assert_eq!(with("Authorization", &format!("Bearer {TOKEN}")), 200);

    let mut wrong = agent.get(format!("{url}/?token=wrong")).call().unwrap();
    assert_eq!(wrong.status(), 401);
    assert!(wrong.headers().get("set-cookie").is_none());
    assert!(
        wrong
            .body_mut()
            .read_to_string()
            .unwrap()
            .contains("That is not the token.")
    );
    let right = agent.get(format!("{url}/?token={TOKEN}")).call().unwrap();
    assert_eq!(right.status(), 200);
    let cookie = right.headers()["set-cookie"].to_str().unwrap();
    for part in ["HttpOnly", "SameSite=Strict", "Secure"] {
        assert!(cookie.contains(part) && !cookie.contains(TOKEN), "{cookie}");
    }
    let (pair, _) = cookie.split_once(';').unwrap();
    assert_eq!(with("Cookie", &format!("other=1; {pair}")), 200);
    let (name, _) = pair.split_once('=').unwrap();
    assert_eq!(with("Cookie", &format!("{name}={TOKEN}")), 401);
    let sent = |token: &str| {
        agent
            .post(format!("{url}/token"))
            .send_form([("token", token)])
            .unwrap()
    };
    assert_eq!(sent("wrong").status(), 401);
    assert_eq!(sent(TOKEN).status(), 303);
}

#[test]
fn others_are_not_let_in_by_accident() {
    let complaint = |options: &[&str]| {
        let ran = run([&["monitor"], options, &["--", BALL]].concat());
        ran.complaint().to_owned()
    };
    let open = complaint(&["--listen", "0.0.0.0:0"]);
    assert!(
        open.contains("--token-file") && open.contains("127.0.0.1"),
        "{open}"
    );
    let plain = complaint(&["--listen", "0.0.0.0:0", "--token", TOKEN]);
    assert!(
        plain.contains("--tls-cert") && plain.contains("--insecure"),
        "{plain}"
    );
    let short = complaint(&["--token", "secret"]);
    assert!(
        short.contains("16 letters") && !short.contains("secret"),
        "{short}"
    );
    let cert = complaint(&["--tls-cert", "Cargo.toml", "--tls-key", "Cargo.toml"]);
    assert!(cert.contains("found no certificate"), "{cert}");
    let options = ["--listen", "0.0.0.0:0", "--token", TOKEN, "--insecure"];
    let monitor = Monitor::start(&options, BALL);
    let local = format!("http://127.0.0.1:{}/", monitor.port());
    assert_eq!(agent().get(local).call().unwrap().status(), 401);
}

#[test]
fn it_ends_with_the_video_or_by_ctrl_c() {
    let short = "videotestsrc num-buffers=5 ! video/x-raw,width=160,height=120,framerate=10/1";
    // Without WebRTC it says nothing of what is missing for that.
    let options = ["--picture", "mjpeg"];
    let (status, complaints) = Monitor::start(&options, short).wait();
    assert!(status.success() && complaints.is_empty(), "{complaints}");

    let monitor = Monitor::start(&["--picture", "mjpeg", "--stay"], short);
    let state = monitor.wait_for("end", |state| state["status"]["phase"] == "ended");
    // A file is played as if it were live.
    assert_eq!(
        state["stats"]["mode"].as_str().unwrap_or("latest"),
        "latest"
    );
    monitor.interrupt();
    let (status, complaints) = monitor.wait();
    assert!(status.success() && complaints.is_empty(), "{complaints}");

    let monitor = Monitor::start(&[], BALL);
    let (viewer, _) = monitor.ask(LIVE);
    monitor.interrupt();
    assert!(monitor.wait().0.success());
    drop(viewer);

    let empty = "videotestsrc num-buffers=0";
    let (status, complaints) = Monitor::start(&[], empty).wait();
    assert_eq!(status.code(), Some(1));
    assert!(complaints.contains("found no frame"), "{complaints}");

    let broken = "filesrc location=Cargo.toml";
    let (status, complaints) = Monitor::start(&[], broken).wait();
    assert_eq!(status.code(), Some(1));
    assert!(
        complaints.starts_with("acdclip: error: ") && complaints.lines().count() == 1,
        "{complaints}"
    );
}
