//! The hub's side of `acdclip fetch`: the crate `hf-hub`, and around it what that leaves to its caller.
//!
//! `hf-hub` asks, follows redirections, fills the cache and goes on with what a broken download has left. It gives a file its name without
//! looking at it, takes as many bytes as are sent, gives up at the first break, and trusts the headers of an answer. So: what the hub
//! offers is held against what is wanted before a byte is asked for; no more bytes are taken than were announced; what has arrived is
//! hashed before it gets its name; and a break is gone on from for as long as each attempt gets further. What has arrived is cut and removed
//! only while `hf-hub` holds its lock: without that it may be what another process is downloading.

use std::{
    any::Any,
    cell::Cell,
    env,
    ffi::OsStr,
    fs, io,
    panic::{self, AssertUnwindSafe},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use hf_hub::{
    Cache, Repo, RepoType,
    api::{
        Progress,
        sync::{ApiBuilder, ApiError, ApiRepo, Metadata},
    },
};
use indicatif::ProgressBar;

use super::{SHA256_DIGITS, Wanted, is_hex};
use crate::{
    files,
    outcome::{Failure, Outcome, warn},
};

/// Hexadecimal digits of a commit's name.
const COMMIT_DIGITS: usize = 40;

/// Between two attempts.
const PAUSE: Duration = Duration::from_secs(1);

/// Why an attempt has failed.
enum Trouble {
    /// `hf-hub` says so.
    Hub(ApiError),
    /// More bytes came than were announced.
    TooLong,
    /// Fewer bytes came than were announced.
    TooShort,
    /// The bytes are others than the wanted ones: their SHA-256.
    Mismatch(String),
    /// What has arrived cannot be read, cut or removed.
    Disk(Failure),
    /// `hf-hub` has panicked over an answer.
    Nonsense,
}

/// The hub's file, as far as the hub has been asked.
struct Hub<'a> {
    wanted: &'a Wanted,
    api: hf_hub::api::sync::Api,
    repo: ApiRepo,
    cache: hf_hub::CacheRepo,
    url: String,
}

/// What the hub says that it has.
struct Offer {
    commit: String,
    /// By which name the cache keeps the file.
    etag: String,
    size: u64,
    /// What the file has to be.
    sha256: String,
}

/// Gets the file into the cache, checked, and says where it is.
pub(super) fn download(wanted: &Wanted) -> Outcome<PathBuf> {
    let hub = Hub::new(wanted)?;
    if let (Some(sha256), true) = (&wanted.sha256, is_hex(&wanted.revision, COMMIT_DIGITS))
        && let Some(path) = hub.cached(&wanted.revision, sha256)?
    {
        return Ok(path);
    }
    let offer = hub.ask()?;
    match hub.cached(&offer.commit, &offer.sha256)? {
        Some(path) => Ok(path),
        None => hub.download(&offer),
    }
}

impl<'a> Hub<'a> {
    fn new(wanted: &'a Wanted) -> Outcome<Self> {
        if env::var_os("HF_HOME").is_none() && env::home_dir().is_none() {
            return Err(Failure::Fetch(
                "wanted a folder for the hub's cache, found no home; set HF_HOME to one".into(),
            ));
        }
        let cache = Cache::from_env();
        let mut builder = ApiBuilder::from_env();
        if let Ok(endpoint) = env::var("HF_ENDPOINT") {
            builder = builder.with_endpoint(endpoint.trim_end_matches('/').into());
        }
        // It knows the token that a login has left in HF_HOME; the variable goes before that.
        if let Ok(token) = env::var("HF_TOKEN") {
            let token = token.trim();
            builder = builder.with_token((!token.is_empty()).then(|| token.into()));
        }
        let api = builder.build().map_err(|e| Failure::Fetch(e.to_string()))?;
        let repo = Repo::with_revision(
            wanted.weights.repository.into(),
            RepoType::Model,
            wanted.revision.clone(),
        );
        let cache = cache.repo(repo.clone());
        let repo = api.repo(repo);
        let url = repo.url(wanted.weights.file);
        Ok(Self {
            wanted,
            api,
            repo,
            cache,
            url,
        })
    }

