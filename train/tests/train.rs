//! `acdclip train` on a network and pictures so small that a run takes a second: what it leaves, that it repeats itself, that it can be
//! stopped and gone on with, and what it makes of odd sets.
#![allow(clippy::unwrap_used)]

mod common;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use acdclip_model::{Bundle, Config, schema};
use common::{Ran, TINY, acdclip, run, save_tensors};

/// A folder with towers, a set of twelve pictures and a recipe for both.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let place = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        fs::write(place.path("config.json"), TINY).unwrap();
        let config = Config::from_json(TINY).unwrap();
        let specs = [schema::vision_tower(&config), schema::text_tower(&config)].concat();
        save_tensors(&place.path("base.safetensors"), specs);
        place.set("set", 12, (40, 30));
        place.recipe("");
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A set of pictures: every other one with a bright spot, and a mask of it.
    fn set(&self, name: &str, count: usize, (width, height): (u32, u32)) {
        let folder = self.path(name);
        fs::create_dir(&folder).unwrap();
        let mut lines = String::new();
        for i in 0..count {
            let is_abnormal = i % 2 == 1;
            let spot = |x: u32, y: u32| {
                let (dx, dy) = (x * 4 / width, y * 4 / height);
                is_abnormal && (dx, dy) == (i as u32 % 4, 2)
            };
            let picture = image::RgbImage::from_fn(width, height, |x, y| {
                let texture = ((x * 5 + y * 3 + i as u32 * 11) % 60) as u8;
                image::Rgb(if spot(x, y) {
                    [250, 240, texture]
                } else {
                    [60 + texture; 3]
                })
            });
            picture.save(folder.join(format!("{i}.png"))).unwrap();
            let mask = image::GrayImage::from_fn(width, height, |x, y| {
                image::Luma([if spot(x, y) { 255 } else { 0 }])
            });
            mask.save(folder.join(format!("{i}_mask.png"))).unwrap();
            let mask = if is_abnormal {
                format!("{i}_mask.png")
            } else {
                String::new()
            };
            lines += &format!(
                "{{\"image_path\": \"{i}.png\", \"label\": {}, \"class_name\": \"{}\", \"mask_path\": \"{mask}\"}}\n",
                u8::from(is_abnormal),
                ["metal_plate", "rail"][i / 2 % 2]
            );
        }
        fs::write(folder.join("meta.jsonl"), lines).unwrap();
    }

    /// Writes `recipe.toml`: these towers and this set, six steps an epoch, and what `more` says.
    fn recipe(&self, more: &str) {
        self.recipe_of("set", more);
    }

    fn recipe_of(&self, set: &str, more: &str) {
        let schedule = if more.contains("[schedule]") {
            ""
        } else {
            "[schedule]\nepochs = 2\nbatch_size = 2\n"
        };
        let text = format!(
            "seed = 5\n{more}\n{schedule}[model]\nbase = \"base.safetensors\"\nconfig = \"config.json\"\n[[data]]\npath = \"{set}\"\n"
        );
        fs::write(self.path("recipe.toml"), text).unwrap();
    }

    fn arguments(&self, output: &str, more: &[&str]) -> Vec<String> {
        let path = |name| self.path(name).display().to_string();
        let mut arguments = vec![
            "train".into(),
            "--config".into(),
            path("recipe.toml"),
            "--device".into(),
            "cpu".into(),
            "-o".into(),
            path(output),
        ];
        arguments.extend(more.iter().map(|s| (*s).to_owned()));
        arguments
    }

    fn train(&self, output: &str) -> Ran {
        run(self.arguments(output, &[]))
    }

    fn trained(&self, output: &str) -> Ran {
        let ran = self.train(output);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        ran
    }

    fn resume(&self, output: &str) -> Ran {
        let output = self.path(output).display().to_string();
        run(["train", "--device", "cpu", "-o", &output, "--resume"])
    }

    /// Starts a run and waits until it has taken so many steps.
    fn start(&self, output: &str, steps: usize) -> Child {
        let mut child = acdclip()
            .args(self.arguments(output, &[]))
            .stderr(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let since = Instant::now();
        while rows(&self.path(output).join("log.csv")).len() < steps {
            assert_eq!(child.try_wait().unwrap(), None, "ended by itself");
            assert!(
                since.elapsed() < Duration::from_secs(300),
                "no step was taken"
            );
            std::thread::sleep(Duration::from_millis(5));
        }
        child
    }

    fn bytes(&self, path: &str) -> Vec<u8> {
        fs::read(self.path(path)).unwrap()
    }
}

