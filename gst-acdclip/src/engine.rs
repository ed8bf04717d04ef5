//! Models in memory: loaded once a process for each file, device and arithmetic, shared by the elements that name them, dropped with the last.
//!
//! A model has one worker, which takes the frames of all its streams in turn and several at a time ([`crate::batch`]).

use std::{
    collections::HashMap,
    fmt,
    path::{Path, PathBuf},
    sync::{Arc, LazyLock, OnceLock, Weak},
    time::{Duration, Instant, SystemTime},
};

use acdclip_model::{
    Detector, Frame,
    config::Domain,
    detector::{Finding, Input, Query, Settings, Text},
    precision::Runtime,
};
use parking_lot::Mutex;

use crate::batch::{Done, Failure, Limits, Line, Worker};

/// What the worker of a model does: one frame, ready for the network.
pub(crate) struct Job {
    pub(crate) input: Input,
    pub(crate) text: Text,
    pub(crate) domain: Option<Domain>,
}

/// A model, its worker and what is known of its cost.
pub(crate) struct Engine {
    detector: Arc<Detector>,
    worker: Worker<Job, Finding>,
    warm_up: OnceLock<Duration>,
}

/// One stream's line to a model's worker. It keeps the model.
pub(crate) struct EngineLine {
    // Dropped before the engine, whose worker waits for the last line.
    line: Line<Job, Finding>,
    engine: Arc<Engine>,
}

impl EngineLine {
    /// The model.
    pub(crate) fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    /// Has the network look at `job`, and waits for it.
    pub(crate) fn call(&self, job: Job, limits: Limits) -> Result<Done<Finding>, Failure> {
        self.line.call(job, limits)
    }

    /// The same for several jobs, which wait together; answers in order.
    pub(crate) fn call_all(
        &self,
        jobs: Vec<Job>,
        limits: Limits,
    ) -> Result<Vec<Done<Finding>>, Failure> {
        self.line.call_all(jobs, limits)
    }

    /// Ends a wait at once, and lets nobody wait until it is opened again.
    pub(crate) fn close(&self) {
        self.line.close();
    }

    /// Lets frames be scored again.
    pub(crate) fn open(&self) {
        self.line.open();
    }
}

/// Why there is no engine.
#[derive(Debug)]
pub(crate) enum Error {
    /// No model was named, and none is built in.
    #[cfg(not(feature = "builtin-model"))]
    NoModel,
    /// The model could not be loaded.
    Model(acdclip_model::Error),
    /// The system has no thread for its worker.
    Thread(std::io::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            #[cfg(not(feature = "builtin-model"))]
            Self::NoModel => f.write_str(
                "no model is named and this build has none built in; set model=PATH to a bundle that `acdclip import` has written, \
                 or build with the feature builtin-model",
            ),
            Self::Model(
                e @ (acdclip_model::Error::Io { .. }
                | acdclip_model::Error::File { .. }
                | acdclip_model::Error::Tensor { .. }),
            ) => write!(
                f,
                "{e}; wanted a bundle that `acdclip import` has written{}",
                if cfg!(feature = "builtin-model") {
                    ", or no model property for the built-in model"
                } else {
                    ""
                }
            ),
            Self::Model(e) => e.fmt(f),
            Self::Thread(e) => write!(f, "no thread could be had to run the model: {e}"),
        }
    }
}

impl From<acdclip_model::Error> for Error {
    fn from(e: acdclip_model::Error) -> Self {
        Self::Model(e)
    }
}

/// Two elements with equal keys use one engine. A file that has been replaced is another model.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Source {
    BuiltIn,
    File {
        path: PathBuf,
        len: u64,
        modified: Option<SystemTime>,
    },
}

impl Source {
    fn new(model: &str) -> Result<Self, Error> {
        if model.is_empty() {
            return Ok(Self::BuiltIn);
        }
        let path = Path::new(model);
        let io = |e| acdclip_model::Error::io(path, e);
        let canonical = path.canonicalize().map_err(io)?;
        let data = canonical.metadata().map_err(io)?;
        Ok(Self::File {
            path: canonical,
            len: data.len(),
            modified: data.modified().ok(),
        })
    }
}

/// One key's engine, locked while it is being loaded, so that it is loaded once.
type Slot = Arc<Mutex<Weak<Engine>>>;

static ENGINES: LazyLock<Mutex<HashMap<(Source, Runtime), Slot>>> = LazyLock::new(Mutex::default);