    /// The file of that commit in the cache, if it is there and is what it has to be. One that is damaged is removed; one that is sound stays,
    /// whoever wants another.
    fn cached(&self, commit: &str, sha256: &str) -> Outcome<Option<PathBuf>> {
        let path = self
            .cache
            .pointer_path(commit)
            .join(self.wanted.weights.file);
        if !path.exists() {
            return Ok(None);
        }
        let found = files::sha256(&path)?;
        if found == sha256 {
            return Ok(Some(path));
        }
        let blob = path.canonicalize().map_err(Failure::io(&path))?;
        if !is_damaged(&blob, &found) {
            return Err(Failure::Fetch(format!(
                "{} is in the cache, and is not what is wanted: wanted SHA-256 {sha256}, found {found}; say the right one with --sha256, or \
                 remove the file to have it downloaded anew",
                path.display()
            )));
        }
        warn(&format_args!(
            "{} is damaged (it is kept as {}, found SHA-256 {found}), and is removed",
            path.display(),
            blob.display()
        ));
        remove(&blob)?;
        remove(&path)?;
        Ok(None)
    }

    /// Asks what the hub has under that name, and holds it against what is wanted.
    fn ask(&self) -> Outcome<Offer> {
        let metadata = guarded(|| self.api.metadata(&self.url)).map_err(|e| self.explain(e))?;
        let (commit, etag) = (metadata.commit_hash(), metadata.etag());
        let safe = |c: u8| c.is_ascii_alphanumeric() || c == b'-';
        if !is_hex(commit, COMMIT_DIGITS) || etag.is_empty() || !etag.bytes().all(safe) {
            return Err(self.explain(Trouble::Nonsense));
        }
        if is_hex(&self.wanted.revision, COMMIT_DIGITS) && commit != self.wanted.revision {
            return Err(Failure::Fetch(format!(
                "{}: wanted commit {}, found {commit}",
                self.url, self.wanted.revision
            )));
        }
        Ok(Offer {
            sha256: self.agree(etag)?,
            commit: commit.into(),
            etag: etag.into(),
            size: size(&metadata),
        })
    }

    /// The SHA-256 that both sides mean. A file in Git LFS goes by it on the hub.
    fn agree(&self, etag: &str) -> Outcome<String> {
        let offered = is_hex(etag, SHA256_DIGITS).then(|| etag.to_ascii_lowercase());
        match (&self.wanted.sha256, offered) {
            (Some(wanted), Some(offered)) if *wanted != offered => Err(Failure::Fetch(format!(
                "{}: wanted SHA-256 {wanted}, the hub has {offered}; nothing was downloaded",
                self.url
            ))),
            (Some(wanted), _) => Ok(wanted.clone()),
            (None, Some(offered)) => Ok(offered),
            (None, None) => Err(Failure::Fetch(format!(
                "{}: the hub does not say which SHA-256 the file has to have; say it with --sha256",
                self.url
            ))),
        }
    }

    fn download(&self, offer: &Offer) -> Outcome<PathBuf> {
        let blob = self.cache.blob_path(&offer.etag);
        let part = blob.with_extension("part");
        let mut may_start_anew = true;
        loop {
            let start = Cell::new(None);
            let watch = Watch {
                part: &part,
                offer,
                start: &start,
                arrived: 0,
                bar: ProgressBar::new(offer.size),
            };
            let file = self.wanted.weights.file;
            let outcome = guarded(|| self.repo.download_with_progress(file, watch));
            let start = start.get();
            let went_on = start.is_some_and(|start| start > 0);
            let got_further = start.is_some_and(|start| length(&part) > start);
            match outcome {
                Ok(path) => return Ok(path),
                Err(Trouble::Mismatch(_) | Trouble::TooLong) if went_on && may_start_anew => {
                    // What was there before may be to blame, or a server that does not know how to go on.
                    may_start_anew = false;
                }
                Err(trouble @ (Trouble::Mismatch(_) | Trouble::TooLong)) => {
                    return Err(self.refuse(offer, trouble));
                }
                Err(trouble) if trouble.is_a_break() && got_further => thread::sleep(PAUSE),
                Err(trouble) => return Err(self.explain(trouble)),
            }
        }
    }

