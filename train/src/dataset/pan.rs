//! `acdclip dataset pan`: a clip of slow pans and zooms over pictures, for what nobody has filmed. It is synthetic, and has to be called so.

use std::path::{Path, PathBuf};

use gst::prelude::*;
use gst_app::AppSrc;
use image::{Rgb, RgbImage, imageops::interpolate_bilinear};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::tree;
use crate::{
    calibrate::video,
    launch,
    outcome::{Failure, Outcome, say},
    picture::Picture,
};

/// Sides of the part of a picture that is seen, in parts of its shorter side.
const SEEN: std::ops::Range<f64> = 0.6..0.9;

/// Make a synthetic clip: a camera that pans and zooms slowly over one picture after the other.
///
/// Over pictures of normal tissue it stands in for normal video that is not to be had. Nothing in it moves as in a body: figures that rest on it
/// have to say synthetic, and `acdclip eval-video` keeps them apart where the index says so. The same pictures and seed make the same frames.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Pictures, and folders of pictures.
    #[arg(required = true, value_name = "IMAGE|DIR")]
    pictures: Vec<PathBuf>,
    /// The clip to write, in Matroska (.mkv).
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Take every N-th picture,
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    every: u32,
    /// beginning with this one.
    #[arg(long, value_name = "N", default_value_t = 0)]
    skip: u32,
    /// Frames a second.
    #[arg(long, value_name = "FPS", default_value_t = 25, value_parser = clap::value_parser!(u32).range(1..=240))]
    fps: u32,
    /// Seconds a picture.
    #[arg(long, value_name = "S", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=600))]
    seconds: u32,
    /// Width and height of the clip. The last few columns differ a little from run to run unless it is a multiple of 8, in which JPEG encodes.
    #[arg(long, value_name = "PIXELS", default_value_t = 288, value_parser = clap::value_parser!(u32).range(16..=4096))]
    side: u32,
    /// Which ways the camera goes.
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
}

/// A square of a picture: its middle and its side, in pixels.
#[derive(Debug, Clone, Copy, PartialEq)]
struct View {
    x: f64,
    y: f64,
    side: f64,
}

pub(crate) fn run(args: &Args) -> Outcome {
    let pictures = args.chosen()?;
    video::init()?;
    let made = make(args, &pictures);
    if made.is_err() {
        // Half a clip is none, and neither is one that cannot have its name. There may be nothing to remove.
        let _ = std::fs::remove_file(args.unfinished());
    }
    let frames = made?;
    say(format_args!(
        "{}: {frames} synthetic frames of {} pictures",
        args.output.display(),
        pictures.len()
    ))
}

impl Args {
    fn chosen(&self) -> Outcome<Vec<PathBuf>> {
        let mut pictures = Vec::new();
        for path in &self.pictures {
            match path.is_dir() {
                true => pictures.extend(tree::pictures(path)?),
                false => pictures.push(path.clone()),
            }
        }
        let chosen = pictures.into_iter().skip(self.skip as usize);
        let chosen: Vec<_> = chosen.step_by(self.every as usize).collect();
        match chosen.is_empty() {
            true => Err(Failure::Arguments(
                "wanted pictures, found none in what was named".into(),
            )),
            false => Ok(chosen),
        }
    }

    fn unfinished(&self) -> PathBuf {
        let mut name = self.output.as_os_str().to_owned();
        name.push(".part");
        name.into()
    }

    fn frames(&self) -> u32 {
        self.fps * self.seconds
    }
}

/// Writes the clip, which gets its name when it is whole; how many frames it has.
fn make(args: &Args, pictures: &[PathBuf]) -> Outcome<u64> {
    let frames = write(args, pictures)?;
    std::fs::rename(args.unfinished(), &args.output).map_err(Failure::io(&args.output))?;
    Ok(frames)
}