/// Cells of a table without its header; none where there is no table.
fn rows(path: &Path) -> Vec<Vec<String>> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines()
        .skip(1)
        .map(|row| row.split(',').map(str::to_owned).collect())
        .collect()
}

/// The table without the columns that are times.
fn untimed(path: &Path) -> Vec<Vec<String>> {
    let text = fs::read_to_string(path).unwrap_or_default();
    let header = text.lines().next().unwrap_or_default().split(',');
    let kept: Vec<_> = header
        .map(|name| !["images_per_second", "seconds"].contains(&name))
        .collect();
    rows(path)
        .into_iter()
        .map(|row| {
            let cells = row.into_iter().zip(&kept);
            cells
                .filter(|(_, kept)| **kept)
                .map(|cell| cell.0)
                .collect()
        })
        .collect()
}

fn files(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort_unstable();
    names
}

fn numbers_of(row: &[String]) -> Vec<f64> {
    row.iter().map(|cell| cell.parse().unwrap()).collect()
}

#[test]
fn a_run_learns_and_leaves_a_bundle_and_its_tables() {
    let place = Place::new();
    place.recipe("[schedule]\nepochs = 6\nbatch_size = 4\n[validation]\nfraction = 0.3");
    let ran = place.trained("run");
    assert!(ran.out.contains("bundle.safetensors: model "), "{ran:?}");
    let run_folder = place.path("run");
    assert_eq!(
        files(&run_folder),
        [
            "adapters",
            "bundle.safetensors",
            "checkpoints",
            "config.toml",
            "epochs.csv",
            "events",
            "log.csv",
            "model.json"
        ]
    );
    assert_eq!(files(&run_folder.join("adapters")).len(), 6);
    assert_eq!(files(&run_folder.join("checkpoints")).len(), 2);
    let epochs = rows(&run_folder.join("epochs.csv"));
    assert_eq!(epochs.len(), 6);
    let (first, last) = (numbers_of(&epochs[0]), numbers_of(&epochs[5]));
    assert!(last[1] < first[1], "the loss falls: {first:?} {last:?}");
    assert!(
        last[6] < first[6],
        "on what was kept apart too: {first:?} {last:?}"
    );
    let bundle = Bundle::open(&run_folder.join("bundle.safetensors")).unwrap();
    assert_eq!(bundle.classes(), ["metal_plate", "rail"]);
    assert!(bundle.has_text_tower());
    bundle.verify().unwrap();
    let model = run_folder.join("bundle.safetensors");
    let picture = place.path("set/1.png");
    let scored = run([
        "score".as_ref(),
        "--model".as_ref(),
        model.as_os_str(),
        "--class".as_ref(),
        "rail".as_ref(),
        picture.as_os_str(),
    ]);
    assert_eq!(scored.code, Some(0), "{scored:?}");
}

