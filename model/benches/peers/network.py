"""The network of a bundle in PyTorch, for the runtimes that `peers.py` compares with: pixels in, map on the patch grid and class probability out.

Written from the equations, in the form that each runtime takes in best: scaled dot-product attention by its own name, one product for
queries, keys and values, the adapters' fusion folded, text features constant.
"""

import ctypes
import json
import math
import struct

import torch
import torch.nn.functional as F
from torch import nn

# ViT-L/14 as the paper runs it, for `--large`.
LARGE = {
    "groups": 4,
    "form": "official",
    "adapter": "conv-lora",
    "fusion": "gateway",
    "activation": "gelu",
    "pre_norm": True,
    "layer_norm_eps": 1e-5,
    "vision": {"width": 1024, "layers": 24, "heads": 16, "patch_size": 14, "image_size": 336},
    "text": {"width": 768, "layers": 12, "heads": 12, "context_length": 77, "vocab_size": 49408},
    "text_width": 768,
    "mlp_hidden": 256,
    "gate_hidden": 256,
    "lora_rank": 16,
    "conv_lora_rank": 8,
    "conv_kernel_sizes": [3, 5],
}


DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I8": torch.int8}


def load_file(path):
    """The tensors of a safetensors file, by name, and its metadata: a machine with PyTorch alone can do without another package."""
    with open(path, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        entries = json.loads(file.read(length))
        data = bytearray(file.read())
    metadata, tensors = entries.pop("__metadata__", {}), {}
    for name, entry in entries.items():
        count, start = math.prod(entry["shape"]), entry["data_offsets"][0]
        flat = torch.frombuffer(data, dtype=DTYPES[entry["dtype"]], count=count, offset=start)
        tensors[name] = flat.reshape(entry["shape"])
    return tensors, metadata


def raw(tensor):
    """Its numbers as bytes, in order."""
    tensor = tensor.contiguous()
    return ctypes.string_at(tensor.data_ptr(), tensor.element_size() * tensor.numel())


def save_file(tensors, path):
    """Writes f32 tensors as a safetensors file."""
    entries, at = {}, 0
    for name, tensor in tensors.items():
        end = at + 4 * tensor.numel()
        entries[name] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": [at, end]}
        at = end
    header = json.dumps(entries).encode()
    header += b" " * (-len(header) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        for tensor in tensors.values():
            file.write(raw(tensor))


def read_bundle(path):
    """Config and weights of a bundle, 8-bit weights multiplied out, all in f32."""
    stored, metadata = load_file(path)
    config, weights = json.loads(metadata["acdclip"])["config"], {}
    for name, tensor in stored.items():
        if name.endswith(".scale") and name.removesuffix(".scale") in stored:
            continue
        scale = stored.get(name + ".scale")
        tensor = tensor.float()
        weights[name] = tensor if scale is None else tensor * scale.reshape(-1, *[1] * (tensor.dim() - 1))
    return config, weights


def random_weights(config, seed=1):
    """Weights of the shapes that `config` implies. Small, so that numbers stay near one through all blocks."""
    rng = torch.Generator().manual_seed(seed)
    vision, joint = config["vision"], config["text_width"]
    width, patch, grid = vision["width"], vision["patch_size"], vision["image_size"] // vision["patch_size"]
    weights = {}

    def normal(name, *shape, size=0.02):
        weights[name] = torch.randn(*shape, generator=rng) * size

    def linear(name, inputs, outputs):
        normal(name + ".weight", outputs, inputs)
        normal(name + ".bias", outputs)

    def norm(name, size):
        weights[name + ".weight"] = torch.ones(size)
        weights[name + ".bias"] = torch.zeros(size)

    embeddings = "vision_model.embeddings."
    normal(embeddings + "class_embedding", width)
    normal(embeddings + "patch_embedding.weight", width, 3, patch, patch)
    normal(embeddings + "position_embedding.weight", grid * grid + 1, width)
    if config["pre_norm"]:
        norm("vision_model.pre_layrnorm", width)
    for layer in range(vision["layers"]):
        block = f"vision_model.encoder.layers.{layer}."
        norm(block + "layer_norm1", width)
        norm(block + "layer_norm2", width)
        for part in ["q_proj", "k_proj", "v_proj", "out_proj"]:
            linear(block + "self_attn." + part, width, width)
        linear(block + "mlp.fc1", width, 4 * width)
        linear(block + "mlp.fc2", 4 * width, width)
    low, conv = config["lora_rank"], config["conv_lora_rank"]
    for i in range(config["groups"]):
        adapter = f"image_adapter.lora_adapters.{i}."
        kernels = config["conv_kernel_sizes"]
        for k, side in enumerate(kernels):
            branch = f"{adapter}conv_lora_blocks.{k}."
            normal(branch + "lora_A", width, low, size=0.2)
            normal(branch + "lora_B", low, width, size=0.2)
            normal(branch + "conv_lora_A.weight", conv, low, side, side, size=0.2)
            normal(branch + "conv_lora_B.weight", low, conv, side, side, size=0.2)
        normal(adapter + "fusion_conv.weight", width, len(kernels) * width, 1, 1)
        weights[f"image_adapter.m_i_w.{i}.i_w"] = torch.full((1, 1, width), 0.2)
        for head in ["seg", "det"]:
            linear(f"image_adapter.{head}_proj.{i}.fc.0", width, config["mlp_hidden"])
            linear(f"image_adapter.{head}_proj.{i}.fc.2", config["mlp_hidden"], joint)
            norm(f"image_adapter.{head}_layer_norms.{i}", joint)
        linear(f"image_adapter.vision_text_gate.{i}.0", joint, config["gate_hidden"])
        linear(f"image_adapter.vision_text_gate.{i}.2", config["gate_hidden"], 2 * config["groups"])
    text = torch.randn(config["groups"], joint, 2, generator=rng)
    weights["text_bank.object"] = F.normalize(text, dim=1)
    return weights


def write(folder, config, weights):
    """What our own worker reads."""
    (folder / "config.json").write_text(json.dumps(config))
    save_file(weights, folder / "weights.safetensors")


def resized_positions(table, grid):
    """The position table for a square grid, resized as the plugin does."""
    own = int((table.shape[0] - 1) ** 0.5)
    if own == grid:
        return table
    planes = table[1:].T.reshape(1, -1, own, own)
    planes = F.interpolate(planes, size=(grid, grid), mode="bicubic", antialias=True, align_corners=False)
    return torch.cat([table[:1], planes.flatten(2)[0].T])


class Block(nn.Module):
    def __init__(self, config, weights, name):
        super().__init__()
        self.heads, self.eps = config["vision"]["heads"], config["layer_norm_eps"]
        self.quick = config["activation"] == "quick-gelu"
        get = lambda part: nn.Parameter(weights[name + part].clone(), requires_grad=False)  # noqa: E731
        self.norm1, self.norm1_bias = get("layer_norm1.weight"), get("layer_norm1.bias")
        self.norm2, self.norm2_bias = get("layer_norm2.weight"), get("layer_norm2.bias")
        for kind in ["weight", "bias"]:
            parts = [weights[f"{name}self_attn.{part}_proj.{kind}"] for part in "qkv"]
            setattr(self, "qkv_" + kind, nn.Parameter(torch.cat(parts), requires_grad=False))
        self.out, self.out_bias = get("self_attn.out_proj.weight"), get("self_attn.out_proj.bias")
        self.fc1, self.fc1_bias = get("mlp.fc1.weight"), get("mlp.fc1.bias")
        self.fc2, self.fc2_bias = get("mlp.fc2.weight"), get("mlp.fc2.bias")

    def forward(self, x):
        batch, length, width = x.shape
        seen = F.layer_norm(x, (width,), self.norm1, self.norm1_bias, self.eps)
        qkv = F.linear(seen, self.qkv_weight, self.qkv_bias)
        q, k, v = qkv.reshape(batch, length, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        mixed = F.scaled_dot_product_attention(q, k, v)
        x = x + F.linear(mixed.transpose(1, 2).reshape(batch, length, width), self.out, self.out_bias)
        seen = F.layer_norm(x, (width,), self.norm2, self.norm2_bias, self.eps)
        hidden = F.linear(seen, self.fc1, self.fc1_bias)
        hidden = hidden * torch.sigmoid(1.702 * hidden) if self.quick else F.gelu(hidden)
        return x + F.linear(hidden, self.fc2, self.fc2_bias)


class Adapter(nn.Module):
    def __init__(self, config, weights, i):
        super().__init__()
        name = f"image_adapter.lora_adapters.{i}."
        width = config["vision"]["width"]
        get = lambda part: nn.Parameter(weights[part].clone(), requires_grad=False)  # noqa: E731
        self.down, self.conv_down, self.conv_up = nn.ParameterList(), nn.ParameterList(), nn.ParameterList()
        fuse, up = weights[name + "fusion_conv.weight"].reshape(width, -1), []
        for k in range(len(config["conv_kernel_sizes"])):
            branch = f"{name}conv_lora_blocks.{k}."
            self.down.append(get(branch + "lora_A"))
            self.conv_down.append(get(branch + "conv_lora_A.weight"))
            self.conv_up.append(get(branch + "conv_lora_B.weight"))
            up.append(weights[branch + "lora_B"] @ fuse[:, k * width : (k + 1) * width].T)
        # The scales are the same for all branches: matching the norm cancels them.
        self.up = nn.Parameter(torch.cat(up), requires_grad=False)
        self.blend = get(f"image_adapter.m_i_w.{i}.i_w")

    def forward(self, x, grid):
        batch, length, _ = x.shape
        low = []
        for down, conv_down, conv_up in zip(self.down, self.conv_down, self.conv_up):
            planes = (x @ down).transpose(1, 2).reshape(batch, -1, grid, grid)
            pad = conv_down.shape[-1] // 2
            planes = F.conv2d(F.conv2d(planes, conv_down, padding=pad), conv_up, padding=pad)
            low.append(planes.reshape(batch, -1, length).transpose(1, 2))
        residual = torch.cat(low, 2) @ self.up
        norm = lambda t: t.square().sum(-1, keepdim=True).sqrt().clamp_min(1e-12)  # noqa: E731
        return (1 - self.blend) * x + self.blend * (residual * (norm(x) / norm(residual)))


class Head(nn.Module):
    def __init__(self, weights, name, i):
        super().__init__()
        for layer in [0, 2]:
            for kind in ["weight", "bias"]:
                value = weights[f"image_adapter.{name}_proj.{i}.fc.{layer}.{kind}"]
                setattr(self, f"{kind}{layer}", nn.Parameter(value.clone(), requires_grad=False))
        norm = f"image_adapter.{name}_layer_norms.{i}."
        self.norm = nn.Parameter(weights[norm + "weight"].clone(), requires_grad=False)
        self.norm_bias = nn.Parameter(weights[norm + "bias"].clone(), requires_grad=False)

    def forward(self, x):
        hidden = F.leaky_relu(F.linear(x, self.weight0, self.bias0), 0.01)
        out = F.linear(hidden, self.weight2, self.bias2)
        return F.normalize(F.layer_norm(out, out.shape[-1:], self.norm, self.norm_bias, 1e-5), dim=-1)


class Gateway(nn.Module):
    def __init__(self, config, weights, i):
        super().__init__()
        self.groups = config["groups"]
        for layer in [0, 2]:
            for kind in ["weight", "bias"]:
                value = weights[f"image_adapter.vision_text_gate.{i}.{layer}.{kind}"]
                setattr(self, f"{kind}{layer}", nn.Parameter(value.clone(), requires_grad=False))

    def forward(self, tokens, text):
        hidden = F.gelu(F.linear(tokens.mean(1), self.weight0, self.bias0))
        logits = F.linear(hidden, self.weight2, self.bias2).reshape(-1, self.groups, 2)
        return (text * logits.softmax(1).unsqueeze(2)).sum(1)


class Network(nn.Module):
    """Normalised pixels [B, 3, side, side] -> difference of the two logits on the patch grid [B, g, g], probability of the abnormal class [B]."""

    def __init__(self, config, weights, side):
        super().__init__()
        if config["form"] != "official":
            raise ValueError(f"wanted a model in the official form, found {config['form']}")
        vision, groups = config["vision"], config["groups"]
        get = lambda part: nn.Parameter(weights[part].clone(), requires_grad=False)  # noqa: E731
        embeddings = "vision_model.embeddings."
        self.eps = config["layer_norm_eps"]
        self.patch, self.grid = vision["patch_size"], side // vision["patch_size"]
        self.patch_embedding = get(embeddings + "patch_embedding.weight")
        table = weights[embeddings + "position_embedding.weight"]
        table = resized_positions(table, self.grid).clone()
        table[0] += weights[embeddings + "class_embedding"]
        self.positions = nn.Parameter(table, requires_grad=False)
        self.pre_norm = None
        if config["pre_norm"]:
            self.pre_norm = get("vision_model.pre_layrnorm.weight")
            self.pre_norm_bias = get("vision_model.pre_layrnorm.bias")
        layers = range(vision["layers"])
        self.blocks = nn.ModuleList(Block(config, weights, f"vision_model.encoder.layers.{i}.") for i in layers)
        self.adapters = nn.ModuleList(Adapter(config, weights, i) for i in range(groups))
        self.seg = nn.ModuleList(Head(weights, "seg", i) for i in range(groups))
        self.det = nn.ModuleList(Head(weights, "det", i) for i in range(groups))
        self.gates = nn.ModuleList(Gateway(config, weights, i) for i in range(groups))
        self.text = get("text_bank.object")

    def forward(self, pixels):
        batch = pixels.shape[0]
        x = F.conv2d(pixels, self.patch_embedding, stride=self.patch).flatten(2).transpose(1, 2)
        x = x + self.positions[1:]
        x = torch.cat([self.positions[:1].expand(batch, 1, -1), x], 1)
        if self.pre_norm is not None:
            x = F.layer_norm(x, x.shape[-1:], self.pre_norm, self.pre_norm_bias, self.eps)
        step = len(self.blocks) // len(self.adapters)
        maps, logits = [], []
        for i, adapter in enumerate(self.adapters):
            for block in self.blocks[i * step : (i + 1) * step]:
                x = block(x)
            adapted = adapter(x[:, 1:], self.grid)
            x = torch.cat([x[:, :1], adapted], 1)
            tokens = self.seg[i](adapted)
            fused = 10 * self.gates[i](tokens, self.text)
            maps.append(tokens @ (fused[..., 1:] - fused[..., :1]))
            logits.append(self.det[i](adapted).mean(1) @ self.text[i])
        score = torch.stack(logits).mean(0).softmax(-1)[:, 1]
        return torch.stack(maps).mean(0).reshape(batch, self.grid, self.grid), score
