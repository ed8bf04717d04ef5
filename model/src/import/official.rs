//! The adapters as the official `train.py` saves them: two state dictionaries, `image_adapter` and `text_adapter`, beside an `epoch`.

use crate::config::Config;
use crate::error::{Error, Result};
use crate::schema;
use crate::tensors::{SourceName, TensorFile, TensorSet};

/// A name by which the adapters are recognised.
const IMAGE: &str = "image_adapter.m_i_w.0.i_w";

/// What stands before every name of the adapters in `file`; `None` where it has none.
pub(super) fn prefix(file: &TensorFile) -> Option<String> {
    super::prefix(file, IMAGE)
}

/// Whether `file` has text adapters.
pub(super) fn has_text(file: &TensorFile, prefix: &str) -> bool {
    let start = format!("{prefix}text_adapter.");
    file.names().any(|name| name.starts_with(&start))
}

/// Takes the adapters that `config` implies into `tensors`.
pub(super) fn take(
    tensors: &mut TensorSet,
    config: &Config,
    file: &TensorFile,
    prefix: &str,
    text: bool,
) -> Result<()> {
    let extra = format!("{prefix}image_adapter.m_i_w.{}.i_w", config.groups);
    if file.info(&extra).is_some() {
        let reason = format!(
            "the config has {} groups; the adapters have more",
            config.groups
        );
        return Err(Error::tensor(file.label(), extra, reason));
    }
    let mut specs = schema::image_adapter(config);
    if text {
        specs.extend(schema::text_adapter(config));
    }
    for (name, shape) in specs {
        let source = SourceName::whole(format!("{prefix}{name}"));
        tensors.take(&name, &shape, file, &source)?;
    }
    Ok(())
}