#[test]
fn adapters_of_an_epoch_make_the_bundle_that_the_run_made() {
    let place = Place::new();
    place.recipe("[output]\ndtype = \"q8\"\n[model.network]\nblur = { kernel = 3, sigma = 0.6 }\nimage_score = { cls = 0.2, map_max = 0.3, map_top = 0.5 }");
    place.trained("run");
    let [base, config, adapter, made] = [
        "base.safetensors",
        "run/model.json",
        "run/adapters/epoch-002.safetensors",
        "made.safetensors",
    ]
    .map(|name| place.path(name).display().to_string());
    let ran = run([
        "import",
        "--base",
        &base,
        "--config",
        &config,
        "--adapter",
        &adapter,
        "--dtype",
        "q8",
        "-o",
        &made,
    ]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let hash = |name| Bundle::open(&place.path(name)).unwrap().hash();
    assert_eq!(hash("made.safetensors"), hash("run/bundle.safetensors"));
}

#[test]
fn a_run_repeats_itself_bit_for_bit_and_another_seed_does_not() {
    let place = Place::new();
    place.trained("a");
    place.recipe("[loader]\nworkers = 3\nprefetch = 1");
    place.trained("b");
    assert_eq!(
        untimed(&place.path("a/log.csv")),
        untimed(&place.path("b/log.csv"))
    );
    for file in [
        "bundle.safetensors",
        "adapters/epoch-001.safetensors",
        "checkpoints/step-000000012.safetensors",
    ] {
        let same = place.bytes(&format!("a/{file}")) == place.bytes(&format!("b/{file}"));
        assert!(same, "{file}");
    }
    let other = run(place.arguments("c", &["--seed", "6"]));
    assert_eq!(other.code, Some(0), "{other:?}");
    assert!(place.bytes("a/bundle.safetensors") != place.bytes("c/bundle.safetensors"));
    // Any value may be given so.
    let set = run(place.arguments("d", &["--set", "seed=6", "--set", "loader.workers=1"]));
    assert_eq!(set.code, Some(0), "{set:?}");
    assert!(place.bytes("c/bundle.safetensors") == place.bytes("d/bundle.safetensors"));
    let kept = String::from_utf8(place.bytes("d/config.toml")).unwrap();
    assert!(kept.contains("workers = 1"), "{kept}");
}

#[test]
fn a_value_that_the_recipe_does_not_have_is_named_and_nothing_begun() {
    let place = Place::new();
    place.recipe("");
    for (setting, named) in [
        ("schedule.epoch=1", "unknown field `epoch`"),
        ("schedule.epochs=few", "expected usize"),
        ("schedule.epochs=0", "schedule.epochs"),
        ("=1", "wanted a key"),
    ] {
        let ran = run(place.arguments("run", &["--set", setting]));
        assert!(ran.code.is_some_and(|code| code > 0), "{setting}: {ran:?}");
        assert!(ran.err.contains(named), "{setting}: {}", ran.err);
        assert!(!place.path("run").exists(), "{setting}");
    }
}

#[test]
fn runs_of_different_seeds_begin_alike_where_the_recipe_says_so() {
    let place = Place::new();
    // Nothing is learnt, so that a run ends with what it began with.
    place.recipe("[optimizer]\nimage_rate = 0.0\ntext_rate = 0.0");
    let recipe = fs::read_to_string(place.path("recipe.toml")).unwrap();
    let begun = |output: &str, model: &str, seed: &str| {
        let recipe = recipe.replace("[model]\n", &format!("[model]\n{model}"));
        fs::write(place.path("recipe.toml"), recipe).unwrap();
        let ran = run(place.arguments(output, &["--seed", seed]));
        assert_eq!(ran.code, Some(0), "{ran:?}");
        place.bytes(&format!("{output}/adapters/epoch-001.safetensors"))
    };
    let alike = "start_seed = 9\n";
    let first = begun("a", alike, "5");
    assert!(first == begun("b", alike, "6"));
    assert!(first != begun("c", "", "6"));
}

/// The losses in a run's table, a step each.
fn losses(run: &Path) -> Vec<f64> {
    let rows = rows(&run.join("log.csv"));
    rows.iter().map(|row| row[3].parse().unwrap()).collect()
}

#[test]
fn towers_in_half_precision_train_as_those_in_single_precision() {
    let place = Place::new();
    let schedule = "[schedule]\nepochs = 6\nbatch_size = 2";
    place.recipe(schedule);
    place.trained("f32");
    let single = losses(&place.path("f32"));
    for compute in ["bf16", "f16"] {
        let ran = run(place.arguments(compute, &["--compute", compute]));
        assert_eq!(ran.code, Some(0), "{ran:?}");
        let half = losses(&place.path(compute));
        assert_eq!(half.len(), single.len());
        for (step, (half, single)) in half.iter().zip(&single).enumerate() {
            let gap = (half - single).abs() / single;
            assert!(gap < 0.03, "{compute}, step {step}: {half} for {single}");
        }
        assert_ne!(half, single, "{compute}");
        let adapters = place.bytes(&format!("{compute}/adapters/epoch-006.safetensors"));
        let adapters = safetensors::SafeTensors::deserialize(&adapters).unwrap();
        let wide = |t: &safetensors::tensor::TensorView<'_>| t.dtype() == safetensors::Dtype::F32;
        assert!(adapters.tensors().iter().all(|(_, tensor)| wide(tensor)));
    }
}

#[test]
fn a_run_in_f16_finds_the_largest_scale_that_holds_and_keeps_it_when_gone_on_with() {
    let place = Place::new();
    let recipe = |epochs| {
        let loss = "[loss]\nfocal = 3e3\ndice_normal = 3e3\ndice_abnormal = 3e3\nclass = 3e3";
        place.recipe(&format!(
            "compute = \"f16\"\n{loss}\n[schedule]\nepochs = {epochs}\nbatch_size = 2"
        ));
    };
    recipe(4);
    let whole = place.trained("whole");
    let found = whole.err.matches("too large for f16").count();
    assert!((1..16).contains(&found), "{whole:?}");
    recipe(2);
    place.trained("stopped");
    let resumed = run([
        "train",
        "--device",
        "cpu",
        "-o",
        &place.path("stopped").display().to_string(),
        "--resume",
        "--epochs",
        "4",
    ]);
    assert_eq!(resumed.code, Some(0), "{resumed:?}");
    assert!(!resumed.err.contains("too large for f16"), "{resumed:?}");
    assert_eq!(
        untimed(&place.path("whole/log.csv")),
        untimed(&place.path("stopped/log.csv"))
    );
}

const LONG: &str = "[schedule]\nepochs = 12\nbatch_size = 2\n[validation]\nfraction = 0.2\n[output]\nbundle = \"best\"\n[optimizer]\nschedule = \"cosine\"\naverage = 0.9";

/// The run in `stopped` ended as the one in `whole` did.
fn assert_same_run(place: &Place, whole: &str, stopped: &str) {
    for table in ["log.csv", "epochs.csv"] {
        let read = |run: &str| untimed(&place.path(run).join(table));
        assert_eq!(read(whole), read(stopped), "{table}");
    }
    for folder in ["adapters", "checkpoints"] {
        let names = |run: &str| files(&place.path(run).join(folder));
        assert_eq!(names(whole), names(stopped));
        for name in names(whole) {
            let read = |run: &str| place.bytes(&format!("{run}/{folder}/{name}"));
            assert!(read(whole) == read(stopped), "{folder}/{name}");
        }
    }
    let bundle = |run: &str| place.bytes(&format!("{run}/bundle.safetensors"));
    assert!(bundle(whole) == bundle(stopped));
}

#[cfg(unix)]
fn signal(child: &Child, name: &str) {
    let status = std::process::Command::new("kill")
        .args([format!("-{name}"), child.id().to_string()])
        .status()
        .unwrap();
    assert!(status.success());
}

#[test]
#[cfg(unix)]
fn stopped_by_ctrl_c_and_gone_on_with_a_run_ends_as_if_it_had_not_been() {
    let place = Place::new();
    place.recipe(LONG);
    place.trained("whole");
    let mut child = place.start("stopped", 17);
    signal(&child, "INT");
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let again = place.train("stopped");
    assert!(again.complaint().contains("--resume"), "{again:?}");
    let resumed = place.resume("stopped");
    assert_eq!(resumed.code, Some(0), "{resumed:?}");
    assert!(resumed.err.contains("going on after step "), "{resumed:?}");
    assert_same_run(&place, "whole", "stopped");
}

#[test]
#[cfg(unix)]
fn killed_outright_a_run_goes_on_from_its_last_checkpoint() {
    let place = Place::new();
    place.recipe(LONG);
    place.trained("whole");
    let mut child = place.start("killed", 20);
    child.kill().unwrap();
    child.wait().unwrap();
    // What a process that dies while it writes leaves behind.
    let half = place.path("killed/checkpoints/step-000099999.safetensors");
    fs::write(&half, b"half a checkp").unwrap();
    fs::write(place.path("killed/checkpoints/.acdclip-x1.part"), b"half").unwrap();
    fs::write(place.path("killed/.acdclip-x2.tmp"), b"half a bundle").unwrap();
    let resumed = place.resume("killed");
    assert_eq!(resumed.code, Some(0), "{resumed:?}");
    assert!(
        resumed.err.contains("step-000099999"),
        "it says so: {resumed:?}"
    );
    assert_same_run(&place, "whole", "killed");
    assert!(!place.path("killed/.acdclip-x2.tmp").exists());
    // Without its settings it is no run to go on with, and no place for another.
    fs::remove_file(place.path("killed/config.toml")).unwrap();
    let again = place.train("killed");
    assert!(again.complaint().contains("is gone"), "{again:?}");
}

#[test]
fn a_finished_run_can_be_made_longer() {
    let place = Place::new();
    place.trained("short");
    let output = place.path("short").display().to_string();
    let longer = run([
        "train", "--device", "cpu", "-o", &output, "--resume", "--epochs", "3",
    ]);
    assert_eq!(longer.code, Some(0), "{longer:?}");
    place.recipe("[schedule]\nepochs = 3\nbatch_size = 2");
    place.trained("long");
    assert_same_run(&place, "long", "short");
}

#[test]
fn accumulated_batches_step_as_one_large_batch() {
    let place = Place::new();
    // The last step's two batches are of two pictures and of one.
    place.set("odd", 7, (40, 30));
    place.recipe_of("odd", "[schedule]\nepochs = 2\nbatch_size = 4");
    place.trained("large");
    place.recipe_of(
        "odd",
        "[schedule]\nepochs = 2\nbatch_size = 2\naccumulate = 2",
    );
    place.trained("small");
    let read = |run: &str| untimed(&place.path(run).join("log.csv"));
    let (large, small) = (read("large"), read("small"));
    assert_eq!((large.len(), small.len()), (4, 4));
    for (large, small) in large.iter().zip(&small) {
        for (a, b) in numbers_of(large).iter().zip(numbers_of(small)) {
            assert!(
                (a - b).abs() < 1e-4 * a.abs().max(1.0),
                "{large:?} {small:?}"
            );
        }
    }
}

#[test]
fn every_switch_of_the_network_trains() {
    let place = Place::new();
    for (i, network) in [
        "form = \"paper\"\ninput_size = 42",
        "adapter = \"lora\"\nfusion = \"static\"",
    ]
    .iter()
    .enumerate()
    {
        let more = format!(
            "[model.network]\n{network}\n[schedule]\nepochs = 1\nbatch_size = 4\n[text]\nobject_agnostic = true\n[augment.crop]\nprobability = 0.7\n[optimizer]\nclip_all = 1.0\nwarmup_steps = 2"
        );
        place.recipe(&more);
        place.trained(&i.to_string());
        let bundle = Bundle::open(&place.path(&format!("{i}/bundle.safetensors"))).unwrap();
        assert_eq!(bundle.classes(), ["object"]);
    }
}

#[test]
fn a_text_tower_can_be_trained_from_nothing_and_left_out_of_the_bundle() {
    let place = Place::new();
    let config: serde_json::Value = serde_json::from_str(TINY).unwrap();
    let mut without = config.clone();
    without.as_object_mut().unwrap().remove("text");
    without["text_width"] = 8.into();
    fs::write(place.path("config.json"), without.to_string()).unwrap();
    let refused = place.train("refused");
    assert!(refused.complaint().contains("text tower"), "{refused:?}");
    let more = "[output]\nkeep_text_tower = false\n[text]\nbake = [\"object\", \"rail\"]\n[model.network.text]\nwidth = 8\nlayers = 2\nheads = 2\n";
    place.recipe(more);
    let recipe = fs::read_to_string(place.path("recipe.toml")).unwrap();
    let recipe = recipe.replace("[model]\n", "[model]\ntrain_text_tower = true\n");
    fs::write(place.path("recipe.toml"), recipe).unwrap();
    place.trained("run");
    let bundle = Bundle::open(&place.path("run/bundle.safetensors")).unwrap();
    assert!(!bundle.has_text_tower());
    assert_eq!(bundle.classes(), ["object", "rail"]);
    // And such a bundle can be trained on: its text features stay as they are.
    fs::write(
        place.path("recipe.toml"),
        "[model]\nbase = \"run/bundle.safetensors\"\nadapters = \"base\"\n[text]\nobject_agnostic = true\n[schedule]\nepochs = 1\n[[data]]\npath = \"set\"\n",
    )
    .unwrap();
    place.trained("more");
    let more = Bundle::open(&place.path("more/bundle.safetensors")).unwrap();
    let features = |bundle: &Bundle| {
        let bank = bundle.text_bank().unwrap();
        bank.get("object")
            .unwrap()
            .flatten_all()
            .unwrap()
            .to_vec1::<f32>()
            .unwrap()
    };
    assert_eq!(features(&bundle), features(&more));
    assert_ne!(bundle.hash(), more.hash());
}

#[test]
fn a_corrupt_picture_is_named_or_left_out() {
    let place = Place::new();
    let jpeg = place.path("set/3.png");
    let mut bytes = Vec::new();
    let picture = image::open(&jpeg).unwrap();
    picture
        .write_to(
            &mut std::io::Cursor::new(&mut bytes),
            image::ImageFormat::Jpeg,
        )
        .unwrap();
    fs::write(&jpeg, &bytes[..bytes.len() / 3]).unwrap();
    let ran = place.train("strict");
    assert_eq!(ran.code, Some(1));
    let complaint = ran.err.lines().last().unwrap();
    assert!(complaint.contains("3.png"), "{complaint}");
    place.recipe("[loader]\non_bad_image = \"skip\"");
    let ran = place.trained("lax");
    let warned = ran.err.matches("3.png").count();
    assert_eq!(warned, 1, "once, not every epoch: {ran:?}");
}

#[test]
fn a_missing_mask_is_named_or_left_out() {
    let place = Place::new();
    fs::remove_file(place.path("set/5_mask.png")).unwrap();
    let ran = place.train("strict");
    assert!(ran.complaint().contains("5_mask.png"), "{ran:?}");
    assert!(!place.path("strict").exists(), "nothing is left behind");
    place.recipe("[loader]\non_bad_image = \"skip\"");
    let ran = place.trained("lax");
    assert!(ran.err.contains("11 images to train on"), "{ran:?}");
}

#[test]
fn sets_of_one_label_one_image_and_very_wide_images_train() {
    let place = Place::new();
    place.set("one", 1, (40, 30));
    place.set("wide", 2, (8192, 64));
    place.set("normal", 4, (40, 30));
    let lines = fs::read_to_string(place.path("normal/meta.jsonl")).unwrap();
    let normal: String = lines
        .lines()
        .filter(|line| line.contains("\"label\": 0"))
        .map(|line| format!("{line}\n"))
        .collect();
    fs::write(place.path("normal/meta.jsonl"), normal).unwrap();
    for set in ["one", "wide", "normal"] {
        place.recipe_of(set, "");
        place.trained(&format!("run-{set}"));
    }
}

#[test]
fn a_loss_that_is_not_finite_stops_the_run_and_names_the_batch() {
    let place = Place::new();
    place.trained("run");
    let kept = place.path("run/config.toml");
    let recipe = fs::read_to_string(&kept).unwrap();
    let recipe = recipe
        .replace("image_rate = 0.001", "image_rate = 1000.0")
        .replace("weight_decay = 0.0", "weight_decay = 1000000.0")
        .replace("epochs = 2", "epochs = 9");
    fs::write(&kept, recipe).unwrap();
    let ran = place.resume("run");
    assert_eq!(ran.code, Some(1), "{ran:?}");
    let complaint = ran.err.lines().last().unwrap();
    assert!(complaint.contains("not finite"), "{complaint}");
    let advice = ["config.toml", "--resume"];
    assert!(
        advice.iter().all(|word| complaint.contains(word)),
        "{complaint}"
    );
    assert!(complaint.matches(".png").count() == 2, "{complaint}");
    assert!(
        place
            .path("run/checkpoints/step-000000012.safetensors")
            .exists()
    );
}

#[test]
fn a_validation_loss_that_is_not_finite_stops_the_run_before_it_is_kept() {
    let place = Place::new();
    place.recipe(
        "[schedule]\nepochs = 3\nbatch_size = 16\n[validation]\nfraction = 0.3\n[optimizer]\nimage_rate = 1e6\nweight_decay = 1e6",
    );
    let ran = place.train("run");
    assert_eq!(ran.code, Some(1), "{ran:?}");
    let complaint = ran.err.lines().last().unwrap();
    assert!(
        complaint.contains("validation loss is not finite"),
        "{complaint}"
    );
    assert!(complaint.ends_with("and start again"), "{complaint}");
    assert!(files(&place.path("run/checkpoints")).is_empty());
}

#[test]
fn what_cannot_be_written_after_an_epoch_costs_no_epoch() {
    let place = Place::new();
    place.trained("whole");
    fs::create_dir(place.path("stopped")).unwrap();
    fs::write(place.path("stopped/adapters"), "in the way").unwrap();
    let ran = place.train("stopped");
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.err.contains("adapters"), "{ran:?}");
    fs::remove_file(place.path("stopped/adapters")).unwrap();
    let resumed = place.resume("stopped");
    assert_eq!(resumed.code, Some(0), "{resumed:?}");
    assert!(resumed.err.contains("going on after step 6"), "{resumed:?}");
    assert_same_run(&place, "whole", "stopped");
}

