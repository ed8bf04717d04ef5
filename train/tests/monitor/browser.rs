//! The page in a browser: what is seen, the keyboard, several windows, a wrong token, a lost connection. Pictures: target/monitor/.

use serde_json::json;

use crate::{
    common::shared,
    running::{BALL, Monitor},
    server,
    webdriver::Browser,
    webrtc,
};

const TOKEN: &str = "0123456789abcdef-token";

/// Keys by the protocol's names.
const ENTER: &str = "\u{e007}";
const ESCAPE: &str = "\u{e00c}";
const TAB: &str = "\u{e004}";
const UP: &str = "\u{e013}";
const LEFT: &str = "\u{e012}";

/// What shows the picture.
const SHOWN: &str =
    "document.getElementById(document.body.dataset.picture === 'webrtc' ? 'video' : 'picture')";

/// Its width.
const WIDTH: &str = "(i => i.videoWidth ?? i.naturalWidth)";

/// A number that changes with the picture.
const SUM: &str = "(i => { const c = document.createElement('canvas'); \
    c.width = i.videoWidth ?? i.naturalWidth; c.height = i.videoHeight ?? i.naturalHeight; const x = c.getContext('2d'); x.drawImage(i, 0, 0); \
    return x.getImageData(0, 0, c.width, c.height).data.reduce((sum, value, at) => (sum + value * (at % 8191)) % 4294967291, 0); })";

/// Pixels of the video that are bright.
const BRIGHT: &str = "(() => { const c = document.createElement('canvas'); const v = document.getElementById('video'); \
    c.width = v.videoWidth; c.height = v.videoHeight; const x = c.getContext('2d'); x.drawImage(v, 0, 0); \
    const d = x.getImageData(0, 0, c.width, c.height).data; let n = 0; for (let i = 0; i < d.length; i += 4) n += d[i] > 150; return n; })()";

/// Pixels of the chart in the colour of the score or of an alarm.
const DRAWN: &str = "(() => { const c = document.getElementById('chart'); const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data; \
    let n = 0; for (let i = 0; i < d.length; i += 4) n += (d[i] === 0x56 && d[i + 1] === 0xb4) || (d[i] === 0xe6 && d[i + 1] === 0x9f); return n; })()";

fn is_seen(element: &str) -> String {
    format!("document.getElementById('{element}').checkVisibility({{opacityProperty: true}})")
}

fn text(element: &str) -> String {
    format!("document.getElementById('{element}').innerText")
}

/// The picture is there, and becomes another.
fn assert_live(browser: &Browser) {
    browser.wait_for("document.body.dataset.link === 'live'");
    browser.wait_for(&format!("{WIDTH}({SHOWN}) > 0"));
    let before = browser.run(&format!("return {SUM}({SHOWN})"));
    browser.wait_for(&format!("{SUM}({SHOWN}) !== {before}"));
}

