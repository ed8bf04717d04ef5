//! `acdclip fetch`: published weights from the Hugging Face hub, pinned to a commit and a SHA-256.
//!
//! They land in the hub's own cache (`HF_HOME`), where other programs find them too. A file that is asked for with `--output` is the same
//! one, linked where the file system can link, else copied.

#[cfg(feature = "fetch")]
mod hub;
mod weights;

use std::path::{Path, PathBuf};

use crate::{
    files,
    outcome::{Failure, Outcome, say},
};
use weights::Weights;

/// Hexadecimal digits of a SHA-256.
const SHA256_DIGITS: usize = 64;

/// Download CLIP's weights from the Hugging Face hub, and make sure that they are the ones that are wanted.
///
/// Prints where they are. What is there already is checked, not downloaded; what has arrived of a download that broke off is gone on with.
/// HF_ENDPOINT names another hub, HF_HOME the folder of its cache, HF_TOKEN who asks.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// clip-vit-l-14-336, clip-vit-b-16 or clip-vit-b-32.
    #[arg(value_name = "NAME", value_parser = weights::find)]
    weights: &'static Weights,
    /// A file to put them in, or a folder; they stay in the hub's cache where left out.
    #[arg(short, long, value_name = "FILE|FOLDER")]
    output: Option<PathBuf>,
    /// Another commit, branch or pull request (refs/pr/N) than the built-in commit. The SHA-256 is then what the hub says, or --sha256.
    #[arg(long, value_name = "REVISION", value_parser = parse_revision)]
    revision: Option<String>,
    /// The SHA-256 that is wanted, instead of the built-in one.
    #[arg(long, value_name = "HEX", value_parser = parse_sha256)]
    sha256: Option<String>,
}

/// A file of the hub, and which bytes it has to be.
struct Wanted {
    weights: &'static Weights,
    revision: String,
    /// `None` for what the hub says that it is.
    sha256: Option<String>,
}

impl Wanted {
    fn new(args: &Args) -> Self {
        let built_in = || args.revision.is_none().then(|| args.weights.sha256.into());
        Self {
            weights: args.weights,
            revision: args
                .revision
                .clone()
                .unwrap_or_else(|| args.weights.revision.into()),
            sha256: args.sha256.clone().or_else(built_in),
        }
    }
}

fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|b| b.is_ascii_hexdigit())
}

fn parse_sha256(text: &str) -> Result<String, String> {
    match is_hex(text, SHA256_DIGITS) {
        true => Ok(text.to_ascii_lowercase()),
        false => Err(format!("wanted {SHA256_DIGITS} hexadecimal digits")),
    }
}

/// A revision becomes part of an address and of paths in the cache.
fn parse_revision(text: &str) -> Result<String, String> {
    let plain = |part: &str| {
        let known = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        !part.is_empty() && !part.starts_with('.') && part.chars().all(known)
    };
    match text.split('/').all(plain) {
        true => Ok(text.into()),
        false => Err("wanted a commit, or the name of a branch, a tag or refs/pr/N".into()),
    }
}

pub(crate) fn run(args: &Args) -> Outcome {
    let wanted = Wanted::new(args);
    let output = args.output.as_deref().map(|path| target(path, &wanted));
    if let Some(output) = output.as_deref().filter(|path| path.exists()) {
        return already_there(output, &wanted);
    }
    let cached = download(&wanted)?;
    let path = match output {
        Some(output) => {
            place(&cached, &output)?;
            output
        }
        None => cached,
    };
    say(path.display())
}

/// The file to write: in a folder, the weights' name with the ending of the hub's file.
fn target(output: &Path, wanted: &Wanted) -> PathBuf {
    let is_folder = output.is_dir() || output.as_os_str().as_encoded_bytes().ends_with(b"/");
    if !is_folder {
        return output.into();
    }
    let mut name = PathBuf::from(wanted.weights.name);
    if let Some(extension) = Path::new(wanted.weights.file).extension() {
        name.set_extension(extension);
    }
    output.join(name)
}

/// Checks a file that is there before anything is downloaded, and leaves it alone.
fn already_there(output: &Path, wanted: &Wanted) -> Outcome {
    let found = files::sha256(output)?;
    match &wanted.sha256 {
        Some(sha256) if *sha256 == found => say(output.display()),
        Some(sha256) => Err(Failure::Fetch(format!(
            "{} is there, and is not what is wanted: wanted SHA-256 {sha256}, found {found}; remove it or give another name with --output",
            output.display()
        ))),
        None => Err(Failure::Fetch(format!(
            "{} is there; say which it has to be with --sha256, remove it or give another name with --output",
            output.display()
        ))),
    }
}

#[cfg(feature = "fetch")]
fn download(wanted: &Wanted) -> Outcome<PathBuf> {
    hub::download(wanted)
}

#[cfg(not(feature = "fetch"))]
fn download(wanted: &Wanted) -> Outcome<PathBuf> {
    let Weights {
        repository, file, ..
    } = wanted.weights;
    let sha256 = wanted.sha256.as_deref().unwrap_or("that the hub says");
    Err(Failure::Fetch(format!(
        "this build cannot download (it was made without the feature `fetch`); get https://huggingface.co/{repository}/resolve/{}/{file} by \
         other means; its SHA-256 has to be {sha256}",
        wanted.revision
    )))
}

/// Gives the file in the cache a second name, or a copy where that cannot be.
fn place(cached: &Path, output: &Path) -> Outcome {
    let folder = match output.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let place = || {
        std::fs::create_dir_all(folder)?;
        // The cache's name for it is a symbolic link.
        let blob = cached.canonicalize()?;
        let mut builder = tempfile::Builder::new();
        builder.prefix(".acdclip-").suffix(".part");
        let linked = builder.make_in(folder, |path| std::fs::hard_link(&blob, path));
        if let Ok(linked) = linked {
            return linked
                .into_temp_path()
                .persist_noclobber(output)
                .map_err(|e| e.error);
        }
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        let mut copy = builder.tempfile_in(folder)?;
        std::io::copy(&mut std::fs::File::open(&blob)?, copy.as_file_mut())?;
        copy.as_file().sync_all()?;
        copy.persist_noclobber(output).map_err(|e| e.error)?;
        Ok(())
    };
    place().map_err(Failure::io(output))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_revision_stays_where_it_belongs() {
        let commit = "ce19dc912ca5cd21c8a653c79e251e808ccabcd1";
        for good in ["main", "refs/pr/15", "v1.0", commit] {
            assert_eq!(parse_revision(good).as_deref(), Ok(good));
        }
        for bad in [
            "", "/", "..", "a/../b", "/main", "a//b", "a b", "a?b", "a#b", "é",
        ] {
            assert!(parse_revision(bad).is_err(), "{bad:?}");
        }
    }
}
