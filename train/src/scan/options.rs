//! What can be said of how a strip is looked at, on the command line or in a profile's table `[acdclip]`, by the same names.
//!
//! The table is the element's: keys that say nothing of a strip that lies in files are passed over, unknown ones are errors.

use std::path::{Path, PathBuf};

use acdclip_model::config::Domain;
use clap::ValueEnum;
use serde::Deserialize;

use crate::outcome::{Failure, Outcome};

/// Keys that concern the element alone.
const OF_THE_ELEMENT: &[&str] = &[
    "interval",
    "resize",
    "threshold",
    "release-threshold",
    "mode",
    "max-age",
    "processing-latency",
    "skip-late",
    "max-batch",
    "batch-timeout",
    "on-error",
    "smoothing",
    "min-duration",
    "hold",
    "tiling",
    "quality-gate",
    "damp-highlights",
    "jsonl-location",
    "overlay",
    "mute",
    "opacity",
    "colormap",
    "messages",
];

/// Whose blur of the map is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum DomainChoice {
    /// The model's own.
    #[default]
    Model,
    /// The authors' for products and surfaces.
    Industrial,
    /// The authors' for organs.
    Medical,
}

impl From<DomainChoice> for Option<Domain> {
    fn from(choice: DomainChoice) -> Self {
        match choice {
            DomainChoice::Model => None,
            DomainChoice::Industrial => Some(Domain::Industrial),
            DomainChoice::Medical => Some(Domain::Medical),
        }
    }
}

/// What is left out of a strip by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum AutoMask {
    /// Nothing.
    #[default]
    None,
    /// What lies beside the bright part of the strip.
    Strip,
}

/// What says where on the track a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Encoder {
    /// The number of the line.
    #[default]
    None,
    /// The number of the line.
    Pitch,
    /// Of buffers alone; files have none.
    #[value(skip)]
    Meta,
    /// The first four bytes of each line: its counter, the lowest byte first. Of 8 bits a sample only.
    Pixels,
}

/// What one source says.
#[derive(Debug, Clone, Default, PartialEq, clap::Args, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub(super) struct Options {
    /// A bundle (.safetensors); the built-in model where left out.
    #[arg(long, value_name = "FILE")]
    pub(super) model: Option<PathBuf>,
    /// Where to compute: auto, cpu, cuda, cuda:N or metal.
    #[arg(long)]
    pub(super) device: Option<String>,
    /// In which arithmetic the network runs: auto or f32; bf16, where the CPU or a CUDA GPU multiplies that, and int8, on the CPU, are quicker and round.
    #[arg(long)]
    pub(super) precision: Option<String>,
    /// Threads that the network has on a CPU; one a processor where left out.
    #[arg(long, value_name = "N")]
    pub(super) threads: Option<usize>,
    /// What the strip shows; the model's first class where left out.
    #[arg(long, value_name = "CLASS", visible_alias = "class")]
    pub(super) class_name: Option<String>,
    /// States of a normal thing, instead of the model's; `{}` stands for the class. May be given again.
    #[arg(long, value_name = "STATE")]
    pub(super) normal_prompts: Option<Vec<String>>,
    /// States of an abnormal thing, likewise.
    #[arg(long, value_name = "STATE")]
    pub(super) abnormal_prompts: Option<Vec<String>>,
    /// What `acdclip calibrate` has written; the model's own calibration, if it has one, where left out.
    #[arg(long, value_name = "FILE")]
    pub(super) calibration: Option<PathBuf>,
    /// Blur the map as the authors do for that domain, instead of as the model says.
    #[arg(long, value_enum)]
    pub(super) domain: Option<DomainChoice>,
    /// Probability that a defect reaches, in [0, 1]; 0.5 where left out.
    #[arg(long, value_name = "T", allow_negative_numbers = true)]
    pub(super) map_threshold: Option<f64>,
    /// Probability down to which what is around belongs to it; a fifth less where left out.
    #[arg(long, value_name = "T", allow_negative_numbers = true)]
    pub(super) map_release_threshold: Option<f64>,
    /// Smallest defect, in pixels.
    #[arg(long, value_name = "PIXELS")]
    pub(super) min_area: Option<u64>,
    /// Pixels between parts of one defect, at most.
    #[arg(long, value_name = "PIXELS")]
    pub(super) merge_distance: Option<u32>,
    /// Columns that are looked at: x and w of x,y,w,h, in pixels or in parts of the width.
    #[arg(long, value_name = "X,Y,W,H")]
    pub(super) roi: Option<String>,
    /// A picture, stretched over the strip's width; columns that are black in one of its rows do not count.
    #[arg(long, value_name = "FILE")]
    pub(super) mask: Option<PathBuf>,
    /// What is left out by itself.
    #[arg(long, value_enum)]
    pub(super) auto_mask: Option<AutoMask>,
    /// Side of a tile that the network is shown at once, pixels; what suits where 0 or left out.
    #[arg(long, value_name = "PIXELS")]
    pub(super) tile_size: Option<u32>,
    /// Pixels that tiles share; an eighth of their side where 0 or left out.
    #[arg(long, value_name = "PIXELS")]
    pub(super) tile_overlap: Option<u32>,
    /// The network's pixels across the strip, instead of a tile size.
    #[arg(long, value_name = "PIXELS")]
    pub(super) working_resolution: Option<u32>,
    /// New lines at the end of each frame of a video or folder, whose frames overlap; all of them where 0 or left out.
    #[arg(long, value_name = "LINES")]
    pub(super) line_advance: Option<u32>,
    /// Bits that are used of samples of 16, 8 to 16.
    #[arg(long, value_name = "BITS", visible_alias = "depth")]
    pub(super) gray_depth: Option<u8>,
    /// Millimetres from line to line.
    #[arg(long, value_name = "MM")]
    pub(super) line_pitch_mm: Option<f64>,
    /// Millimetres from pixel to pixel across; those from line to line where 0 or left out.
    #[arg(long, value_name = "MM")]
    pub(super) pixel_pitch_mm: Option<f64>,
    /// Millimetres on the track at line 0.
    #[arg(long, value_name = "MM", allow_negative_numbers = true)]
    pub(super) start_mm: Option<f64>,
    /// What says where on the track a line is.
    #[arg(long, value_enum)]
    pub(super) encoder: Option<Encoder>,
}