    fn refuse(&self, offer: &Offer, trouble: Trouble) -> Failure {
        let found = match trouble {
            Trouble::Mismatch(found) => found,
            _ => format!("more than the {} bytes that were announced", offer.size),
        };
        Failure::Fetch(format!(
            "{}: wanted SHA-256 {}, found {found}; what was downloaded is removed",
            self.url, offer.sha256
        ))
    }

    /// One line of what went wrong, and what to do.
    fn explain(&self, trouble: Trouble) -> Failure {
        let says = match trouble {
            Trouble::Disk(failure) => return failure,
            Trouble::Hub(ApiError::RequestError(e)) => match *e {
                ureq::Error::StatusCode(404) => format!(
                    "the hub has no such file (404): is the revision {} right, and HF_ENDPOINT, if it is set?",
                    self.wanted.revision
                ),
                ureq::Error::StatusCode(code @ (401 | 403)) => format!(
                    "the hub does not let everybody have it ({code}): set HF_TOKEN to a token that may, and look at HF_ENDPOINT, if it is set"
                ),
                ureq::Error::StatusCode(code) => {
                    format!("the hub answered with status {code}; try again later")
                }
                e => unreachable_hub(&e),
            },
            Trouble::Hub(ApiError::IoError(e)) if is_local(&e) => format!(
                "{e}, in the cache {}: make room, or set HF_HOME to a folder elsewhere; what has arrived is kept, and gone on with",
                self.cache.blob_path("").display()
            ),
            Trouble::Hub(ApiError::IoError(e)) => unreachable_hub(&e),
            Trouble::Hub(ApiError::LockAcquisition(lock)) => format!(
                "another process is downloading it ({} is locked): wait for that",
                lock.display()
            ),
            Trouble::Hub(ApiError::MissingHeader(name) | ApiError::InvalidHeader(name)) => {
                format!("the answer lacks the header {name}, or a good one: is HF_ENDPOINT a hub?")
            }
            Trouble::Hub(e) => format!("{e}: is HF_ENDPOINT a hub?"),
            Trouble::TooShort => unreachable_hub(&"the connection was closed"),
            Trouble::TooLong | Trouble::Mismatch(_) | Trouble::Nonsense => {
                "the answer makes no sense: is HF_ENDPOINT a hub?".into()
            }
        };
        Failure::Fetch(format!("{}: {says}", self.url))
    }
}

fn unreachable_hub(problem: &dyn std::fmt::Display) -> String {
    format!(
        "{problem}: is there a network, and is HF_ENDPOINT right, if it is set? What has arrived is kept: the same command goes on from there"
    )
}

impl Trouble {
    /// Whether the connection has broken, and another attempt may get further.
    fn is_a_break(&self) -> bool {
        match self {
            Self::TooShort => true,
            Self::Hub(ApiError::IoError(e)) => !is_local(e),
            Self::Hub(ApiError::RequestError(e)) => !matches!(**e, ureq::Error::StatusCode(_)),
            _ => false,
        }
    }
}

/// Whether it is about our disk, not about the network.
fn is_local(error: &io::Error) -> bool {
    use io::ErrorKind::{
        AlreadyExists, FileTooLarge, IsADirectory, NotADirectory, NotFound, PermissionDenied,
        QuotaExceeded, ReadOnlyFilesystem, StorageFull,
    };
    matches!(
        error.kind(),
        AlreadyExists
            | FileTooLarge
            | IsADirectory
            | NotADirectory
            | NotFound
            | PermissionDenied
            | QuotaExceeded
            | ReadOnlyFilesystem
            | StorageFull
    )
}

