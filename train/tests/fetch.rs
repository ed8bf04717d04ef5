//! `acdclip fetch` from a hub on this machine: what it takes, what it refuses, how it goes on, and what it says.

#![allow(clippy::unwrap_used)]
#![cfg(feature = "fetch")]

mod common;

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use common::{Ran, acdclip, run, shared};
use sha2::{Digest, Sha256};

const REPOSITORY: &str = "openai/clip-vit-base-patch32";
/// The commit that is built in for `clip-vit-b-32`.
const COMMIT: &str = "3d74acf9a28c67741b2f4f2ea7635f0aaf6f0268";
/// Another one.
const OTHER: &str = "0123456789abcdef0123456789abcdef01234567";

fn sha256(bytes: &[u8]) -> String {
    let digits = Sha256::digest(bytes);
    digits.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Bytes that look random.
fn bytes(count: usize) -> Vec<u8> {
    let mut state = 7u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..count).map(|_| next()).collect()
}

/// How the file is sent, once.
#[derive(Clone, Copy)]
enum Send {
    /// So many bytes, then the connection is closed.
    Cut(usize),
    /// So many bytes, then nothing more.
    Stall(usize),
    /// From its beginning, whatever was asked for.
    FromTheBeginning,
    /// Without length or end.
    Endless,
}

/// What the hub says and does.
#[derive(Default)]
struct Ways {
    file: Vec<u8>,
    /// X-Linked-Etag; the file's SHA-256 where left out.
    etag: Option<String>,
    /// X-Repo-Commit; the built-in one where left out.
    commit: Option<String>,
    /// The first lines of any answer, instead of the hub's.
    answer: Option<&'static str>,
    /// How the file is sent the first times; whole after that.
    sends: Vec<Send>,
    /// Requests: path, range, authorization.
    log: Vec<[String; 3]>,
}

/// A hub with one file, at the addresses and with the headers of the real one.
struct Hub {
    endpoint: String,
    ways: Arc<Mutex<Ways>>,
    home: tempfile::TempDir,
}

impl Hub {
    fn new(file: Vec<u8>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let ways = Arc::new(Mutex::new(Ways {
            file,
            ..Ways::default()
        }));
        let (theirs, here) = (ways.clone(), endpoint.clone());
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (ways, endpoint) = (theirs.clone(), here.clone());
                // A client that has hung up is no failure of the hub.
                thread::spawn(move || drop(answer(stream.unwrap(), &ways, &endpoint)));
            }
        });
        Self {
            endpoint,
            ways,
            home: tempfile::tempdir().unwrap(),
        }
    }

    fn set(&self, change: impl FnOnce(&mut Ways)) {
        change(&mut self.ways.lock().unwrap());
    }

    fn file(&self) -> Vec<u8> {
        self.ways.lock().unwrap().file.clone()
    }

    fn sha256(&self) -> String {
        sha256(&self.file())
    }

    /// Ranges in which the file was asked for since the last call; none of the hub's first word, for which one byte is asked.
    fn ranges(&self) -> Vec<String> {
        let log = std::mem::take(&mut self.ways.lock().unwrap().log);
        let asked = log.into_iter().filter(|[path, ..]| path == "/cdn");
        asked
            .map(|[_, range, _]| range)
            .filter(|range| range != "bytes=0-0")
            .collect()
    }

    fn command(&self, more: &[&str]) -> Command {
        let mut command = acdclip();
        for name in [
            "HF_TOKEN",
            "HTTP_PROXY",
            "http_proxy",
            "ALL_PROXY",
            "all_proxy",
        ] {
            command.env_remove(name);
        }
        command
            .env("HF_ENDPOINT", &self.endpoint)
            .env("HF_HOME", self.home.path())
            .args(["fetch", "clip-vit-b-32"])
            .args(more);
        command
    }

    fn fetch(&self, more: &[&str]) -> Ran {
        self.command(more).output().unwrap().into()
    }

    /// Fetches the file that this hub has instead of the real one.
    fn fetch_own(&self, more: &[&str]) -> Ran {
        let sha256 = self.sha256();
        self.fetch(&[&["--sha256", &sha256], more].concat())
    }

    /// The same; what is printed is a file with the hub's bytes.
    fn fetched(&self, more: &[&str]) -> PathBuf {
        let ran = self.fetch_own(more);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        let path = PathBuf::from(ran.out.strip_suffix('\n').unwrap());
        assert!(fs::read(&path).unwrap() == self.file(), "{path:?}");
        path
    }

    /// Files of the cache that hold weights, whole or in part.
    fn weights(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut folders = vec![self.home.path().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else if !path.components().any(|part| part.as_os_str() == "refs")
                    && path.extension().is_none_or(|extension| extension != "lock")
                {
                    found.push(path);
                }
            }
        }
        found
    }

    fn part(&self) -> PathBuf {
        let folder = "hub/models--openai--clip-vit-base-patch32/blobs";
        self.home
            .path()
            .join(folder)
            .join(format!("{}.part", self.sha256()))
    }
}