fn write(args: &Args, pictures: &[PathBuf]) -> Outcome<u64> {
    let failed = |e: &dyn std::fmt::Display| Failure::wrong_file(&args.output, &e.to_string());
    let (side, fps) = (args.side, args.fps);
    let line = format!(
        "appsrc name=source format=time block=true max-buffers=8 caps=video/x-raw,format=RGBx,width={side},height={side},framerate={fps}/1 ! \
         videoconvert ! jpegenc quality=95 ! matroskamux ! filesink name=sink"
    );
    let pipeline = launch::pipeline(&line).map_err(|e| failed(&e))?;
    if let Some(sink) = pipeline.by_name("sink") {
        sink.set_property("location", args.unfinished());
    }
    let source: AppSrc = launch::element(&pipeline, "source").map_err(|e| failed(&e))?;
    // Before anybody pushes: where a source was never started, nothing lets go of who waits for room in its queue.
    launch::start(&pipeline).map_err(|e| {
        failed(&format!(
            "{e}; wanted a folder that is there and may be written to"
        ))
    })?;
    std::thread::scope(|scope| {
        let pushing = scope.spawn(|| {
            let pushed = push(args, pictures, &source);
            // Whatever came of it, the pipeline has to end.
            let _ = source.end_of_stream();
            pushed
        });
        let ended = launch::wait(&pipeline);
        // Where the pipeline has failed, this is what lets go of who still pushes.
        let stopped = pipeline.set_state(gst::State::Null);
        let pushed = pushing.join();
        let pushed = pushed.map_err(|_| failed(&"drawing it failed"))??;
        ended.map_err(|e| failed(&e))?;
        stopped.map_err(|e| failed(&e))?;
        Ok(pushed)
    })
}

/// Draws all frames; how many there are.
fn push(args: &Args, pictures: &[PathBuf], source: &AppSrc) -> Outcome<u64> {
    let mut random = ChaCha8Rng::seed_from_u64(args.seed);
    let at = |frame: u64| gst::ClockTime::SECOND * frame / u64::from(args.fps);
    let mut number = 0;
    for path in pictures {
        let picture = open(path)?;
        let [from, to] = [(); 2].map(|()| View::random(&mut random, picture.dimensions()));
        for n in 0..args.frames() {
            let view = from.towards(to, f64::from(n) / f64::from(args.frames()));
            let mut buffer = frame(&view.draw(&picture, args.side));
            if let Some(times) = buffer.get_mut() {
                times.set_pts(at(number));
                times.set_duration(at(number + 1) - at(number));
            }
            number += 1;
            if source.push_buffer(buffer).is_err() {
                // The pipeline has failed, and says why.
                return Ok(number);
            }
        }
    }
    Ok(number)
}

/// A picture with four bytes a pixel: rows of three would have to be padded where their length is no multiple of four.
fn frame(picture: &RgbImage) -> gst::Buffer {
    let pixels = picture.pixels();
    let bytes: Vec<u8> = pixels.flat_map(|Rgb([r, g, b])| [*r, *g, *b, 0]).collect();
    gst::Buffer::from_slice(bytes)
}

fn open(path: &Path) -> Outcome<RgbImage> {
    let (width, height, pixels) = Picture::open(path)?.into_rgb();
    let picture = RgbImage::from_raw(width as u32, height as u32, pixels);
    picture.ok_or_else(|| Failure::Picture {
        path: path.into(),
        reason: "wanted three bytes a pixel".into(),
    })
}

impl View {
    /// One within a picture of that size.
    fn random(random: &mut impl Rng, (width, height): (u32, u32)) -> Self {
        let side = f64::from(width.min(height)) * random.random_range(SEEN);
        let mut middle = |length: u32| {
            let room = f64::from(length) - side;
            side / 2.0 + room * random.random_range(0.0..1.0)
        };
        Self {
            x: middle(width),
            y: middle(height),
            side,
        }
    }

    /// A part of the way to another, slow at both ends.
    fn towards(self, to: Self, part: f64) -> Self {
        let eased = part * part * (3.0 - 2.0 * part);
        let between = |a: f64, b: f64| a + (b - a) * eased;
        Self {
            x: between(self.x, to.x),
            y: between(self.y, to.y),
            side: between(self.side, to.side),
        }
    }

