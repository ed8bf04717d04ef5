//! The commands that the README, the profiles and the launch scripts promise, run the way a user runs them: in a shell, with
//! gst-launch-1.0 and the plugin out of its library.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::{os::unix::fs::PermissionsExt, path::Path};

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
        let line = line.replace(
            "=frames.jsonl",
            &format!("={}/frames.jsonl", installed.directory.path().display()),
        );
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
