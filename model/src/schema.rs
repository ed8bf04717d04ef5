//! Which tensors a config implies, under which names and in which shapes: what a network asks for, what an import must find and what a
//! bundle must hold, said once.
//!
//! Towers go by Hugging Face's CLIP names, adapters by the official code's. What the network never uses (the towers' last LayerNorms,
//! the projections) is not listed.

use crate::config::{AdapterKind, Config, Fusion};

/// A tensor's name and shape.
pub type Spec = (String, Vec<usize>);

/// Every tensor that `config` implies: [`vision_tower`], [`image_adapter`], [`text_tower`] and [`text_adapter`].
pub fn schema(config: &Config) -> Vec<Spec> {
    [
        vision_tower(config),
        image_adapter(config),
        text_tower(config),
        text_adapter(config),
    ]
    .concat()
}

/// The vision tower's tensors.
pub fn vision_tower(config: &Config) -> Vec<Spec> {
    let vision = &config.vision;
    let (width, patch) = (vision.width, vision.patch_size);
    let grid = vision.image_size / patch;
    let mut specs = Specs::at("vision_model");
    specs.add("embeddings.class_embedding", [width]);
    specs.add(
        "embeddings.patch_embedding.weight",
        [width, 3, patch, patch],
    );
    specs.add(
        "embeddings.position_embedding.weight",
        [grid * grid + 1, width],
    );
    if config.pre_norm {
        specs.affine("pre_layrnorm", [width]);
    }
    specs.encoder(vision.layers, width);
    specs.list
}

/// The text tower's tensors; none for a config without one.
pub fn text_tower(config: &Config) -> Vec<Spec> {
    let Some(text) = &config.text else {
        return Vec::new();
    };
    let mut specs = Specs::at("text_model");
    specs.add(
        "embeddings.token_embedding.weight",
        [text.vocab_size, text.width],
    );
    specs.add(
        "embeddings.position_embedding.weight",
        [text.context_length, text.width],
    );
    specs.encoder(text.layers, text.width);
    specs.list
}

/// The tensors of the vision adapters, heads and gateways.
pub fn image_adapter(config: &Config) -> Vec<Spec> {
    let (width, joint) = (config.vision.width, config.text_width);
    let mut specs = Specs::at("image_adapter");
    for i in 0..config.groups {
        match config.adapter {
            AdapterKind::Lora => specs.lora(&format!("lora_adapters.{i}"), width, config.lora_rank),
            AdapterKind::ConvLora => specs.conv_lora(&format!("lora_adapters.{i}"), config),
        }
        specs.add(&format!("m_i_w.{i}.i_w"), [1, 1, width]);
        for head in ["seg", "det"] {
            specs.affine(&format!("{head}_proj.{i}.fc.0"), [config.mlp_hidden, width]);
            specs.affine(&format!("{head}_proj.{i}.fc.2"), [joint, config.mlp_hidden]);
            specs.affine(&format!("{head}_layer_norms.{i}"), [joint]);
        }
        if config.fusion == Fusion::Gateway {
            let weights = 2 * config.groups;
            specs.affine(
                &format!("vision_text_gate.{i}.0"),
                [config.gate_hidden, joint],
            );
            specs.affine(
                &format!("vision_text_gate.{i}.2"),
                [weights, config.gate_hidden],
            );
        }
    }
    specs.list
}

/// The text adapters' tensors; none for a config without a text tower.
pub fn text_adapter(config: &Config) -> Vec<Spec> {
    let mut specs = Specs::at("text_adapter");
    if let Some(text) = &config.text {
        for i in 0..config.groups {
            specs.lora(&format!("lora_adapters.{i}"), text.width, config.lora_rank);
            specs.affine(&format!("layer_norms.{i}"), [text.width]);
            specs.add(&format!("m_t_w.{i}.i_w"), [1, 1, text.width]);
        }
    }
    specs.list
}

/// Whether `name` is a matrix of a tower's blocks, the part of a model that 8 bits are enough for.
pub(crate) fn is_tower_matrix(name: &str, shape: &[usize]) -> bool {
    let tower =
        name.starts_with("vision_model.encoder.") || name.starts_with("text_model.encoder.");
    tower && shape.len() == 2
}

struct Specs {
    root: &'static str,
    list: Vec<Spec>,
}

impl Specs {
    fn at(root: &'static str) -> Self {
        Self {
            root,
            list: Vec::new(),
        }
    }

    fn add<const N: usize>(&mut self, name: &str, shape: [usize; N]) {
        self.list
            .push((format!("{}.{name}", self.root), shape.to_vec()));
    }

    /// A weight with a bias as long as its first axis.
    fn affine<const N: usize>(&mut self, name: &str, shape: [usize; N]) {
        self.add(&format!("{name}.weight"), shape);
        self.add(&format!("{name}.bias"), [shape[0]]);
    }

    fn encoder(&mut self, layers: usize, width: usize) {
        for i in 0..layers {
            let layer = format!("encoder.layers.{i}");
            self.affine(&format!("{layer}.layer_norm1"), [width]);
            for projection in ["q_proj", "k_proj", "v_proj", "out_proj"] {
                self.affine(&format!("{layer}.self_attn.{projection}"), [width, width]);
            }
            self.affine(&format!("{layer}.layer_norm2"), [width]);
            self.affine(&format!("{layer}.mlp.fc1"), [4 * width, width]);
            self.affine(&format!("{layer}.mlp.fc2"), [width, 4 * width]);
        }
    }

    fn lora(&mut self, name: &str, width: usize, rank: usize) {
        self.add(&format!("{name}.lora_A"), [width, rank]);
        self.add(&format!("{name}.lora_B"), [rank, width]);
    }

    fn conv_lora(&mut self, name: &str, config: &Config) {
        let (width, rank, channels) =
            (config.vision.width, config.lora_rank, config.conv_lora_rank);
        for (k, side) in config.conv_kernel_sizes.iter().copied().enumerate() {
            let block = format!("{name}.conv_lora_blocks.{k}");
            self.lora(&block, width, rank);
            self.add(
                &format!("{block}.conv_lora_A.weight"),
                [channels, rank, side, side],
            );
            self.add(
                &format!("{block}.conv_lora_B.weight"),
                [rank, channels, side, side],
            );
        }
        let branches = config.conv_kernel_sizes.len();
        self.add(
            &format!("{name}.fusion_conv.weight"),
            [width, branches * width, 1, 1],
        );
    }
}
