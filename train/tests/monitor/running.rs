//! The command at work, and ways to ask it.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;
use ureq::{Agent, Body, http::Response};

use crate::common::acdclip;

/// Nothing takes longer on the slowest machine.
pub(crate) const LONG: Duration = Duration::from_secs(60);

/// A ball that moves, small and slow enough for any machine; ends by itself should a test be killed.
pub(crate) const BALL: &str = "videotestsrc is-live=true pattern=ball num-buffers=3000 ! video/x-raw,width=160,height=120,framerate=10/1";

/// A monitor at work, which is killed when it goes out of sight.
pub(crate) struct Monitor {
    child: Child,
    pub(crate) url: String,
}

impl Monitor {
    /// Starts it on a free port, or on that of `--listen`.
    pub(crate) fn start(options: &[&str], source: &str) -> Self {
        Self::run(acdclip(), options, source)
    }

    /// Starts it in a folder, which is that for temporary files too.
    pub(crate) fn start_in(folder: &Path, options: &[&str], source: &str) -> Self {
        let mut command = acdclip();
        command.current_dir(folder).env("TMPDIR", folder);
        Self::run(command, options, source)
    }

    /// Starts it by another command, which ends with that of the monitor.
    pub(crate) fn start_by(command: Command, options: &[&str], source: &str) -> Self {
        Self::run(command, options, source)
    }

    fn run(mut command: Command, options: &[&str], source: &str) -> Self {
        command.arg("monitor");
        if !options.contains(&"--listen") {
            command.args(["--listen", "127.0.0.1:0"]);
        }
        command.args(options).arg("--").arg(source);
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let Some(url) = line.trim().strip_prefix("watching at ") else {
            let output = child.wait_with_output().unwrap();
            panic!("{line:?}, {}", String::from_utf8_lossy(&output.stderr));
        };
        let url = url.trim_end_matches('/').to_owned();
        Self { child, url }
    }

    /// Host and port.
    pub(crate) fn authority(&self) -> &str {
        self.url.split("//").nth(1).unwrap()
    }

    pub(crate) fn port(&self) -> &str {
        self.url.rsplit(':').next().unwrap()
    }

    pub(crate) fn get(&self, path: &str) -> Response<Body> {
        agent().get(format!("{}{path}", self.url)).call().unwrap()
    }

    /// Everything that the page shows.
    pub(crate) fn state(&self) -> Value {
        self.get("/api/state").body_mut().read_json().unwrap()
    }

    pub(crate) fn set(&self, change: &Value) -> Response<Body> {
        let url = format!("{}/api/settings", self.url);
        agent().post(url).send_json(change).unwrap()
    }

    /// Sends a request as it is written, and gives the connection after the answer's head, and that head.
    pub(crate) fn ask(&self, request: &str) -> (BufReader<TcpStream>, String) {
        let stream = TcpStream::connect(self.authority()).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        let mut stream = BufReader::new(stream);
        stream.get_mut().write_all(request.as_bytes()).unwrap();
        let head = read_head(&mut stream);
        (stream, head)
    }

    /// The state once something is so in it.
    pub(crate) fn wait_for(&self, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        let begun = Instant::now();
        loop {
            let state = self.state();
            if is_so(&state) {
                return state;
            }
            assert!(begun.elapsed() < LONG, "no {what} in {state}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Bytes of memory that it has.
    pub(crate) fn memory(&self) -> u64 {
        let path = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(path).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kilobytes = line.unwrap().trim().trim_end_matches(" kB");
        kilobytes.parse::<u64>().unwrap() << 10
    }

    /// Asks it to end, as Ctrl-C does.
    pub(crate) fn interrupt(&self) {
        let sent = Command::new("kill")
            .args(["-INT", &self.child.id().to_string()])
            .status();
        assert!(sent.unwrap().success());
    }

    /// Waits until it ends; what it has complained about.
    pub(crate) fn wait(mut self) -> (ExitStatus, String) {
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(begun.elapsed() < LONG, "it does not end");
            std::thread::sleep(Duration::from_millis(20));
        };
        let mut complaints = String::new();
        let stderr = self.child.stderr.as_mut().unwrap();
        stderr.read_to_string(&mut complaints).unwrap();
        (status, complaints)
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A client that takes any status for an answer.
pub(crate) fn agent() -> Agent {
    Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .timeout_global(Some(LONG))
        .build()
        .into()
}

/// Up to the empty line.
pub(crate) fn read_head(stream: &mut BufReader<TcpStream>) -> String {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert_ne!(stream.read_line(&mut head).unwrap(), 0, "{head:?}");
    }
    head
}