impl Engine {
    /// The engine of `model` (a bundle's path, empty for the built-in one), where and in the arithmetic that `runtime` says.
    pub(crate) fn open(model: &str, runtime: impl Into<Runtime>) -> Result<Arc<Self>, Error> {
        let source = Source::new(model)?;
        let runtime = runtime.into().resolve();
        let slot = {
            let mut engines = ENGINES.lock();
            // A slot that somebody else holds is about to be filled.
            engines.retain(|_, slot| Arc::strong_count(slot) > 1 || slot.lock().strong_count() > 0);
            engines
                .entry((source.clone(), runtime))
                .or_default()
                .clone()
        };
        let mut held = slot.lock();
        if let Some(engine) = held.upgrade() {
            return Ok(engine);
        }
        let detector = Arc::new(load(&source, runtime)?);
        let runner = detector.clone();
        let worker = Worker::spawn("acdclip", move |jobs| run(&runner, &jobs));
        let engine = Arc::new(Self {
            detector,
            worker: worker.map_err(Error::Thread)?,
            warm_up: OnceLock::new(),
        });
        *held = Arc::downgrade(&engine);
        Ok(engine)
    }

    /// The model.
    pub(crate) fn detector(&self) -> &Detector {
        &self.detector
    }

    /// A line to the worker for one more stream.
    pub(crate) fn line(self: Arc<Self>) -> EngineLine {
        EngineLine {
            line: self.worker.line(),
            engine: self,
        }
    }

    /// What one black frame of the network's own size costs, measured the first time that somebody asks. The first run is not timed: it
    /// pages the weights in, makes the class's text features and starts threads, which no later frame does.
    pub(crate) fn warm_up(&self, text: &Text) -> Result<Duration, Error> {
        if let Some(cost) = self.warm_up.get() {
            return Ok(*cost);
        }
        let side = self.detector.config().input_size;
        let black = vec![0; side * side * 3];
        let frame = Frame::rgb(&black, side * 3, side, side)?;
        let score = || {
            let input = &self.detector.prepare(&frame, &Settings::default())?;
            let domain = None;
            let findings = self.detector.run(&[Query {
                input,
                text,
                domain,
            }])?;
            findings
                .into_iter()
                .try_for_each(|finding| finding.map(drop))
        };
        score()?;
        let start = Instant::now();
        score()?;
        Ok(*self.warm_up.get_or_init(|| start.elapsed()))
    }
}

fn run(detector: &Detector, jobs: &[Job]) -> Vec<Result<Finding, String>> {
    let queries: Vec<_> = jobs
        .iter()
        .map(|job| Query {
            input: &job.input,
            text: &job.text,
            domain: job.domain,
        })
        .collect();
    match detector.run(&queries) {
        Ok(findings) => findings
            .into_iter()
            .map(|finding| finding.map_err(|e| e.to_string()))
            .collect(),
        Err(e) => jobs.iter().map(|_| Err(e.to_string())).collect(),
    }
}

fn load(source: &Source, runtime: Runtime) -> Result<Detector, Error> {
    match source {
        Source::File { path, .. } => Ok(Detector::open(path, runtime)?),
        #[cfg(feature = "builtin-model")]
        Source::BuiltIn => Ok(Detector::builtin(runtime)?),
        #[cfg(not(feature = "builtin-model"))]
        Source::BuiltIn => Err(Error::NoModel),
    }
}

#[cfg(all(test, feature = "builtin-model"))]
mod tests {
    #![allow(clippy::unwrap_used)]
    use acdclip_model::{DeviceSpec, Precision};

    use super::*;

    #[test]
    fn another_arithmetic_is_another_engine() {
        let open = |precision| {
            let device = DeviceSpec::Cpu;
            let runtime = Runtime {
                device,
                precision,
                threads: 0,
            };
            Engine::open("", runtime).unwrap()
        };
        let (float, int8) = (open(Precision::F32), open(Precision::Int8));
        assert!(!Arc::ptr_eq(&float, &int8));
        assert!(Arc::ptr_eq(&float, &open(Precision::Auto)));
        assert_eq!(int8.detector().precision(), Precision::Int8);
    }

    #[cfg(not(any(feature = "cuda", feature = "metal")))]
    #[test]
    fn a_device_by_another_name_is_the_same_engine() {
        let automatic = Engine::open("", DeviceSpec::Auto).unwrap();
        let cpu = Engine::open("", DeviceSpec::Cpu).unwrap();
        assert!(Arc::ptr_eq(&automatic, &cpu));
    }

    #[test]
    fn one_model_in_memory_for_all_who_name_it_and_none_when_they_are_gone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        std::fs::write(&path, acdclip_model::BUILTIN_MODEL).unwrap();
        let open = || Engine::open(path.to_str().unwrap(), DeviceSpec::Cpu).unwrap();
        let (first, second) = (open(), open());
        assert!(Arc::ptr_eq(&first, &second));
        let weak = Arc::downgrade(&first);
        drop((first, second));
        assert!(weak.upgrade().is_none());
        let third = open();
        // Renamed over the old file, not written into it: that one is still mapped.
        let other = folder.path().join("other.safetensors");
        let half = acdclip_model::BUILTIN_MODEL.len() / 2;
        std::fs::write(&other, &acdclip_model::BUILTIN_MODEL[..half]).unwrap();
        std::fs::rename(&other, &path).unwrap();
        assert!(
            Engine::open(path.to_str().unwrap(), DeviceSpec::Cpu).is_err(),
            "the replaced file was not read"
        );
        drop(third);
    }
}