    /// What it shows, at `side` x `side` pixels.
    fn draw(self, picture: &RgbImage, side: u32) -> RgbImage {
        let (width, height) = picture.dimensions();
        let step = self.side / f64::from(side);
        let at = |pixel: u32, middle: f64, length: u32| {
            let place = middle - self.side / 2.0 + (f64::from(pixel) + 0.5) * step - 0.5;
            place.clamp(0.0, f64::from(length - 1)) as f32
        };
        RgbImage::from_fn(side, side, |x, y| {
            let place = (at(x, self.x, width), at(y, self.y, height));
            interpolate_bilinear(picture, place.0, place.1).unwrap_or(Rgb([0; 3]))
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::{sync::mpsc, time::Duration};

    use gst_app::AppSink;
    use image::RgbaImage;

    use super::*;

    /// A clip of a second over a picture that gets redder and less blue from left to right, and is the same all the way down.
    fn args(folder: &Path, output: &str, side: u32) -> Args {
        let picture = folder.join("picture.png");
        let pixel = |x: u32, _: u32| Rgb([(4 * x) as u8, 90, 255 - (4 * x) as u8]);
        RgbImage::from_fn(64, 64, pixel).save(&picture).unwrap();
        Args {
            pictures: vec![picture],
            output: folder.join(output),
            every: 1,
            skip: 0,
            fps: 25,
            seconds: 1,
            side,
            seed: 0,
        }
    }

    /// The frames of a clip, as they are shown.
    fn shown(clip: &Path) -> Vec<RgbaImage> {
        let line = "filesrc name=source ! decodebin ! videoconvert ! video/x-raw,format=RGBx ! appsink name=sink sync=false";
        let pipeline = launch::pipeline(line).unwrap();
        let source: gst::Element = launch::element(&pipeline, "source").unwrap();
        source.set_property("location", clip);
        let sink: AppSink = launch::element(&pipeline, "sink").unwrap();
        pipeline.set_state(gst::State::Playing).unwrap();
        let mut frames = Vec::new();
        while let Some(sample) = sink.try_pull_sample(gst::ClockTime::from_seconds(60)) {
            let caps = sample.caps().unwrap().structure(0).unwrap();
            let side = |name: &str| caps.get::<i32>(name).unwrap() as u32;
            let bytes = sample.buffer().unwrap().map_readable().unwrap().to_vec();
            frames.push(RgbaImage::from_raw(side("width"), side("height"), bytes).unwrap());
        }
        pipeline.set_state(gst::State::Null).unwrap();
        frames
    }

    #[test]
    fn a_clip_of_any_side_shows_its_pictures() {
        let folder = tempfile::tempdir().unwrap();
        for side in [19, 24, 33] {
            let args = args(folder.path(), "pan.mkv", side);
            run(&args).unwrap();
            let frames = shown(&args.output);
            assert_eq!(frames.len(), 25, "{side}");
            for frame in frames {
                assert_eq!(frame.dimensions(), (side, side));
                // A block that is not whole is encoded with whatever stands in memory beside it.
                let whole = side / 8 * 8;
                let (left, right) = (frame.get_pixel(0, 0), frame.get_pixel(whole - 1, 0));
                assert!(left[0] < right[0] && left[2] > right[2], "{side}");
                for (x, _, pixel) in frame.enumerate_pixels().filter(|(x, ..)| *x < whole) {
                    let first = frame.get_pixel(x, 0);
                    let channels = pixel.0.iter().zip(first.0).take(3);
                    let furthest = channels.map(|(a, b)| a.abs_diff(b)).max();
                    assert!(furthest < Some(16), "{side}: {pixel:?} under {first:?}");
                }
            }
        }
    }

    #[test]
    fn an_output_that_cannot_be_opened_is_named_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let args = args(folder.path(), "nowhere/pan.mkv", 16);
        let (said, heard) = mpsc::channel();
        std::thread::spawn(move || said.send(run(&args).unwrap_err().to_string()));
        let error = heard.recv_timeout(Duration::from_secs(60)).unwrap();
        assert!(
            error.contains("pan.mkv.part") && error.contains("wanted a folder"),
            "{error}"
        );
    }

    #[test]
    fn a_clip_that_cannot_have_its_name_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let args = args(folder.path(), "taken", 16);
        std::fs::create_dir(&args.output).unwrap();
        let error = run(&args).unwrap_err().to_string();
        assert!(error.contains("taken"), "{error}");
        assert!(args.output.is_dir() && !args.unfinished().exists());
    }

    #[test]
    fn a_view_stays_within_its_picture_on_the_whole_way() {
        let mut random = ChaCha8Rng::seed_from_u64(3);
        for size in [(64, 64), (100, 40), (40, 100)] {
            let [from, to] = [(); 2].map(|()| View::random(&mut random, size));
            for n in 0..=20 {
                let View { x, y, side } = from.towards(to, f64::from(n) / 20.0);
                let half = side / 2.0;
                assert!(x >= half && x + half <= f64::from(size.0) + 1e-9);
                assert!(y >= half && y + half <= f64::from(size.1) + 1e-9);
            }
        }
    }

    #[test]
    fn a_view_of_the_whole_is_the_picture() {
        let picture = RgbImage::from_fn(8, 8, |x, y| Rgb([(x * 30) as u8, (y * 30) as u8, 7]));
        let whole = View {
            x: 4.0,
            y: 4.0,
            side: 8.0,
        };
        assert_eq!(whole.draw(&picture, 8), picture);
    }
}
