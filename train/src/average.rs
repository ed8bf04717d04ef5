//! `acdclip average`: one set of adapters of several runs that began alike.
//!
//! Runs from the same first values (`model.start_seed`) that saw pictures in another order, or with other changes, end in one valley of the
//! loss, and the mean of their parameters lies lower in it on what none of them has seen (Wortsman et al., Model soups, arXiv 2203.05482).
//! It costs nothing when frames are scored. The mean of runs that began elsewhere is none of that.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use acdclip_model::{
    Error,
    tensors::{Dtype, TensorFile},
};
use candle_core::{DType, Device, Tensor};

use crate::{
    files::write_tensors,
    outcome::{Failure, Outcome, say},
};

/// How names of text features begin.
const TEXT_BANK: &str = "text_bank.";

/// Average the adapters of runs that began with the same values (model.start_seed in their recipes): better on what none of them has seen.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// What runs have written into their folders `adapters`: of each run that of its last epoch.
    #[arg(required = true, num_args = 2.., value_name = "ADAPTERS")]
    adapters: Vec<PathBuf>,
    /// The adapters to write, for `acdclip import --adapter`.
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
}

pub(crate) fn run(args: &Args) -> Outcome {
    let files = args.adapters.iter().map(|path| TensorFile::open(path));
    let files = files.collect::<Result<Vec<_>, _>>()?;
    let first = &files[0];
    for other in &files[1..] {
        check_alike(first, other)?;
    }
    let mut averages = BTreeMap::new();
    for name in first.names() {
        averages.insert(name.to_owned(), average(name, &files)?);
    }
    let metadata = [("averaged".to_owned(), files.len().to_string())].into();
    write_tensors(&args.output, &averages, metadata)?;
    say(format_args!(
        "{}: {} tensors, each the mean of {}",
        args.output.display(),
        averages.len(),
        files.len()
    ))
}

/// An error unless both have the same tensors.
fn check_alike(first: &TensorFile, other: &TensorFile) -> Outcome {
    let names = |file: &TensorFile| file.names().map(str::to_owned).collect::<BTreeSet<_>>();
    let (wanted, found) = (names(first), names(other));
    let differs = wanted.symmetric_difference(&found).next().cloned();
    let differs = differs.or_else(|| {
        let shape = |file: &TensorFile, name: &str| file.info(name).map(|(_, s)| s.to_vec());
        wanted
            .into_iter()
            .find(|name| shape(first, name) != shape(other, name))
    });
    match differs {
        None => Ok(()),
        Some(name) => Err(Failure::Arguments(format!(
            "{}: wanted the same tensors as in {}, of the same shapes, but {name} differs; average runs of one model and class",
            other.label(),
            first.label()
        ))),
    }
}

/// The mean of a tensor over the files, of the type that it has in the first.
fn average(name: &str, files: &[TensorFile]) -> Outcome<Tensor> {
    let missing = || Failure::Arguments(format!("{}: has no {name}", files[0].label()));
    let (dtype, shape) = files[0].info(name).ok_or_else(missing)?;
    let dtype = match dtype {
        Dtype::F16 => DType::F16,
        Dtype::BF16 => DType::BF16,
        Dtype::F32 => DType::F32,
        other => {
            return Err(Failure::Arguments(format!(
                "{}: {name}: wanted F32, F16 or BF16, found {other}; average what a run has written into its folder adapters",
                files[0].label()
            )));
        }
    };
    let mut sum = vec![0.0; shape.iter().product()];
    for file in files {
        for (sum, value) in sum.iter_mut().zip(file.read(name)?) {
            *sum += value / files.len() as f32;
        }
    }
    let mean = Tensor::from_vec(sum, shape, &Device::Cpu).map_err(Error::from)?;
    let mean = match name.starts_with(TEXT_BANK) {
        true => unit(&mean).map_err(Error::from)?,
        false => mean,
    };
    Ok(mean.to_dtype(dtype).map_err(Error::from)?)
}

/// Text features [N, W, 2] are unit vectors of W numbers, which a mean of such is not.
fn unit(features: &Tensor) -> candle_core::Result<Tensor> {
    let norms = features.sqr()?.sum_keepdim(1)?.sqrt()?;
    features.broadcast_div(&norms.maximum(f32::MIN_POSITIVE)?)
}