/// Reads a request and answers it as the hub does: the file's address leads on to where its bytes are.
fn answer(stream: TcpStream, ways: &Mutex<Ways>, endpoint: &str) -> std::io::Result<()> {
    let mut lines = BufReader::new(&stream).lines();
    let first = lines.next().unwrap()?;
    let path = first.split(' ').nth(1).unwrap().to_owned();
    let (mut range, mut authorization) = (String::new(), String::new());
    for line in lines {
        let line = line?;
        match line.split_once(": ") {
            Some((name, value)) if name.eq_ignore_ascii_case("range") => range = value.into(),
            Some((name, value)) if name.eq_ignore_ascii_case("authorization") => {
                authorization = value.into();
            }
            Some(_) => {}
            None => break,
        }
    }
    let mut ways = ways.lock().unwrap();
    ways.log.push([path.clone(), range.clone(), authorization]);
    let mut out = &stream;
    if let Some(answer) = ways.answer {
        return write!(
            out,
            "{answer}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
        );
    }
    if path != "/cdn" {
        let known = ways.commit.as_deref().unwrap_or(COMMIT);
        let asked = path.strip_prefix(&format!("/{REPOSITORY}/resolve/"));
        let is_there = [known, "main"].map(|revision| format!("{revision}/pytorch_model.bin"));
        if !asked.is_some_and(|asked| is_there.iter().any(|there| there == asked)) {
            return write!(
                out,
                "HTTP/1.1 404 Not Found\r\nX-Error-Code: EntryNotFound\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
            );
        }
        let etag = ways.etag.clone().unwrap_or_else(|| sha256(&ways.file));
        return write!(
            out,
            "HTTP/1.1 302 Found\r\nX-Repo-Commit: {known}\r\nX-Linked-Etag: \"{etag}\"\r\nX-Linked-Size: {}\r\n\
             Location: {endpoint}/cdn\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
            ways.file.len()
        );
    }
    let send = match range == "bytes=0-0" || ways.sends.is_empty() {
        true => None,
        false => Some(ways.sends.remove(0)),
    };
    let file = ways.file.clone();
    drop(ways);
    let (from, to) = range
        .strip_prefix("bytes=")
        .unwrap()
        .split_once('-')
        .unwrap();
    let from: usize = match send {
        Some(Send::FromTheBeginning) => 0,
        _ => from.parse().unwrap(),
    };
    let to = to.parse().unwrap_or(file.len() - 1);
    let body = &file[from..=to];
    let length = match send {
        Some(Send::Endless) => String::new(),
        _ => format!("Content-Length: {}\r\n", body.len()),
    };
    write!(
        out,
        "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes {from}-{to}/{}\r\nConnection: close\r\n{length}\r\n",
        file.len()
    )?;
    match send {
        None | Some(Send::FromTheBeginning) => out.write_all(body),
        Some(Send::Cut(count)) => out.write_all(&body[..count]),
        Some(Send::Stall(count)) => {
            out.write_all(&body[..count])?;
            thread::sleep(Duration::from_secs(600));
            Ok(())
        }
        Some(Send::Endless) => loop {
            out.write_all(body)?;
        },
    }
}

