//! Chromium, driven by chromedriver through the W3C's WebDriver protocol.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::running::{LONG, agent};

/// A browser with one window, which is closed when it goes out of sight.
pub(crate) struct Browser {
    driver: Child,
    session: String,
    _profile: TempDir,
}

impl Browser {
    /// Starts one of that size; none, and a word about it, where no driver is installed.
    pub(crate) fn start(width: u32, height: u32) -> Option<Self> {
        // Whatever becomes of the test, `timeout` ends the driver and its browser.
        let driver = Command::new("timeout")
            .args(["150", "chromedriver", "--port=0"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let mut driver = driver.unwrap();
        let mut lines = BufReader::new(driver.stdout.take().unwrap()).lines();
        let port = lines.find_map(|line| {
            let line = line.unwrap();
            let (_, port) = line.split_once("started successfully on port ")?;
            Some(port.trim_end_matches('.').to_owned())
        });
        let Some(port) = port else {
            driver.wait().unwrap();
            println!("skipped: there is no chromedriver (Debian: chromium-driver)");
            return None;
        };
        // Somebody has to read what it says.
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
        let profile = tempfile::tempdir().unwrap();
        let arguments = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--disable-dev-shm-usage",
            &format!("--window-size={width},{height}"),
            &format!("--user-data-dir={}", profile.path().display()),
        ];
        let wanted =
            json!({"capabilities": {"alwaysMatch": {"goog:chromeOptions": {"args": arguments}}}});
        let server = format!("http://127.0.0.1:{port}/session");
        let answer = post(&server, &wanted);
        let session = format!("{server}/{}", answer["sessionId"].as_str().unwrap());
        Some(Self {
            driver,
            session,
            _profile: profile,
        })
    }

    fn post(&self, command: &str, body: &Value) -> Value {
        post(&format!("{}/{command}", self.session), body)
    }

    fn get(&self, command: &str) -> Value {
        let url = format!("{}/{command}", self.session);
        let mut answer = agent().get(url).call().unwrap();
        answer.body_mut().read_json::<Value>().unwrap()["value"].take()
    }

    /// Opens a page.
    pub(crate) fn open(&self, url: &str) {
        self.post("url", &json!({"url": url}));
    }

    /// What a script returns, run in the page.
    pub(crate) fn run(&self, script: &str) -> Value {
        self.post("execute/sync", &json!({"script": script, "args": []}))
    }

    /// Waits until an expression is true in the page.
    pub(crate) fn wait_for(&self, expression: &str) {
        let begun = Instant::now();
        while self.run(&format!("return Boolean({expression})")) != true {
            let text = || self.run("return document.body.innerText");
            assert!(begun.elapsed() < LONG, "no {expression} in {}", text());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Strikes keys one after the other; those with a name are in the protocol's table.
    pub(crate) fn strike(&self, keys: &[&str]) {
        let strokes: Vec<_> = keys
            .iter()
            .flat_map(|key| ["keyDown", "keyUp"].map(|kind| json!({"type": kind, "value": key})))
            .collect();
        let actions = json!({"actions": [{"type": "key", "id": "keys", "actions": strokes}]});
        self.post("actions", &actions);
    }

    /// Opens a further window and goes on in it.
    pub(crate) fn open_window(&self) {
        let window = self.post("window/new", &json!({"type": "window"}));
        self.post("window", &json!({"handle": window["handle"]}));
    }

    /// The names of the windows.
    pub(crate) fn windows(&self) -> Vec<Value> {
        self.get("window/handles").as_array().unwrap().clone()
    }

    /// Goes on in another window.
    pub(crate) fn switch(&self, window: &Value) {
        self.post("window", &json!({"handle": window}));
    }

    /// Closes a window; another has to be switched to.
    pub(crate) fn close_window(&self) {
        let closed = agent().delete(format!("{}/window", self.session)).call();
        assert_eq!(closed.unwrap().status(), 200);
    }

    /// Runs a script in every page that is opened from now on, before its own.
    pub(crate) fn prepare(&self, script: &str) {
        let command = "Page.addScriptToEvaluateOnNewDocument";
        self.post(
            "goog/cdp/execute",
            &json!({"cmd": command, "params": {"source": script}}),
        );
    }

    /// Makes the page as wide and high as a telephone's.
    pub(crate) fn narrow(&self, width: u32, height: u32) {
        let size =
            json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": true});
        let command = "Emulation.setDeviceMetricsOverride";
        self.post("goog/cdp/execute", &json!({"cmd": command, "params": size}));
    }

    /// Writes what is seen to a PNG.
    pub(crate) fn photograph(&self, name: &str) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/monitor");
        std::fs::create_dir_all(&folder).unwrap();
        let picture = self.get("screenshot");
        let png = BASE64_STANDARD.decode(picture.as_str().unwrap()).unwrap();
        std::fs::write(folder.join(name), png).unwrap();
    }
}

fn post(url: &str, body: &Value) -> Value {
    let mut answer = agent().post(url).send_json(body).unwrap();
    let mut read: Value = answer.body_mut().read_json().unwrap();
    assert_eq!(answer.status(), 200, "{url} {body}: {read}");
    read["value"].take()
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = agent().delete(&self.session).call();
        // `timeout` passes it on to all that it has started.
        let pid = self.driver.id().to_string();
        let _ = Command::new("kill").args(["-TERM", &pid]).status();
        let _ = self.driver.wait();
    }
}