#[test]
fn the_page_shows_what_happens_and_does_what_is_typed() {
    let Some(browser) = Browser::start(1600, 900) else {
        return;
    };
    let monitor = Monitor::start(&["--token", TOKEN], BALL);
    let listen = monitor.authority().to_owned();

    // A wrong token, and then the right one.
    browser.open(&format!("{}/?token=wrong", monitor.url));
    browser.wait_for(&format!("{} === 'That is not the token.'", text("problem")));
    browser.photograph("token.png");
    browser.strike(
        &TOKEN
            .chars()
            .map(|c| c.to_string())
            .collect::<Vec<_>>()
            .iter()
            .map(String::as_str)
            .collect::<Vec<_>>(),
    );
    browser.strike(&[ENTER]);

    assert_live(&browser);
    assert_eq!(browser.run("return location.search + document.cookie"), "");
    browser.wait_for(
        "document.getElementById('research').innerText === 'For research. No medical device.'",
    );
    browser.wait_for(&format!("{} > 20", DRAWN));

    // The threshold by the keyboard, until there are events.
    browser.run("document.activeElement.blur()");
    browser.wait_for("Number(document.getElementById('threshold').value) > 0.1");
    let before = browser.run("return Number(document.getElementById('threshold').value)");
    browser.strike(&[UP, UP]);
    let after = before.as_f64().unwrap() + 0.02;
    browser.wait_for(&format!(
        "Math.abs(Number({}) - {after}) < 0.001",
        text("threshold-value")
    ));
    browser.run("const s = document.getElementById('threshold'); s.value = 0; s.dispatchEvent(new Event('input'))");
    browser.wait_for("document.querySelector('#events img')?.naturalWidth > 0");
    browser.wait_for(&is_seen("alert"));
    browser.wait_for("document.getElementById('announcement').innerText.includes('Alert')");
    browser.photograph("alert.png");

    // Mute: nothing is announced, and it says so.
    browser.strike(&["m"]);
    browser.wait_for(&is_seen("muted"));
    browser.wait_for("document.body.dataset.alert === 'no' && document.getElementById('mute').ariaPressed === 'true'");
    browser.strike(&["m"]);
    browser.wait_for(&format!("!{}", is_seen("muted")));

    // To the events and to the worst frame of one, and back.
    browser.strike(&["e"]);
    browser.wait_for("document.activeElement.closest('#events')");
    browser.strike(&[ENTER]);
    browser.wait_for(&is_seen("peak"));
    browser.wait_for("document.getElementById('peak-picture').naturalWidth === 160");
    browser.photograph("worst-frame.png");
    browser.strike(&[ESCAPE]);
    browser.wait_for(&format!("!{}", is_seen("peak")));
    browser.strike(&[LEFT]);
    browser.wait_for(&is_seen("peak"));
    browser.strike(&[ESCAPE, "?"]);
    browser.wait_for("document.getElementById('keys').open");
    browser.photograph("keys.png");
    browser.strike(&[ESCAPE]);

    // Whatever can be reached by Tab shows that it has been.
    browser.run("document.querySelector('.skip').focus(); window.reached = []");
    for _ in 0..4 {
        browser.strike(&[TAB]);
        let outline = "getComputedStyle(document.activeElement).outlineStyle";
        assert_eq!(
            browser.run(&format!(
                "reached.push(document.activeElement.id); return {outline}"
            )),
            "solid"
        );
    }
    let reached = browser.run("return reached");
    for control in ["threshold", "map-threshold", "mute"] {
        assert!(
            reached.as_array().unwrap().contains(&json!(control)),
            "{reached}"
        );
    }

    // Two more at once.
    browser.open_window();
    browser.open(&monitor.url);
    assert_live(&browser);
    browser.open_window();
    browser.open(&monitor.url);
    for window in browser.windows() {
        browser.switch(&window);
        assert_live(&browser);
    }

    // The monitor is gone, and comes again.
    drop(monitor);
    browser.wait_for("document.body.dataset.link === 'lost'");
    browser.wait_for(&format!(
        "{}.includes('The picture is not live')",
        text("cover")
    ));
    browser.photograph("lost.png");
    let options = ["--token", TOKEN, "--listen", &listen];
    let monitor = Monitor::start(&options, BALL);
    assert_live(&browser);
    browser.wait_for(&format!("!{}", is_seen("cover")));
    monitor.interrupt();
    browser.wait_for("document.body.dataset.link === 'ended'");
    browser.wait_for(&format!("{} === 'The stream has ended.'", text("cover")));
    browser.photograph("ended.png");
}

#[test]
fn a_colonoscopy_is_shown() {
    let Some(clip) = shared("data/video/colonoscopy_cvc_clinicdb_seq02_05_07_13.mp4") else {
        return;
    };
    let Some(browser) = Browser::start(1920, 1080) else {
        return;
    };
    // A slow machine's results are old; that is not what is looked at here.
    let profile = concat!(env!("CARGO_MANIFEST_DIR"), "/../pipelines/colonoscopy.toml");
    let text = std::fs::read_to_string(profile).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let profile = folder.path().join("slow.toml");
    std::fs::write(&profile, text.replace("max-age = 500", "max-age = 60000")).unwrap();
    let options = ["--profile", profile.to_str().unwrap()];
    let monitor = Monitor::start(&options, clip.to_str().unwrap());
    browser.open(&monitor.url);
    assert_live(&browser);
    let name = format!(
        "document.getElementById('source').innerText === '{}'",
        clip.file_name().unwrap().to_str().unwrap()
    );
    browser.wait_for(&name);
    browser.wait_for("Number(document.getElementById('score').innerText) > 0 && document.querySelectorAll('#figures div').length > 3");
    browser.wait_for(&format!("{DRAWN} > 50"));
    browser.photograph("colonoscopy.png");
}

/// It plays by WebRTC: its time goes on, and what it shows is no black.
fn assert_plays(browser: &Browser) {
    browser.wait_for("document.body.dataset.picture === 'webrtc'");
    browser.wait_for("document.getElementById('video').videoWidth === 160");
    let time = browser.run("return document.getElementById('video').currentTime");
    browser.wait_for(&format!(
        "document.getElementById('video').currentTime > {time} + 0.5"
    ));
    browser.wait_for(&format!("{BRIGHT} > 50"));
    assert_live(browser);
}

#[test]
fn the_picture_comes_by_webrtc_to_three_at_once() {
    if !webrtc::is_there() {
        return;
    }
    let Some(browser) = Browser::start(1600, 900) else {
        return;
    };
    let monitor = Monitor::start(&[], BALL);
    browser.open(&monitor.url);
    for _ in 0..2 {
        browser.open_window();
        browser.open(&monitor.url);
    }
    let windows = browser.windows();
    for window in &windows {
        browser.switch(window);
        assert_plays(&browser);
    }
    browser.wait_for(&format!(
        "{}.includes('WebRTC, VP8, 160 × 120')",
        text("figures")
    ));
    browser.photograph("webrtc.png");
    webrtc::wait_for_viewers(&monitor, 3);

    // They go one after the other; those that are left see it on.
    for (gone, window) in windows[1..].iter().enumerate() {
        browser.switch(window);
        browser.close_window();
        browser.switch(&windows[0]);
        webrtc::wait_for_viewers(&monitor, 2 - gone as u64);
        assert_plays(&browser);
    }
    browser.open("about:blank");
    let left = webrtc::wait_for_nobody(&monitor);
    monitor.wait_for("frames without a viewer", |state| {
        state["stats"]["frames"].as_u64() > left["frames"].as_u64()
    });
}

