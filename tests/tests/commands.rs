//! The commands that the README, the profiles and the launch scripts promise, run the way a user runs them: in a shell, with
//! gst-launch-1.0 and the plugin out of its library.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::{os::unix::fs::PermissionsExt, path::Path};

use acdclip_model::record::Record;
use common::{Installed, printed, root, sample};

#[test]
fn the_library_loads_and_describes_itself() {
    let installed = Installed::new();
    let output = installed.shell("gst-inspect-1.0 acdclip");
    let text = printed(&output);
    assert!(output.status.success(), "{text}");
    for property in [
        "config",
        "model",
        "device",
        "class-name",
        "interval",
        "threshold",
        "map-threshold",
        "calibration",
        "min-area",
        "jsonl-location",
        "overlay",
        "opacity",
        "colormap",
        "messages",
        "stats",
        "resize",
    ] {
        assert!(text.contains(property), "no property {property} in {text}");
    }
    let output = installed.shell("gst-inspect-1.0 --print-blacklist 2>&1");
    assert!(
        !printed(&output).contains("gstacdclip"),
        "{}",
        printed(&output)
    );
}

#[test]
fn the_first_command_works_with_no_model_file() {
    let output =
        Installed::new().shell("gst-launch-1.0 -q videotestsrc num-buffers=5 ! acdclip ! fakesink");
    assert!(output.status.success(), "{}", printed(&output));
}

#[test]
fn a_model_that_is_not_there_is_an_error_that_names_it() {
    let output = Installed::new().shell(
        "gst-launch-1.0 videotestsrc num-buffers=5 ! acdclip model=nowhere.safetensors ! fakesink",
    );
    let text = printed(&output);
    assert!(
        !output.status.success() && text.contains("nowhere.safetensors"),
        "{text}"
    );
}

#[test]
fn both_profiles_run_on_the_built_in_model() {
    let installed = Installed::new();
    for profile in ["rail", "colonoscopy"] {
        let jsonl = installed.directory.path().join(format!("{profile}.jsonl"));
        let line = format!(
            "gst-launch-1.0 -q videotestsrc num-buffers=3 ! acdclip config=pipelines/{profile}.toml jsonl-location={} ! fakesink",
            jsonl.display()
        );
        let output = installed.shell(&line);
        assert!(output.status.success(), "{}", printed(&output));
        assert_eq!(std::fs::read_to_string(jsonl).unwrap().lines().count(), 3);
    }
}

#[test]
fn the_launch_scripts_for_a_file_and_a_test_picture_run() {
    let installed = Installed::new();
    let file = format!(
        "SINK=fakesink pipelines/file.sh {} interval=100",
        sample().display()
    );
    for line in [
        file.as_str(),
        "SINK=fakesink FRAMES=3 pipelines/test-source.sh overlay=score",
    ] {
        let output = installed.shell(line);
        assert!(output.status.success(), "{line}: {}", printed(&output));
    }
}

/// Puts a `gst-launch-1.0` before the real one that only says what it was asked to launch.
fn echoing(installed: &Installed) -> String {
    let stub = installed.directory.path().join("gst-launch-1.0");
    std::fs::write(&stub, "#!/bin/sh\nprintf '%s ' \"$@\"\n").unwrap();
    std::fs::set_permissions(&stub, PermissionsExt::from_mode(0o755)).unwrap();
    format!("PATH={}:$PATH", installed.directory.path().display())
}

#[test]
fn the_launch_scripts_for_cameras_make_a_pipeline() {
    let installed = Installed::new();
    let path = echoing(&installed);
    common::init();
    for (source, line) in [
        ("v4l2src", "pipelines/webcam.sh /dev/video7 interval=2"),
        (
            "rtspsrc",
            "pipelines/rtsp.sh rtsp://camera.example/1 overlay=box",
        ),
    ] {
        let output = installed.shell(&format!("{path} SINK=fakesink {line}"));
        assert!(output.status.success(), "{}", printed(&output));
        let pipeline = String::from_utf8(output.stdout).unwrap();
        assert!(
            pipeline.starts_with(source) && pipeline.contains("acdclip "),
            "{pipeline}"
        );
        if gst::ElementFactory::find(source).is_none() {
            println!("skipped: this GStreamer has no {source}");
            continue;
        }
        gst::parse::launch(&pipeline).unwrap_or_else(|e| panic!("{pipeline}: {e}"));
    }
}

/// The Python that the distribution's packages are for; a virtual environment has none of them. Where it cannot read GStreamer, says so.
fn python(installed: &Installed) -> Option<&'static str> {
    let python = "/usr/bin/python3";
    let check =
        "import gi; gi.require_version('Gst', '1.0'); gi.require_version('GstVideo', '1.0')";
    let output = installed.shell(&format!("{python} -c \"{check}\""));
    if output.status.success() {
        return Some(python);
    }
    println!("skipped: {}", printed(&output));
    None
}

/// The value of `name=value` in a line, if it is there.
fn value<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    line.split_whitespace()
        .find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
}

/// `x`, `y`, `w`, `h` and score of a region in a line.
fn printed_region(line: &str) -> ([u32; 4], f32) {
    let rect = ["x", "y", "w", "h"].map(|name| value(line, name).unwrap().parse().unwrap());
    (rect, value(line, "score").unwrap().parse().unwrap())
}

/// Whether two scores are the same but for the digits that are printed.
fn same_score(printed: f32, score: f32) -> bool {
    (printed - score).abs() < 1e-5
}

