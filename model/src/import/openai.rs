//! OpenAI's names for CLIP (`clip/model.py`), which open_clip kept. Query, key and value are one fused matrix there.

use crate::tensors::SourceName;

/// Names by which the two towers are recognised. open_clip's models with a text tower of its own kind put `text.` before the latter.
pub(super) const VISION: &str = "visual.class_embedding";
pub(super) const TEXT: &str = "token_embedding.weight";

/// Where the file keeps the model's tensor `name`; `None` for a name that no tower has.
pub(super) fn source(name: &str) -> Option<SourceName> {
    let (tower, rest) = match name.strip_prefix("vision_model.") {
        Some(rest) => ("visual.", rest),
        None => ("", name.strip_prefix("text_model.")?),
    };
    let own = match rest {
        "embeddings.class_embedding" => "class_embedding".into(),
        "embeddings.patch_embedding.weight" => "conv1.weight".into(),
        "embeddings.position_embedding.weight" => "positional_embedding".into(),
        "embeddings.token_embedding.weight" => "token_embedding.weight".into(),
        _ => match rest.strip_prefix("pre_layrnorm.") {
            Some(kind) => format!("ln_pre.{kind}"),
            None => return block(tower, rest.strip_prefix("encoder.layers.")?),
        },
    };
    Some(SourceName::whole(format!("{tower}{own}")))
}

fn block(tower: &str, rest: &str) -> Option<SourceName> {
    let (index, rest) = rest.split_once('.')?;
    let (module, kind) = rest.rsplit_once('.')?;
    let (module, third) = match module {
        "layer_norm1" => ("ln_1.", None),
        "layer_norm2" => ("ln_2.", None),
        "mlp.fc1" => ("mlp.c_fc.", None),
        "mlp.fc2" => ("mlp.c_proj.", None),
        "self_attn.out_proj" => ("attn.out_proj.", None),
        "self_attn.q_proj" => ("attn.in_proj_", Some(0)),
        "self_attn.k_proj" => ("attn.in_proj_", Some(1)),
        "self_attn.v_proj" => ("attn.in_proj_", Some(2)),
        _ => return None,
    };
    Some(SourceName {
        name: format!("{tower}transformer.resblocks.{index}.{module}{kind}"),
        third,
    })
}
