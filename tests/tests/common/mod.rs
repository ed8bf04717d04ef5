//! What the end-to-end tests share: where things lie, and the plugin as users load it, out of its library.

#![allow(dead_code, clippy::unwrap_used, clippy::expect_used)]

pub(crate) mod live;
pub(crate) mod rounds;

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::Once,
};

use gst::prelude::*;

/// The checkout.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .canonicalize()
        .unwrap()
}

/// `path` in the directory of test data, which a checkout alone does not have. Where it is absent, says so.
pub(crate) fn shared(path: &str) -> Option<PathBuf> {
    let base =
        std::env::var_os("ACDCLIP_SHARED").map_or_else(|| root().join("../shared"), PathBuf::from);
    let path = base.join(path);
    if path.exists() {
        return Some(path);
    }
    println!(
        "skipped: {} is not there (set ACDCLIP_SHARED)",
        path.display()
    );
    None
}

/// The sample clip.
pub(crate) fn sample() -> PathBuf {
    root().join("pipelines/samples/aluminum_pan.mp4")
}

/// The plugin's library, which cargo has put beside this test.
pub(crate) fn library() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let name = format!(
        "{}gstacdclip{}",
        std::env::consts::DLL_PREFIX,
        std::env::consts::DLL_SUFFIX
    );
    let library = test.parent().unwrap().join(name);
    assert!(library.exists(), "{} has not been built", library.display());
    library
}

/// Loads GStreamer and the plugin's library into this process, once.
pub(crate) fn init() {
    static INIT: Once = Once::new();
    INIT.call_once(|| {
        gst::init().unwrap();
        let plugin = gst::Plugin::load_file(library()).unwrap();
        gst::Registry::get().add_plugin(&plugin).unwrap();
    });
}

/// A machine's view of the plugin: a directory with it alone, and a registry of its own.
pub(crate) struct Installed {
    pub(crate) directory: tempfile::TempDir,
}

impl Installed {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let plugins = directory.path().join("plugins");
        std::fs::create_dir(&plugins).unwrap();
        let library = library();
        std::os::unix::fs::symlink(&library, plugins.join(library.file_name().unwrap())).unwrap();
        Self { directory }
    }

    /// A command that runs in the checkout and finds the plugin.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .current_dir(root())
            .env("GST_PLUGIN_PATH", self.directory.path().join("plugins"))
            .env("GST_REGISTRY", self.directory.path().join("registry.bin"));
        command
    }

    /// Runs a shell line.
    pub(crate) fn shell(&self, line: &str) -> Output {
        self.command("sh").args(["-c", line]).output().unwrap()
    }
}

/// What a command printed, for a failed assertion.
pub(crate) fn printed(output: &Output) -> String {
    format!(
        "{}\n{}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// The pipeline of a launch line.
pub(crate) fn pipeline(line: &str) -> gst::Pipeline {
    let element = gst::parse::launch(line).unwrap_or_else(|e| panic!("{line}: {e}"));
    element.downcast().expect("one element is no pipeline")
}

/// Runs a pipeline to its end; an error message on its bus fails the test.
pub(crate) fn run_to_end(pipeline: &gst::Pipeline) {
    pipeline.set_state(gst::State::Playing).unwrap();
    let bus = pipeline.bus().unwrap();
    let message = bus.timed_pop_filtered(
        gst::ClockTime::from_seconds(900),
        &[gst::MessageType::Eos, gst::MessageType::Error],
    );
    pipeline.set_state(gst::State::Null).unwrap();
    if let gst::MessageView::Error(e) = message.expect("the pipeline has not ended").view() {
        panic!("{} ({:?})", e.error(), e.debug());
    }
}

/// Frames of a clip as tightly packed RGB, in order.
pub(crate) struct Frames {
    pipeline: gst::Pipeline,
    sink: gst_app::AppSink,
}

impl Frames {
    pub(crate) fn open(path: &Path) -> Self {
        init();
        let line = format!(
            "filesrc location={:?} ! decodebin ! videoconvert ! video/x-raw,format=RGB ! appsink name=sink sync=false max-buffers=4",
            path.display().to_string()
        );
        let pipeline = pipeline(&line);
        let sink = pipeline
            .by_name("sink")
            .unwrap()
            .downcast::<gst_app::AppSink>()
            .unwrap();
        pipeline.set_state(gst::State::Playing).unwrap();
        Self { pipeline, sink }
    }
}

/// One decoded frame.
pub(crate) struct Decoded {
    pub(crate) width: usize,
    pub(crate) height: usize,
    pub(crate) stride: usize,
    pub(crate) data: Vec<u8>,
}

impl Iterator for Frames {
    type Item = Decoded;

    fn next(&mut self) -> Option<Decoded> {
        let sample = self.sink.pull_sample().ok()?;
        let info = gst_video::VideoInfo::from_caps(sample.caps().unwrap()).unwrap();
        Some(Decoded {
            width: info.width() as usize,
            height: info.height() as usize,
            stride: info.stride()[0] as usize,
            data: sample.buffer().unwrap().map_readable().unwrap().to_vec(),
        })
    }
}

impl Drop for Frames {
    fn drop(&mut self) {
        self.pipeline.set_state(gst::State::Null).unwrap();
    }
}