/// Every option by its name, for what is done with all of them.
macro_rules! each {
    ($do:ident) => {
        $do!(
            model,
            device,
            precision,
            threads,
            class_name,
            normal_prompts,
            abnormal_prompts,
            calibration,
            domain,
            map_threshold,
            map_release_threshold,
            min_area,
            merge_distance,
            roi,
            mask,
            auto_mask,
            tile_size,
            tile_overlap,
            working_resolution,
            line_advance,
            gray_depth,
            line_pitch_mm,
            pixel_pitch_mm,
            start_mm,
            encoder
        )
    };
}

/// A profile's document.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Profile {
    acdclip: Option<toml::Table>,
}

impl Options {
    /// Those that say what looks, and not how.
    pub(super) const OF_THE_MODEL: [&str; 4] = ["model", "device", "precision", "threads"];

    /// One option, its value as a profile would have it; words need no quotes.
    pub(super) fn of(name: &str, value: &str) -> Result<Self, String> {
        let known = Self::names();
        if !known.iter().any(|known| known == name) {
            return Err(format!("wanted one of {}, found {name}", known.join(", ")));
        }
        let is_toml = toml::from_str::<toml::Table>(&format!("{name} = {value}")).is_ok();
        let value = match is_toml {
            true => value.to_owned(),
            false => toml::Value::from(value).to_string(),
        };
        Self::parse(&format!("[acdclip]\n{name} = {value}"))
    }

    /// What is said here, else what is said there.
    pub(super) fn or(self, other: Self) -> Self {
        macro_rules! merge {
            ($($name:ident),*) => { Self { $($name: self.$name.or(other.$name)),* } };
        }
        each!(merge)
    }

    /// The table `[acdclip]` of the profile at `path`. Relative paths are relative to the profile; empty ones are none.
    pub(super) fn from_profile(path: &Path) -> Outcome<Self> {
        let text = std::fs::read_to_string(path).map_err(Failure::io(path))?;
        let mut options = Self::parse(&text).map_err(|reason| {
            let wanted = "wanted a profile, a file in TOML with a table [acdclip]";
            Failure::wrong_file(path, &format!("{reason}; {wanted}"))
        })?;
        let folder = path.parent().unwrap_or(Path::new(""));
        for named in [
            &mut options.model,
            &mut options.calibration,
            &mut options.mask,
        ] {
            *named = named
                .take()
                .filter(|named| !named.as_os_str().is_empty())
                .map(|named| folder.join(named));
        }
        Ok(options)
    }

    fn parse(text: &str) -> Result<Self, String> {
        let profile: Profile = toml::from_str(text).map_err(|e| e.to_string())?;
        let mut table = profile.acdclip.ok_or("found no table [acdclip]")?;
        table.retain(|key: &str, _| !OF_THE_ELEMENT.contains(&key));
        let known = Self::names();
        if let Some(key) = table.keys().find(|key| !known.contains(key)) {
            return Err(format!(
                "unknown key {key}; those of a strip are {}",
                known.join(", ")
            ));
        }
        table.try_into().map_err(|e: toml::de::Error| e.to_string())
    }

    fn names() -> Vec<String> {
        macro_rules! names {
            ($($name:ident),*) => { vec![$(stringify!($name).replace('_', "-")),*] };
        }
        each!(names)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_command_line_beats_the_profile() {
        let profile =
            Options::parse("[acdclip]\nmin-area = 200\nmap-threshold = 0.7\noverlay = \"box\"")
                .unwrap();
        let said = Options {
            min_area: Some(3),
            ..Options::default()
        };
        let both = said.or(profile);
        assert_eq!((both.min_area, both.map_threshold), (Some(3), Some(0.7)));
    }

    #[test]
    fn a_wrong_profile_says_what_is_wrong() {
        let complaint = |text: &str| Options::parse(text).unwrap_err();
        assert!(complaint("[acdclip]\ntile-sise = 3").contains("tile-sise"));
        assert!(complaint("[acdclip]\nauto-mask = \"rail\"").contains("strip"));
        assert!(complaint("").contains("no table [acdclip]"));
    }

    #[test]
    fn the_profiles_that_come_with_the_project_are_understood() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../pipelines");
        let options = Options::from_profile(&folder.join("rail.toml")).unwrap();
        assert!(options.min_area.is_some());
    }

    #[cfg(feature = "video")]
    #[test]
    fn every_property_of_the_element_is_known() {
        use gst::prelude::*;
        gst::init().unwrap();
        gstacdclip::plugin_register_static().unwrap();
        let element = gst::ElementFactory::make("acdclip").build().unwrap();
        let own = element.type_();
        let known = Options::names();
        for property in element.list_properties() {
            let name = property.name();
            let is_set_by_profiles = property.flags().contains(gst::glib::ParamFlags::WRITABLE)
                && !["config", "qos", "name", "parent"].contains(&name);
            assert!(
                property.owner_type() != own
                    || !is_set_by_profiles
                    || OF_THE_ELEMENT.contains(&name)
                    || known.iter().any(|known| known == name),
                "{name}"
            );
        }
    }
}
