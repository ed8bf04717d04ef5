//! What is watched, as it is named on the command line: a file, a URI, a device or a gst-launch description.

use std::path::{Path, PathBuf};

use axum::http::Uri;
use gst::prelude::*;

use crate::outcome::{Failure, Outcome};

/// Streams other than video are not decoded.
const DECODE: &str = "decodebin expose-all-streams=false caps=video/x-raw(ANY)";

/// Where the video comes from.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Source {
    /// A file that GStreamer can decode.
    File(PathBuf),
    /// Anything that GStreamer finds by a URI.
    Uri(String),
    /// A capture card or camera of Video4Linux.
    Device(String),
    /// A description in gst-launch's language that ends in raw or encoded video.
    Description(String),
}

impl Source {
    /// Tells which kind is meant. GStreamer is initialised.
    ///
    /// Many words are a description, as gst-launch takes it; a single one is what it looks like.
    pub(super) fn parse(words: &[String]) -> Outcome<Self> {
        let [word] = words else {
            let escaped: Vec<_> = words.iter().map(|word| escape(word)).collect();
            return Ok(Self::Description(escaped.join(" ")));
        };
        let is_description = word.contains(['!', '=']) || word.contains(char::is_whitespace);
        if Path::new(word).is_file() {
            Ok(Self::File(word.into()))
        } else if word.starts_with("/dev/") {
            Ok(Self::Device(word.clone()))
        } else if word.contains("://") && !word.contains([' ', '!']) {
            Ok(Self::Uri(word.clone()))
        } else if is_description || gst::ElementFactory::find(word).is_some() {
            Ok(Self::Description(word.clone()))
        } else {
            Err(Failure::Arguments(format!(
                "{word}: wanted a video file, a URI (rtsp://, http://), a device (/dev/video0) or a gst-launch description, found nothing \
                 by that name"
            )))
        }
    }

    /// The beginning of a description for gst-launch, up to raw video. What a user has named is set by [`Self::name_to`].
    pub(super) fn launch_text(&self) -> String {
        match self {
            Self::File(_) => format!("filesrc name=source ! {DECODE}"),
            Self::Uri(_) => {
                format!("uri{DECODE} name=source")
            }
            Self::Device(_) => format!("v4l2src name=source ! {DECODE}"),
            Self::Description(text) => format!("{text} ! {DECODE}"),
        }
    }

    /// Tells the pipeline's source which one it is: a name never has to be quoted.
    pub(super) fn name_to(&self, pipeline: &gst::Pipeline) {
        let Some(source) = pipeline.by_name("source") else {
            return;
        };
        match self {
            Self::File(path) => source.set_property("location", path),
            Self::Uri(uri) => source.set_property("uri", uri),
            Self::Device(device) => source.set_property("device", device),
            Self::Description(_) => (),
        }
    }

    /// What the page calls it: no folder, no password, no query.
    pub(super) fn label(&self) -> String {
        match self {
            Self::File(path) => path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into(),
            Self::Uri(text) => {
                let uri = text.parse::<Uri>().ok();
                let host = uri.as_ref().and_then(Uri::host).unwrap_or_default();
                let path = uri.as_ref().map_or("", Uri::path);
                let scheme = text.split("://").next().unwrap_or_default();
                format!("{scheme}://{host}{path}")
            }
            Self::Device(device) => device.clone(),
            Self::Description(_) => "pipeline".into(),
        }
    }
}

/// As gst-launch joins its arguments: white space that a shell has left in one belongs to it, unless it is quoted.
fn escape(word: &str) -> String {
    let mut escaped = String::with_capacity(word.len());
    let (mut is_quoted, mut before) = (false, ' ');
    for letter in word.chars() {
        if letter == '"' && before != '\\' {
            is_quoted = !is_quoted;
        }
        if letter == ' ' && !is_quoted {
            escaped.push('\\');
        }
        escaped.push(letter);
        before = letter;
    }
    escaped
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn parse(words: &[&str]) -> Outcome<Source> {
        gst::init().unwrap();
        let words: Vec<_> = words.iter().map(|&word| word.to_owned()).collect();
        Source::parse(&words)
    }

    #[test]
    fn a_source_is_what_it_looks_like() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().to_str().unwrap();
        assert_eq!(parse(&[path]).unwrap(), Source::File(path.into()));
        assert!(matches!(
            parse(&["rtsp://u:p@cam/1"]).unwrap(),
            Source::Uri(_)
        ));
        assert!(matches!(
            parse(&["/dev/video0"]).unwrap(),
            Source::Device(_)
        ));
        let description = Source::Description("videotestsrc".into());
        assert_eq!(parse(&["videotestsrc"]).unwrap(), description);
        let description = Source::Description(r"videotestsrc ! video/x-raw,\ width=64".into());
        assert_eq!(
            parse(&["videotestsrc", "!", "video/x-raw, width=64"]).unwrap(),
            description
        );
        let error = parse(&["no-such-file.mp4"]).unwrap_err().to_string();
        assert!(error.contains("no-such-file.mp4"), "{error}");
    }

    #[test]
    fn a_label_gives_no_secret_away() {
        let label = parse(&["rtsp://user:secret@camera.example:554/ch1?token=abc"])
            .unwrap()
            .label();
        assert_eq!(label, "rtsp://camera.example/ch1");
        assert_eq!(Source::File("/ward/7/a.mp4".into()).label(), "a.mp4");
    }
}