#[test]
fn the_python_example_prints_what_the_json_lines_of_the_same_run_say() {
    let installed = Installed::new();
    let Some(python) = python(&installed) else {
        return;
    };
    let jsonl = installed.directory.path().join("frames.jsonl");
    // Two sources, so that there are frames with and without an event, and one of a time that is not 0.
    for (source, anomalous) in [
        ("videotestsrc pattern=ball num-buffers=3", true),
        ("videotestsrc pattern=black num-buffers=2", false),
    ] {
        let output = installed.shell(&format!(
            "{python} pipelines/read_metadata.py -p jsonl-location={} -p overlay=0 {source} ! video/x-raw,width=160,height=120",
            jsonl.display()
        ));
        assert!(output.status.success(), "{}", printed(&output));
        let text = String::from_utf8(output.stdout).unwrap();
        let mut lines = text.lines().peekable();
        for json in std::fs::read_to_string(&jsonl).unwrap().lines() {
            let record: Record = serde_json::from_str(json).unwrap();
            assert_eq!(record.anomalous, anomalous);
            let line = lines.next().expect("a frame is missing");
            let number = |name| value(line, name).map(|number| number.parse::<u64>().unwrap());
            assert_eq!(number("frame"), Some(record.frame));
            assert_eq!(number("pts"), record.pts);
            assert_eq!(number("event-id"), record.event_id);
            assert_eq!(number("age"), Some(record.age));
            let says = value(line, "anomalous").unwrap();
            assert_eq!(says, if record.anomalous { "True" } else { "False" });
            let score = value(line, "score").unwrap().parse().unwrap();
            assert!(same_score(score, record.score), "{line}");
            // Once out of the custom meta, once as regions of interest.
            for kind in ["  region ", "  roi "] {
                for region in &record.regions {
                    let line = lines.next_if(|line| line.starts_with(kind));
                    let (rect, score) = printed_region(line.expect("a region is missing"));
                    assert_eq!(rect, [region.x, region.y, region.w, region.h]);
                    assert!(same_score(score, region.score), "{line:?}");
                }
            }
            assert_eq!(record.regions.is_empty(), !anomalous);
        }
        assert_eq!(lines.next(), None);
    }
}

#[test]
fn the_python_example_reads_the_sample_where_no_source_is_named() {
    let installed = Installed::new();
    let Some(python) = python(&installed) else {
        return;
    };
    let output = installed.shell(&format!(
        "{python} pipelines/read_metadata.py -p interval=100 -p overlay=0"
    ));
    let text = printed(&output);
    assert!(output.status.success(), "{text}");
    assert!(
        text.matches("frame=").count() > 100 && text.contains("age=40000000"),
        "{text}"
    );
}

#[test]
fn the_python_example_says_in_one_line_what_is_wrong() {
    let installed = Installed::new();
    let Some(python) = python(&installed) else {
        return;
    };
    for (line, wanted) in [
        // -S: without the packages that were installed.
        (
            format!("{python} -S pipelines/read_metadata.py"),
            "apt-get install python3-gi",
        ),
        (
            format!(
                "{python} pipelines/read_metadata.py filesrc location=/nowhere.mp4 ! decodebin"
            ),
            "not found",
        ),
        (
            format!("{python} pipelines/read_metadata.py nosuchsrc"),
            "nosuchsrc",
        ),
        (
            format!(
                "{python} pipelines/read_metadata.py -p model=nowhere.safetensors videotestsrc"
            ),
            "nowhere.safetensors",
        ),
    ] {
        let output = installed.shell(&line);
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{line}: {complaint}");
        assert!(
            complaint.starts_with("error: ") && complaint.contains(wanted),
            "{line}: {complaint}"
        );
        assert_eq!(complaint.lines().count(), 1, "{line}: {complaint}");
    }
}

/// The shell lines of a Markdown text's ```sh blocks, continued lines joined.
fn shell_lines(markdown: &str) -> Vec<String> {
    let mut inside = false;
    let mut text = String::new();
    for line in markdown.lines() {
        match line.trim() {
            "```sh" => inside = true,
            "```" => inside = false,
            _ if inside => {
                text.push_str(line);
                text.push('\n');
            }
            _ => {}
        }
    }
    text.replace("\\\n", " ")
        .lines()
        .map(str::to_owned)
        .collect()
}

#[test]
fn the_readmes_launch_lines_run() {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let lines = shell_lines(&readme);
    let launches: Vec<_> = lines
        .iter()
        .filter(|line| line.starts_with("gst-launch-1.0"))
        .collect();
    assert!(launches.len() >= 2, "{launches:?}");
    let installed = Installed::new();
    for line in launches {
        // A test has no screen, and none of the patience that scoring each frame takes.
        let line = line
            .replace("autovideosink", "fakesink")
            .replace("acdclip ", "acdclip interval=50 ");
        let directory = installed.directory.path().display();
        let line = ["frames.jsonl", "clean.mkv"]
            .iter()
            .fold(line, |line, file| {
                line.replace(&format!("={file}"), &format!("={directory}/{file}"))
            });
        let output = installed.shell(&line);
        assert!(output.status.success(), "{line}: {}", printed(&output));
    }
}

#[test]
fn every_file_that_the_readme_points_to_is_there() {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let links = readme
        .split("](")
        .skip(1)
        .filter_map(|rest| rest.split(')').next());
    for link in links.filter(|link| !link.contains("://") && !link.starts_with('#')) {
        assert!(
            root().join(Path::new(link)).exists(),
            "README.md points to {link}"
        );
    }
}
