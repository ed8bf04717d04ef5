//! `acdclip monitor`: shows a video in the browser with what is wrong in it: the live picture, the score over time, events.
//!
//! The pipeline ([`pipeline`]) fills a board ([`board`]) and the slots for pictures ([`pictures`]); the server ([`server`]) hands them to
//! viewers. Neither waits for the other.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use gst::prelude::*;

mod api;
mod board;
mod feed;
mod findings;
mod guard;
mod hub;
mod jump;
mod listen;
mod pictures;
mod pipeline;
mod record;
mod server;
mod source;
mod webrtc;

use self::{
    board::{Phase, now},
    findings::Told,
    hub::Hub,
    record::Recorder,
    server::Serving,
    source::Source,
};
use crate::{
    calibrate,
    interrupt::stop_on_interrupt,
    outcome::{Failure, Outcome, complain, one_line, say, warn},
};

/// Between two looks at whether to stop.
const TICK: gst::ClockTime = gst::ClockTime::from_mseconds(100);
/// Between two looks at the element's figures.
const COUNT: Duration = Duration::from_secs(1);

/// Shows a video in the browser with what is wrong in it: the live picture, the score over time, events. For research; no medical device.
///
/// The page is for this machine alone unless --listen says otherwise. Nothing is stored unless --record says so.
/// Ends with the video, or by Ctrl-C.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// A video file, a URI (rtsp://, http://), a device (/dev/video0), or a gst-launch description that ends in raw or encoded video.
    #[arg(required = true, value_name = "SOURCE")]
    source: Vec<String>,
    #[command(flatten)]
    listen: listen::ListenArgs,
    #[command(flatten)]
    pipeline: pipeline::PipelineArgs,
    #[command(flatten)]
    record: record::RecordArgs,
    #[command(flatten)]
    way: webrtc::WayArgs,
    /// Viewers at once, at most.
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=1024))]
    max_viewers: u16,
    /// Keep serving the page when the video has ended or failed, until Ctrl-C.
    #[arg(long)]
    stay: bool,
}

/// How a video came to its end.
enum End {
    /// By itself.
    Over,
    /// By Ctrl-C.
    Stopped,
    /// By that.
    Failed(String),
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> Outcome {
    calibrate::video::init()?;
    let stop = stop_on_interrupt()?;
    let source = Source::parse(&args.source)?;
    let door = args.listen.open()?;
    let pipeline = pipeline::build(&args.pipeline, &source, args.record.branch().as_ref())?;
    let (way, broadcast) = args.way.open(&door, args.pipeline.bits())?;
    let hub = Hub::new(&pipeline, broadcast, args.max_viewers.into())?;
    let hub = Arc::new(hub);
    hub.board.tell(|status| {
        status.source = source.label();
        status.picture = way;
    });
    pipeline::connect(&pipeline, &hub)?;
    let recorder = Recorder::start(&args.record, &pipeline, &hub)?;
    say(format_args!("watching at {}", door.url()))?;
    let serving = Serving::start(door, &hub)?;
    let watch = Watch {
        pipeline: &pipeline,
        hub: &hub,
        recorder: recorder.as_ref(),
        stop: &stop,
        stays: args.stay,
    };
    let end = match watch.play() {
        End::Over if !hub.has_seen_frames() => End::Failed(format!(
            "{}: wanted a video, found no frame in it",
            source.label()
        )),
        end => end,
    };
    let stopped = pipeline.set_state(gst::State::Null);
    if let Some(recorder) = recorder {
        recorder.finish();
    }
    hub.end_pictures();
    hub.board.tell(|status| status.seekable = false);
    tell_end(&hub, &end);
    if let (End::Over | End::Failed(_), true) = (&end, args.stay) {
        if let End::Failed(problem) = &end {
            complain(problem);
        }
        wait_for(&stop);
        serving.stop();
        return Ok(());
    }
    serving.stop();
    if let End::Failed(problem) = end {
        return Err(Failure::Arguments(problem));
    }
    stopped.map_err(|e| Failure::Arguments(e.to_string()))?;
    Ok(())
}

fn wait_for(stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        std::thread::sleep(TICK.into());
    }
}

fn tell_end(hub: &Hub, end: &End) {
    // What the page shows of a stream that is over are its last figures.
    hub.board.count(hub.figures());
    hub.board.end_events(now());
    hub.board.tell(|status| match end {
        End::Over | End::Stopped => status.phase = Phase::Ended,
        End::Failed(problem) => {
            status.phase = Phase::Failed;
            status.problem = Some(problem.clone());
        }
    });
}

/// The video as it plays.
struct Watch<'a> {
    pipeline: &'a gst::Pipeline,
    hub: &'a Hub,
    recorder: Option<&'a Recorder>,
    stop: &'a AtomicBool,
    /// Whether what has ended is kept to be gone back in.
    stays: bool,
}

impl Watch<'_> {
    /// Plays the video to its end, and tells the hub what the element says.
    fn play(&self) -> End {
        let Some(bus) = self.pipeline.bus() else {
            return End::Failed("the pipeline has no bus".into());
        };
        // Why it cannot, if it cannot, is on the bus.
        let started = self.pipeline.set_state(gst::State::Playing);
        let mut counted = Instant::now();
        loop {
            if self.stop.load(Ordering::Relaxed) {
                return End::Stopped;
            }
            let message = bus.timed_pop(TICK);
            if message.is_none() && started.is_err() {
                return End::Failed("GStreamer cannot start the source".into());
            }
            match message.and_then(|message| self.attend(&message)) {
                Some(End::Over) if self.stays && self.can_go_back() => self.rest(),
                Some(end) => return end,
                None => (),
            }
            if counted.elapsed() >= COUNT {
                counted = Instant::now();
                self.count();
            }
        }
    }

    fn count(&self) {
        self.hub.board.count(self.hub.figures());
        self.can_go_back();
    }

    /// Whether viewers can go back in it, which they are told once.
    fn can_go_back(&self) -> bool {
        let board = &self.hub.board;
        if !board.is_seekable() && self.hub.has_seen_frames() && self.hub.can_jump() {
            board.tell(|status| status.seekable = true);
        }
        board.is_seekable()
    }

    /// It has ended, and waits for somebody to go back in it.
    fn rest(&self) {
        tell_end(self.hub, &End::Over);
        if let Some(recorder) = self.recorder {
            recorder.pause();
        }
    }

    /// Deals with a message of the pipeline; tells whether it is the last one.
    fn attend(&self, message: &gst::Message) -> Option<End> {
        match message.view() {
            gst::MessageView::Eos(_) => return Some(End::Over),
            gst::MessageView::Error(e) => {
                let from = e.src().map_or("GStreamer".into(), |from| from.name());
                return Some(End::Failed(one_line(&format!("{from}: {}", e.error()))));
            }
            gst::MessageView::Warning(w) => {
                let warning = one_line(&w.error().to_string());
                warn(&warning);
                self.hub.board.tell(|status| status.warning = Some(warning));
            }
            gst::MessageView::Element(told) => {
                if let Some(told) = told.structure().and_then(Told::read) {
                    self.hear(told);
                }
            }
            gst::MessageView::Latency(_) => {
                // A pipeline that cannot tell goes on as it was.
                let _ = self.pipeline.recalculate_latency();
            }
            _ => (),
        }
        None
    }

    /// What is seen again has been recorded the first time, unless somebody went elsewhere before its end.
    fn hear(&self, told: Told) {
        let is_again = self.hub.board.hear(&told);
        if let Some(recorder) = self.recorder.filter(|_| !is_again) {
            recorder.hear(told);
        }
    }
}