fn size(metadata: &Metadata) -> u64 {
    u64::try_from(metadata.size()).unwrap_or(u64::MAX)
}

fn length(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |metadata| metadata.len())
}

/// Whether a file of the cache has other bytes than its name says. Only what the hub keeps in Git LFS is called by its SHA-256.
fn is_damaged(blob: &Path, found: &str) -> bool {
    let name = blob.file_name().and_then(OsStr::to_str);
    name.is_some_and(|name| is_hex(name, SHA256_DIGITS) && !name.eq_ignore_ascii_case(found))
}

fn remove(path: &Path) -> Outcome {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Failure::io(path)(e)),
        _ => Ok(()),
    }
}

/// How much of a file of `size` bytes has arrived earlier. A part that is whole was stopped before it was checked: its last byte is
/// asked for again, since a hub has no answer to being asked for nothing.
fn prepare(part: &Path, size: u64) -> io::Result<u64> {
    let arrived = length(part);
    if arrived < size {
        return Ok(arrived);
    }
    let kept = if arrived == size {
        size.saturating_sub(1)
    } else {
        0
    };
    if arrived > 0 {
        fs::OpenOptions::new()
            .write(true)
            .open(part)?
            .set_len(kept)?;
    }
    Ok(kept)
}

/// Looks over `hf-hub`'s shoulder while it downloads. What it sees it can only count and show; so where it has to say no, it unwinds through
/// the download with a [`Trouble`], which [`guarded`] catches.
struct Watch<'a> {
    part: &'a Path,
    offer: &'a Offer,
    /// How much has arrived earlier; `None` until the lock is held.
    start: &'a Cell<Option<u64>>,
    arrived: u64,
    bar: ProgressBar,
}

impl Watch<'_> {
    /// Says no to what has arrived.
    fn discard(&self, trouble: Trouble) -> ! {
        match remove(self.part) {
            Ok(()) => stop(trouble),
            Err(failure) => stop(Trouble::Disk(failure)),
        }
    }
}

impl Progress for Watch<'_> {
    /// Comes twice: when the lock is held and no file is open yet, and when `hf-hub` has measured what is there and has asked for the rest.
    fn init(&mut self, size: usize, name: &str) {
        if self.start.get().is_none() {
            match prepare(self.part, self.offer.size) {
                Ok(kept) => self.start.set(Some(kept)),
                Err(e) => stop(Trouble::Disk(Failure::io(self.part)(e))),
            }
        }
        self.arrived = 0;
        Progress::init(&mut self.bar, size, name);
    }

    fn update(&mut self, size: usize) {
        self.arrived = self.arrived.saturating_add(size as u64);
        if self.arrived > self.offer.size {
            self.discard(Trouble::TooLong);
        }
        Progress::update(&mut self.bar, size);
    }

    /// All that will come has come, and has not got its name yet.
    fn finish(&mut self) {
        Progress::finish(&mut self.bar);
        if self.arrived < self.offer.size {
            stop(Trouble::TooShort);
        }
        match files::sha256(self.part) {
            Ok(found) if found == self.offer.sha256 => {}
            Ok(found) => self.discard(Trouble::Mismatch(found)),
            Err(failure) => stop(Trouble::Disk(failure)),
        }
    }
}

fn stop(trouble: Trouble) -> ! {
    panic::resume_unwind(Box::new(trouble))
}

/// Runs a piece of `hf-hub`, which unwinds where [`Watch`] says no, and panics over answers that no hub would give.
fn guarded<T>(work: impl FnOnce() -> Result<T, ApiError>) -> Result<T, Trouble> {
    let hook = panic::take_hook();
    panic::set_hook(Box::new(|_| {}));
    let outcome = panic::catch_unwind(AssertUnwindSafe(work));
    panic::set_hook(hook);
    let trouble = |payload: Box<dyn Any + Send>| {
        payload
            .downcast()
            .map_or(Trouble::Nonsense, |trouble| *trouble)
    };
    outcome.map_err(trouble)?.map_err(Trouble::Hub)
}