#[test]
fn the_file_lands_in_the_hubs_cache_and_is_not_fetched_again() {
    let hub = Hub::new(bytes(300_000));
    let path = hub.fetched(&[]);
    let cache = "hub/models--openai--clip-vit-base-patch32/snapshots";
    assert_eq!(
        path,
        hub.home
            .path()
            .join(cache)
            .join(COMMIT)
            .join("pytorch_model.bin")
    );
    assert_eq!(hub.ranges(), ["bytes=0-"]);
    assert_eq!(hub.fetched(&[]), path);
    assert!(hub.ways.lock().unwrap().log.is_empty());
}

#[test]
fn what_the_hub_has_instead_of_the_pinned_file_is_not_even_fetched() {
    let hub = Hub::new(bytes(1000));
    let ran = hub.fetch(&[]);
    let complaint = ran.complaint();
    let pinned = "a63082132ba4f97a80bea76823f544493bffa8082296d62d71581a4feff1576f";
    assert!(
        complaint.contains(pinned) && complaint.contains(&hub.sha256()),
        "{complaint}"
    );
    assert!(hub.ranges().is_empty());
    assert!(hub.weights().is_empty(), "{:?}", hub.weights());
}

#[test]
fn bytes_that_are_not_what_they_were_said_to_be_are_refused_and_removed() {
    let hub = Hub::new(bytes(300_000));
    let wanted = hub.sha256();
    hub.set(|ways| {
        ways.etag = Some(wanted.clone());
        ways.file[299_999] ^= 1;
    });
    let out = hub.home.path().join("out.bin");
    let ran = hub.fetch(&["--sha256", &wanted, "-o", out.to_str().unwrap()]);
    let complaint = ran.complaint();
    assert!(
        complaint.contains(&wanted) && complaint.contains(&hub.sha256()),
        "{complaint}"
    );
    assert!(hub.weights().is_empty(), "{:?}", hub.weights());
}

#[test]
fn a_broken_connection_is_gone_on_from() {
    let hub = Hub::new(bytes(300_000));
    hub.set(|ways| ways.sends = vec![Send::Cut(100_000), Send::Cut(50_000)]);
    hub.fetched(&[]);
    assert_eq!(hub.ranges(), ["bytes=0-", "bytes=100000-", "bytes=150000-"]);
}

#[test]
fn where_nothing_more_comes_the_next_call_goes_on() {
    let hub = Hub::new(bytes(300_000));
    hub.set(|ways| ways.sends = vec![Send::Cut(100_000), Send::Cut(0)]);
    let out = hub.home.path().join("out.bin");
    let ran = hub.fetch_own(&["-o", out.to_str().unwrap()]);
    assert!(ran.complaint().contains("goes on"), "{ran:?}");
    assert!(!out.exists());
    hub.ranges();
    hub.fetched(&["-o", out.to_str().unwrap()]);
    assert_eq!(hub.ranges(), ["bytes=100000-"]);
}

