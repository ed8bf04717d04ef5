//! From prompts to text features: the adapted text tower, tapped after each group.

use candle_core::{Device, Module, Result, Tensor};
use candle_nn::VarBuilder;

use super::{adapter::Adapter, head::ADDED_NORM_EPS};
use crate::{
    clip::{
        attention::LayerNorm,
        text::{TextTower, causal_mask},
        tokenizer::Tokenizer,
    },
    config::{Config, Prompts, TextConfig},
    error, ops,
};

/// Prompts that are computed together: enough for any published set, and a bound on memory for longer ones.
pub const PROMPTS_AT_ONCE: usize = 32;

/// The text side: tower, adapters and the norm at each tap.
#[derive(Debug, Clone)]
pub struct TextEncoder {
    tower: TextTower,
    adapters: Vec<Adapter>,
    norms: Vec<LayerNorm>,
    context: usize,
    device: Device,
}

impl TextEncoder {
    /// Reads `text_model` from `base` and `text_adapter` from `adapters`.
    pub fn new(
        config: &Config,
        text: &TextConfig,
        base: VarBuilder<'_>,
        adapters: VarBuilder<'_>,
    ) -> Result<Self> {
        let device = base.device().clone();
        let vb = adapters.pp("text_adapter");
        let norm = |i| {
            LayerNorm::new(
                text.width,
                ADDED_NORM_EPS,
                vb.pp(format!("layer_norms.{i}")),
            )
        };
        Ok(Self {
            tower: TextTower::new(config, text, base.pp("text_model"))?,
            adapters: (0..config.groups)
                .map(|i| Adapter::text(config, i, &vb))
                .collect::<Result<_>>()?,
            norms: (0..config.groups).map(norm).collect::<Result<_>>()?,
            context: text.context_length,
            device,
        })
    }

    /// Text features of a class, [N, W, 2]: column 0 normal, column 1 abnormal, unit length.
    pub fn class_features(&self, prompts: &Prompts, class_text: &str) -> error::Result<Tensor> {
        let sentences = prompts.sentences(class_text);
        let states = sentences
            .iter()
            .map(|state| self.state_features(state))
            .collect::<error::Result<Vec<_>>>()?; // [N, W] each
        Ok(Tensor::stack(&states, 2)?)
    }

    /// The mean of the sentences' features at each tap, [N, W], unit length.
    fn state_features(&self, sentences: &[String]) -> error::Result<Tensor> {
        let ids = sentences
            .iter()
            .map(|sentence| Tokenizer::clip().encode(sentence, self.context))
            .collect::<Vec<_>>();
        let parts = ids
            .chunks(PROMPTS_AT_ONCE)
            .map(|ids| Tensor::stack(&self.encode(ids)?, 0)) // [N, P, W]
            .collect::<Result<Vec<_>>>()?;
        let each = ops::l2_normalize(&Tensor::cat(&parts, 1)?)?;
        Ok(ops::l2_normalize(&each.mean(1)?)?)
    }

    /// Padded ids of P prompts -> features at the end-of-text token of each tap, [P, W] each.
    ///
    /// Nothing after the last end of text is computed: the mask is causal, so that it could not be seen.
    pub fn encode(&self, ids: &[Vec<u32>]) -> Result<Vec<Tensor>> {
        let ends = ids.iter().map(|ids| end_of_text(ids)).collect::<Vec<_>>();
        let len = ends.iter().max().map_or(0, |end| end + 1);
        self.encode_cut(ids, &ends, len)
    }

    /// [`TextEncoder::encode`] over the first `len` tokens of each prompt.
    fn encode_cut(&self, ids: &[Vec<u32>], ends: &[usize], len: usize) -> Result<Vec<Tensor>> {
        let prompts = ids.len();
        let cut = ids
            .iter()
            .flat_map(|ids| ids[..len].to_vec())
            .collect::<Vec<_>>();
        let cut = Tensor::from_vec(cut, (prompts, len), &self.device)?;
        let step = self.tower.blocks().len() / self.adapters.len();
        let mut x = self.tower.embed(&cut)?; // [P, L, W]
        let mask = causal_mask(len, &self.device)?.to_dtype(x.dtype())?;
        let mut levels = Vec::with_capacity(self.adapters.len());
        for (i, group) in self.tower.blocks().chunks(step).enumerate() {
            for block in group {
                x = block.forward(&x, Some(&mask))?;
            }
            let adapter = &self.adapters[i];
            let adapted = adapter.forward(&x.to_dtype(adapter.dtype())?, (1, len))?;
            let at_end = ends
                .iter()
                .enumerate()
                .map(|(prompt, end)| adapted.get(prompt)?.narrow(0, *end, 1))
                .collect::<Result<Vec<_>>>()?;
            levels.push(self.norms[i].forward(&Tensor::cat(&at_end, 0)?)?);
            x = adapted.to_dtype(x.dtype())?;
        }
        Ok(levels)
    }
}

/// Position of the end-of-text token: the largest id, the first of them, as the official code finds it.
fn end_of_text(ids: &[u32]) -> usize {
    let largest = ids.iter().max();
    ids.iter().position(|id| Some(id) == largest).unwrap_or(0)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use candle_core::DType;
    use candle_nn::VarMap;

    use super::*;

    #[test]
    fn cut_prompts_have_the_features_of_whole_ones() {
        let config = Config::from_json(
            r#"{"groups": 2, "text_width": 16,
                "vision": {"width": 16, "layers": 2, "heads": 2, "patch_size": 2, "image_size": 4},
                "text": {"width": 16, "layers": 4, "heads": 2, "context_length": 20, "vocab_size": 49408}}"#,
        )
        .unwrap();
        let vars = VarMap::new();
        let vb = VarBuilder::from_varmap(&vars, DType::F32, &Device::Cpu);
        let encoder =
            TextEncoder::new(&config, config.text.as_ref().unwrap(), vb.clone(), vb).unwrap();
        let ids = ["a rail.", "a photo of a rail with a defect."]
            .map(|s| Tokenizer::clip().encode(s, 20))
            .to_vec();
        let ends = ids.iter().map(|ids| end_of_text(ids)).collect::<Vec<_>>();
        let cut = encoder.encode(&ids).unwrap();
        let whole = encoder.encode_cut(&ids, &ends, 20).unwrap();
        for (a, b) in cut.iter().zip(&whole) {
            let gap = (a - b).unwrap().abs().unwrap().max_all().unwrap();
            assert!(gap.to_scalar::<f32>().unwrap() < 1e-5);
        }
    }
}
