"""Training steps of the authors' own code on weights and pictures that `step.rs` made: time, losses, memory, as one line of JSON.

Called as `official_step.py CHECKOUT FOLDER BATCH STEPS`. What it does in a step, and in which order, is what the authors' train.py does;
only where weights and pictures come from differs.
"""

import json
import re
import resource
import sys
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file

checkout, folder = Path(sys.argv[1]), Path(sys.argv[2])
batch, steps = int(sys.argv[3]), int(sys.argv[4])
sys.path.insert(0, str(checkout))

import dataset  # noqa: E402, F401  (utils and dataset import each other: as in train.py, this one comes first)
from model.adapter import ACDCLIP  # noqa: E402
from model.clip import resize_pos_embed  # noqa: E402
from model.model import CLIP  # noqa: E402
from utils import calculate_seg_loss, get_multiple_adapted_single_class_text_embedding  # noqa: E402

config = json.loads((folder / "run" / "model.json").read_text())

# Hugging Face's names and OpenAI's, inside of a block and around the blocks.
IN_BLOCK = {
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "self_attn.out_proj": "attn.out_proj",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
}
AROUND = {
    "vision_model.embeddings.class_embedding": "visual.class_embedding",
    "vision_model.embeddings.patch_embedding.weight": "visual.conv1.weight",
    "vision_model.embeddings.position_embedding.weight": "visual.positional_embedding",
    "vision_model.pre_layrnorm.weight": "visual.ln_pre.weight",
    "vision_model.pre_layrnorm.bias": "visual.ln_pre.bias",
    "text_model.embeddings.token_embedding.weight": "token_embedding.weight",
    "text_model.embeddings.position_embedding.weight": "positional_embedding",
}


def towers(tensors):
    """CLIP's tensors under OpenAI's names."""
    named = {theirs: tensors[ours] for ours, theirs in AROUND.items()}
    for name, tensor in tensors.items():
        found = re.fullmatch(r"(vision|text)_model\.encoder\.layers\.(\d+)\.(.+)\.(weight|bias)", name)
        if not found:
            continue
        tower, block, part, kind = found.groups()
        under = f"{'visual.' if tower == 'vision' else ''}transformer.resblocks.{block}"
        if part in IN_BLOCK:
            named[f"{under}.{IN_BLOCK[part]}.{kind}"] = tensor
        elif part == "self_attn.q_proj":
            parts = [tensors[name.replace("q_proj", f"{p}_proj")] for p in "qkv"]
            named[f"{under}.attn.in_proj_{kind}"] = torch.cat(parts)
    return named


def network():
    """The authors' network with the weights in the folder."""
    tensors = load_file(folder / "base.safetensors")
    sizes = json.loads((checkout / "model" / "ViT-L-14-336.json").read_text())
    sizes["vision_cfg"]["image_size"] = config["input_size"]
    clip = CLIP(**sizes, quick_gelu=config["activation"] == "quick_gelu")
    named = towers(tensors)
    resize_pos_embed(named, clip)
    unexpected = clip.load_state_dict(named, strict=False).unexpected_keys
    assert not unexpected, unexpected
    model = ACDCLIP(
        clip_model=clip.eval(),
        n_groups=config["groups"],
        image_adapt_weight=config["image_adapt_weight"],
        conv_lora_rank=config["conv_lora_rank"],
        conv_lora_alpha=config["conv_lora_alpha"],
        conv_kernel_size_list=config["conv_kernel_sizes"],
        text_adapt_weight=config["text_adapt_weight"],
        lora_rank=config["lora_rank"],
        lora_alpha=config["lora_alpha"],
    )
    for part in ["image_adapter", "text_adapter"]:
        own = {n.removeprefix(part + "."): t for n, t in tensors.items() if n.startswith(part + ".")}
        getattr(model, part).load_state_dict(own)
    return model.eval()


def pictures():
    """Normalised pictures [B, 3, H, W], masks [B, H, W] and labels [B]."""
    lines = [json.loads(line) for line in (folder / "meta.jsonl").read_text().splitlines()][:batch]
    read = lambda name: torch.from_numpy(np.array(Image.open(folder / name))).float() / 255  # noqa: E731
    images = torch.stack([read(line["image_path"]).permute(2, 0, 1) for line in lines])
    mean, std = (torch.tensor(config[key]).view(1, 3, 1, 1) for key in ["image_mean", "image_std"])
    masks = torch.stack([read(line["mask_path"]) for line in lines])
    return (images - mean) / std, masks, torch.tensor([line["label"] for line in lines])


model = network()
images, masks, labels = pictures()
optimizer = torch.optim.Adam(
    [{"params": model.text_adapter.parameters(), "lr": 5e-4}, {"params": model.image_adapter.parameters(), "lr": 1e-3}]
)
seconds, losses = [], []
for _ in range(steps):
    start = time.perf_counter()
    text = get_multiple_adapted_single_class_text_embedding(model, "VisA", "object", "cpu")
    text = torch.stack([text] * batch).permute(1, 0, 2, 3)
    seg_tokens, det_tokens = model(images)
    seg, det = torch.stack(seg_tokens), torch.stack(det_tokens)
    logits = torch.stack([(d.unsqueeze(1) @ t).squeeze(1) for d, t in zip(det, text)]).mean(0)
    loss = torch.nn.functional.cross_entropy(logits, labels)
    loss = loss + calculate_seg_loss(model.vision_text_fusion_gate_seg(seg, text, img_size=config["input_size"]), masks)
    optimizer.zero_grad()
    loss.backward()
    for blends in [model.image_adapter["m_i_w"], model.text_adapter["m_t_w"]]:
        for blend in blends:
            torch.nn.utils.clip_grad_norm_(blend.parameters(), 1.0)
    optimizer.step()
    losses.append(loss.item())
    seconds.append(time.perf_counter() - start)
print(json.dumps({"seconds": seconds, "losses": losses, "peak_kib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}))