#[test]
fn a_bundle_without_its_text_tower_is_trained_on_with_the_features_that_it_has() {
    let place = Place::new();
    place.recipe("[output]\nkeep_text_tower = false");
    place.trained("first");
    let base = place.path("first/bundle.safetensors").display().to_string();
    assert!(!Bundle::open(base.as_ref()).unwrap().has_text_tower());
    let [set, output] = ["set", "second"].map(|name| place.path(name).display().to_string());
    let ran = run([
        "train", "--device", "cpu", "--epochs", "1", "--base", &base, "--data", &set, "-o", &output,
    ]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let classes = |run: &str| {
        let bundle = Bundle::open(&place.path(run).join("bundle.safetensors"));
        bundle.unwrap().classes().to_vec()
    };
    assert_eq!(classes("first"), classes("second"));
}

#[test]
fn what_cannot_be_is_said_in_one_line() {
    let place = Place::new();
    let complaint = |ran: Ran| ran.complaint().to_owned();
    let nothing = place.path("nothing").display().to_string();
    let base = place.path("base.safetensors").display().to_string();
    let set = place.path("set").display().to_string();
    assert!(complaint(place.resume("nothing")).contains("config.toml"));
    let said = complaint(run(["train", "-o", &nothing]));
    assert!(said.contains("--base"), "{said}");
    let said = complaint(run(["train", "-o", &nothing, "--base", &base]));
    assert!(said.contains("--data"), "{said}");
    let said = complaint(run([
        "train", "-o", &nothing, "--base", &base, "--data", &set,
    ]));
    assert!(said.contains("model.config"), "{said}");
    place.recipe("[optimizer]\nlearning_rate = 3");
    let said = complaint(place.train("nothing"));
    assert!(
        said.contains("learning_rate") && said.contains("recipe.toml"),
        "{said}"
    );
    place.recipe("[model.network]\ngroups = 3");
    let said = complaint(place.train("nothing"));
    assert!(said.contains("groups"), "{said}");
    assert!(!place.path("nothing").exists(), "nothing is left behind");
}