#[test]
fn where_webrtc_fails_the_picture_comes_all_the_same() {
    let Some(browser) = Browser::start(1600, 900) else {
        return;
    };
    let monitor = Monitor::start(&[], BALL);
    // A connection that is never made: what is on the way does not arrive.
    browser.prepare("RTCPeerConnection.prototype.setRemoteDescription = async () => {}; RTCPeerConnection.prototype.setLocalDescription = () => new Promise(() => {})");
    browser.open(&monitor.url);
    browser.wait_for("document.body.dataset.picture === 'mjpeg'");
    assert_live(&browser);
    browser.wait_for(&format!("{}.includes('MJPEG')", text("figures")));
    monitor.wait_for("the place in the other way alone", |state| {
        state["stats"]["viewers"] == 1
            && state["stats"]["viewers-webrtc"].as_u64().unwrap_or(0) == 0
    });

    // A browser without it.
    browser.prepare("delete window.RTCPeerConnection");
    browser.open(&monitor.url);
    assert_live(&browser);
    assert_eq!(browser.run("return document.body.dataset.picture"), "mjpeg");
}

#[test]
fn a_click_on_an_event_goes_back_in_a_file() {
    let Some(browser) = Browser::start(1600, 900) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let film = server::film(folder.path());
    let monitor = Monitor::start(&["--stay"], film.to_str().unwrap());
    monitor.set(&json!({"threshold": 0.0, "map_threshold": 1.0}));
    browser.open(&monitor.url);
    let item = "document.querySelector('#events button')";
    for way in ["click", "key"] {
        browser.wait_for("document.body.dataset.link === 'ended'");
        browser.wait_for(&format!("{item}.innerText.startsWith('0:00')"));
        match way {
            "click" => browser.run(&format!("{item}.click()")),
            _ => browser.run(&format!("{item}.focus()")),
        };
        if way == "key" {
            browser.strike(&[ENTER]);
        }
        browser.wait_for("document.body.dataset.link === 'live'");
        browser.wait_for(&format!("{}.includes('goes on from before')", text("news")));
        browser.wait_for(&is_seen("alert"));
        browser.strike(&[ESCAPE]);
        assert_live(&browser);
        assert_eq!(
            browser.run("return document.querySelectorAll('#events li').length"),
            1
        );
    }

    // What cannot be done stands for a while, whatever is heard meanwhile.
    browser.wait_for("document.body.dataset.link === 'ended'");
    browser.run(
        "const time = performance.now(); performance.now = () => time; window.wayBack = fetch; \
                 window.fetch = async () => new Response('wanted an event', { status: 404 })",
    );
    browser.run(&format!("{item}.click()"));
    let complaint = text("complaint");
    browser.wait_for(&format!("{complaint} === 'Not gone back: wanted an event'"));
    monitor.set(&json!({"muted": true}));
    browser.wait_for(&is_seen("muted"));
    assert_eq!(
        browser.run(&format!("return {complaint}")),
        "Not gone back: wanted an event"
    );
    browser.run("delete performance.now; window.fetch = wayBack");
    browser.wait_for(&format!("!{complaint}.includes('Not gone back')"));
}

#[test]
fn a_telephone_shows_everything_in_its_width() {
    let Some(browser) = Browser::start(500, 800) else {
        return;
    };
    browser.narrow(360, 740);
    let monitor = Monitor::start(&[], BALL);
    monitor.set(&json!({"threshold": 0.0}));
    browser.open(&monitor.url);
    assert_live(&browser);
    browser.wait_for("document.querySelector('#events img')?.naturalWidth > 0");
    let fits = "document.documentElement.scrollWidth <= 360";
    assert_eq!(browser.run(&format!("return {fits}")), true);
    browser.photograph("narrow.png");
    browser.run("document.querySelector('#events button').click(); document.getElementById('keys').open = true");
    browser.wait_for(&is_seen("peak"));
    assert_eq!(browser.run(&format!("return {fits}")), true);
    // Nothing lies on the worst frame, or on what is said of it.
    let apart = "(a, b) => { const [p, q] = [a, b].map(id => document.querySelector(id).getBoundingClientRect()); \
                 return p.bottom <= q.top + 1 || q.bottom <= p.top + 1 || p.right <= q.left + 1 || q.right <= p.left + 1; }";
    for (one, other) in [
        ("#live", "#peak .fit"),
        ("#alert", "#peak .fit"),
        ("#alert", "#peak figcaption"),
        ("#alert", "#live"),
    ] {
        assert_eq!(
            browser.run(&format!("return ({apart})('{one}', '{other}')")),
            true,
            "{one} lies on {other}"
        );
    }
    browser.photograph("narrow-worst-frame.png");
}