#[test]
fn a_download_that_was_killed_is_gone_on_with() {
    let hub = Hub::new(bytes(300_000));
    hub.set(|ways| ways.sends = vec![Send::Stall(100_000)]);
    let mut child = hub
        .command(&["--sha256", &hub.sha256()])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    while fs::metadata(hub.part()).map_or(0, |part| part.len()) < 100_000 {
        assert_eq!(child.try_wait().unwrap(), None, "ended by itself");
        thread::sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    hub.ranges();
    hub.fetched(&[]);
    assert_eq!(hub.ranges(), ["bytes=100000-"]);
}

#[test]
fn a_part_that_is_whole_is_not_fetched_again() {
    let hub = Hub::new(bytes(300_000));
    fs::create_dir_all(hub.part().parent().unwrap()).unwrap();
    fs::write(hub.part(), hub.file()).unwrap();
    hub.fetched(&[]);
    assert_eq!(hub.ranges(), ["bytes=299999-"]);
}

#[test]
fn a_part_of_something_else_is_fetched_anew() {
    for length in [1000, 300_000, 300_001] {
        let hub = Hub::new(bytes(300_000));
        fs::create_dir_all(hub.part().parent().unwrap()).unwrap();
        fs::write(hub.part(), vec![0; length]).unwrap();
        hub.fetched(&[]);
        assert_eq!(hub.ranges().last().unwrap(), "bytes=0-");
    }
}

#[test]
fn what_another_process_is_downloading_is_left_alone() {
    let hub = Hub::new(bytes(300_000));
    fs::create_dir_all(hub.part().parent().unwrap()).unwrap();
    fs::write(hub.part(), hub.file()).unwrap();
    let lock = fs::File::create(hub.part().with_extension("lock")).unwrap();
    lock.lock().unwrap();
    let mut second = hub
        .command(&["--sha256", &hub.sha256()])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // It asks what the hub has, and once more just before it takes the lock.
    let asked = || {
        let ways = hub.ways.lock().unwrap();
        ways.log.iter().filter(|[path, ..]| path == "/cdn").count()
    };
    while asked() < 2 {
        assert_eq!(second.try_wait().unwrap(), None, "ended by itself");
        thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(fs::metadata(hub.part()).unwrap().len(), 300_000);
    // As if that process had been killed before it gave the file its name.
    drop(lock);
    assert!(second.wait().unwrap().success());
    assert_eq!(hub.ranges(), ["bytes=299999-"]);
}

#[test]
fn a_hub_that_cannot_go_on_is_asked_for_everything() {
    let hub = Hub::new(bytes(300_000));
    hub.set(|ways| ways.sends = vec![Send::Cut(100_000), Send::FromTheBeginning]);
    hub.fetched(&[]);
    assert_eq!(hub.ranges(), ["bytes=0-", "bytes=100000-", "bytes=0-"]);
}

#[test]
fn damage_in_the_cache_is_noticed() {
    let hub = Hub::new(bytes(300_000));
    let path = hub.fetched(&[]);
    fs::write(&path, b"what is this?").unwrap();
    hub.ranges();
    let ran = hub.fetch_own(&[]);
    assert!(ran.err.contains("damaged"), "{ran:?}");
    assert_eq!(hub.ranges(), ["bytes=0-"]);
    assert_eq!(fs::read(&path).unwrap(), hub.file());
}

#[test]
fn what_is_sound_in_the_cache_stays_whatever_is_wanted() {
    // The second name says nothing of the bytes.
    for etag in [None, Some("0a1b2c")] {
        let hub = Hub::new(bytes(1000));
        hub.set(|ways| ways.etag = etag.map(str::to_owned));
        let path = hub.fetched(&[]);
        hub.ranges();
        let mistyped = sha256(b"mistyped");
        let ran = hub.fetch(&["--sha256", &mistyped]);
        let complaint = ran.complaint();
        for part in ["--sha256", &mistyped, &hub.sha256()] {
            assert!(complaint.contains(part), "{part}: {complaint}");
        }
        assert_eq!(hub.fetched(&[]), path);
        assert!(hub.ways.lock().unwrap().log.is_empty());
    }
}

#[test]
fn a_file_or_folder_of_ones_own_gets_it_too() {
    let hub = Hub::new(bytes(300_000));
    let folder = hub.home.path().join("weights");
    let (name, slash) = (folder.to_str().unwrap(), format!("{}/", folder.display()));
    let path = hub.fetched(&["-o", &slash]);
    assert_eq!(path, folder.join("clip-vit-b-32.bin"));
    assert!(!path.is_symlink());
    hub.ranges();
    // Even where the cache is gone.
    fs::remove_dir_all(hub.home.path().join("hub")).unwrap();
    assert_eq!(hub.fetched(&["-o", name]), path);
    assert!(hub.ways.lock().unwrap().log.is_empty());
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);

    fs::remove_file(&path).unwrap();
    fs::write(&path, b"mine").unwrap();
    let ran = hub.fetch_own(&["-o", name]);
    let complaint = ran.complaint();
    assert!(
        complaint.contains(&hub.sha256()) && complaint.contains(&sha256(b"mine")),
        "{complaint}"
    );
    assert_eq!(fs::read(&path).unwrap(), b"mine");
}

#[test]
fn another_revision_is_what_the_hub_says_that_it_is() {
    let hub = Hub::new(bytes(300_000));
    hub.set(|ways| ways.commit = Some(OTHER.into()));
    for revision in ["main", OTHER] {
        let ran = hub.fetch(&["--revision", revision]);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        assert!(ran.out.contains(OTHER), "{ran:?}");
    }
    // The second was there by then.
    assert_eq!(hub.ranges(), ["bytes=0-"]);

    let plain = Hub::new(bytes(10));
    plain.set(|ways| ways.etag = Some("0a1b2c".into()));
    let ran = plain.fetch(&["--revision", "main"]);
    assert!(ran.complaint().contains("--sha256"), "{ran:?}");
    plain.fetched(&["--revision", "main"]);
}

#[test]
fn another_commit_than_the_one_asked_for_is_refused() {
    let hub = Hub::new(bytes(10));
    hub.set(|ways| ways.answer = Some("HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-0/10\r\nETag: \"0a\"\r\nX-Repo-Commit: 0123456789abcdef0123456789abcdef01234567"));
    let ran = hub.fetch(&[]);
    let complaint = ran.complaint();
    assert!(
        complaint.contains(COMMIT) && complaint.contains(OTHER),
        "{complaint}"
    );
}

#[test]
fn a_token_is_shown_to_the_hub() {
    let hub = Hub::new(bytes(10));
    let with_token = |token: &str| {
        let ran: Ran = hub
            .command(&["--revision", "nowhere"])
            .env("HF_TOKEN", token)
            .output()
            .unwrap()
            .into();
        ran.complaint();
        hub.ways.lock().unwrap().log.pop().unwrap()[2].clone()
    };
    fs::write(hub.home.path().join("token"), "from_a_login\n").unwrap();
    assert_eq!(with_token("hf_abc"), "Bearer hf_abc");
    hub.fetch(&["--revision", "nowhere"]);
    let [_, _, login] = hub.ways.lock().unwrap().log.pop().unwrap();
    assert_eq!(login, "Bearer from_a_login");
}

#[test]
fn what_is_wrong_is_said_in_one_line() {
    let hub = Hub::new(bytes(10));
    let ran = hub.fetch(&["--revision", "nowhere"]);
    for part in ["404", "nowhere", REPOSITORY, &hub.endpoint] {
        assert!(ran.complaint().contains(part), "{part}: {ran:?}");
    }
    for (answer, wanted) in [
        ("HTTP/1.1 401 Unauthorized", "HF_TOKEN"),
        ("HTTP/1.1 403 Forbidden", "HF_TOKEN"),
        ("HTTP/1.1 503 Service Unavailable", "later"),
        ("HTTP/1.1 200 OK\r\nContent-Type: text/html", "HF_ENDPOINT"),
        // hf-hub panics over this one.
        (
            "HTTP/1.1 302 Found\r\nETag: \"a\"\r\nX-Repo-Commit: 0123456789abcdef0123456789abcdef01234567",
            "HF_ENDPOINT",
        ),
        (
            "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-0/9\r\nETag: \"../../../a\"\r\nX-Repo-Commit: 3d74acf9a28c67741b2f4f2ea7635f0aaf6f0268",
            "HF_ENDPOINT",
        ),
        (
            "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-0/many\r\nETag: \"a\"\r\nX-Repo-Commit: 3d74acf9a28c67741b2f4f2ea7635f0aaf6f0268",
            "HF_ENDPOINT",
        ),
        ("what is this?", "HF_ENDPOINT"),
    ] {
        hub.set(|ways| ways.answer = Some(answer));
        let ran = hub.fetch(&[]);
        assert!(ran.complaint().contains(wanted), "{answer}: {ran:?}");
        assert!(hub.weights().is_empty(), "{:?}", hub.weights());
    }
}

#[test]
fn a_body_without_end_is_not_taken() {
    let hub = Hub::new(bytes(300_000));
    hub.set(|ways| ways.sends = vec![Send::Endless]);
    let ran = hub.fetch_own(&[]);
    assert!(ran.complaint().contains("300000 bytes"), "{ran:?}");
    assert!(hub.weights().is_empty(), "{:?}", hub.weights());
}

#[test]
fn without_a_network_it_says_so() {
    let mut hub = Hub::new(bytes(10));
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    hub.endpoint = format!("http://{}", free.local_addr().unwrap());
    drop(free);
    let ran = hub.fetch(&[]);
    assert!(ran.complaint().contains("network"), "{ran:?}");
}

#[test]
fn a_cache_that_cannot_be_written_is_named() {
    let hub = Hub::new(bytes(10));
    let blocked = hub.home.path().join("blocked");
    fs::write(&blocked, b"no folder").unwrap();
    let sha256 = hub.sha256();
    let ran: Ran = hub
        .command(&["--sha256", &sha256])
        .env("HF_HOME", &blocked)
        .output()
        .unwrap()
        .into();
    let complaint = ran.complaint();
    assert!(
        complaint.contains("blocked") && complaint.contains("HF_HOME"),
        "{complaint}"
    );
}

#[test]
fn wrong_usage_is_2() {
    let usages: [&[&str]; 4] = [
        &["fetch"],
        &["fetch", "clip-vit-z"],
        &["fetch", "clip-vit-b-32", "--sha256", "abc"],
        &["fetch", "clip-vit-b-32", "--revision", "../main"],
    ];
    for usage in usages {
        let ran = run(usage);
        assert_eq!(ran.code, Some(2), "{usage:?}: {ran:?}");
    }
    let ran = run(["fetch", "clip-vit-z"]);
    assert!(ran.err.contains("clip-vit-l-14-336"), "{ran:?}");
}

#[test]
fn what_was_fetched_is_imported_and_scores() {
    let Some(golden) = shared("golden") else {
        return;
    };
    let hub = Hub::new(fs::read(golden.join("clip_a_gelu_hf.safetensors")).unwrap());
    let base = hub.fetched(&["-o", hub.home.path().join("clip.bin").to_str().unwrap()]);
    let out = hub.home.path().join("bundle.safetensors");
    let arguments = [
        ("--base", base.as_path()),
        ("--config", &golden.join("n2_gelu/config.json")),
        ("--adapter", &golden.join("n2_gelu/adapter_1.pth")),
        ("--class", Path::new("rail")),
        ("-o", &out),
    ];
    let mut import = acdclip();
    import.arg("import");
    for (name, value) in arguments {
        import.arg(name).arg(value);
    }
    let ran = Ran::from(import.output().unwrap());
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let image = golden.join("image.png");
    let [out, image] = [&out, &image].map(|path| path.to_str().unwrap());
    let ran = run(["score", "--json", "--model", out, "--class", "rail", image]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let score = ran.json()[0]["score"].as_f64().unwrap();
    assert!((0.0..=1.0).contains(&score), "{ran:?}");
}
