"""Checkpoints in OpenCLIP's format, made here: tiny ones with random weights, and the demo's own, renamed into it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import safetensors.torch
import tokenizers
import torch
import transformers

from prelabel.worker.demo.story import CHECKPOINT
from prelabel.worker.model.torchvision_ops import make_importable

make_importable()

import open_clip
import timm.models
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer

TOKENIZER = ("spiece.model", "tokenizer_config.json")
CONFIG, WEIGHTS, PICKLE = "open_clip_config.json", "open_clip_model.safetensors", "open_clip_pytorch_model.bin"

# timm builds a tower by its name alone, so the towers of no published size have names of their own.
_SIGLIP = {"img_size": 64, "patch_size": 8, "embed_dim": 96, "depth": 4, "num_heads": 3, "class_token": False}


@timm.models.register_model
def vit_shapes_patch8_siglip_64(pretrained: bool = False, **arguments: Any) -> VisionTransformer:
    """The demo checkpoint's image tower."""
    return VisionTransformer(**{"act_layer": "gelu_tanh", **_SIGLIP, **_own(arguments)})


@timm.models.register_model
def eva02_tiny_patch8_clip_64(pretrained: bool = False, **arguments: Any) -> Eva:
    """`eva02_base_patch16_clip_224`, smaller."""
    size = {"img_size": 64, "patch_size": 8, "embed_dim": 48, "depth": 2, "num_heads": 3, "mlp_ratio": 4 * 2 / 3}
    kind = {
        "qkv_fused": False,
        "swiglu_mlp": True,
        "scale_mlp": True,
        "scale_attn_inner": True,
        "use_rot_pos_emb": True,
        "ref_feat_shape": (16, 16),
        "global_pool": "token",
    }
    return Eva(**{**size, **kind, **_own(arguments)})


def _own(arguments: dict[str, Any]) -> dict[str, Any]:
    """Without what timm passes on for its own loading of weights."""
    return {name: value for name, value in arguments.items() if name in ("num_classes", "global_pool")}


_TEXT = {"context_length": 20, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2}
_VIT = {"image_size": 64, "layers": 2, "width": 64, "head_width": 32, "patch_size": 16}
_HALF = {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}
_SIGLIP_TEXT = {
    "context_length": 64,
    "vocab_size": 390,
    "width": 96,
    "heads": 3,
    "layers": 2,
    "hf_tokenizer_name": "me/shapes",
    "tokenizer_kwargs": {"clean": "canonicalize"},
    "no_causal_mask": True,
    "proj_bias": True,
    "pool_type": "last",
    "norm_kwargs": {"eps": 1e-6},
    "act_kwargs": {"approximate": "tanh"},
}
_SIGLIP_VISION = {
    "image_size": 64,
    "timm_model_name": "vit_shapes_patch8_siglip_64",
    "timm_pool": "map",
    "timm_proj": "none",
}

CONFIGS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "CLIP": ({"embed_dim": 24, "vision_cfg": _VIT, "text_cfg": _TEXT}, {}),
    "CLIP of OpenAI": (
        {"embed_dim": 24, "quick_gelu": True, "vision_cfg": _VIT, "text_cfg": _TEXT},
        {"interpolation": "bilinear", "resize_mode": "shortest"},
    ),
    "ResNet": ({"embed_dim": 24, "vision_cfg": {**_VIT, "layers": [1, 1, 1, 1], "width": 16}, "text_cfg": _TEXT}, {}),
    "BioCLIP, squashed": (
        {"embed_dim": 24, "vision_cfg": _VIT, "text_cfg": _TEXT, "custom_text": True},
        {**_HALF, "resize_mode": "squash", "interpolation": "bicubic"},
    ),
    "SigLIP": (
        {
            "embed_dim": 96,
            "init_logit_bias": -10,
            "custom_text": True,
            "vision_cfg": _SIGLIP_VISION,
            "text_cfg": _SIGLIP_TEXT,
        },
        {**_HALF, "resize_mode": "squash"},
    ),
    "EVA": (
        {
            "embed_dim": 24,
            "custom_text": True,
            "text_cfg": _TEXT,
            "vision_cfg": {
                "image_size": 64,
                "timm_model_name": "eva02_tiny_patch8_clip_64",
                "timm_pool": "token",
                "timm_proj": None,
            },
        },
        {},
    ),
    "CLIPA": (
        {
            "embed_dim": 24,
            "vision_cfg": {**_VIT, "no_ln_pre": True, "pool_type": "avg", "final_ln_after_pool": True},
            "text_cfg": {
                **_TEXT,
                "vocab_size": 32,
                "hf_tokenizer_name": "bert-base-uncased",
                "tokenizer_kwargs": {"strip_sep_token": True},
                "pool_type": "last",
                "no_causal_mask": True,
            },
        },
        {**_HALF, "interpolation": "bilinear", "resize_mode": "squash"},
    ),
    # The image tower of MobileCLIP2-S0 and that of PE-Core-T in their own size: 11 and 6 million parameters.
    "MobileCLIP": (
        {
            "embed_dim": 24,
            "custom_text": True,
            "text_cfg": {**_TEXT, "no_causal_mask": True},
            "vision_cfg": {
                "image_size": 256,
                "timm_model_name": "fastvit_mci0",
                "timm_pool": "avg",
                "timm_proj": None,
                "timm_drop": 0.0,
                "timm_drop_path": 0.0,
            },
        },
        {"mean": [0, 0, 0], "std": [1, 1, 1], "interpolation": "bilinear", "resize_mode": "shortest"},
    ),
    "PE": (
        {
            "embed_dim": 24,
            "custom_text": True,
            "text_cfg": _TEXT,
            "vision_cfg": {
                "image_size": 384,
                "timm_model_name": "vit_pe_core_tiny_patch16_384",
                "timm_pool": "map",
                "timm_proj": None,
            },
        },
        {**_HALF, "interpolation": "bilinear", "resize_mode": "squash"},
    ),
    # The geometry of the published ViT-B-16.
    "ViT-B-16": (
        {
            "embed_dim": 512,
            "vision_cfg": {"image_size": 224, "layers": 12, "width": 768, "patch_size": 16},
            "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 512, "heads": 8, "layers": 12},
        },
        {},
    ),
}
"""`model_cfg` and `preprocess_cfg`, by what they are like."""


def make(folder: Path, name: str) -> Path:
    """Write one with random weights."""
    model_cfg, preprocess = CONFIGS[name]
    write_config(folder, model_cfg, preprocess)
    torch.manual_seed(0)
    given = {key: value for key, value in model_cfg.items() if key != "custom_text"}
    model = (open_clip.CustomTextCLIP if model_cfg.get("custom_text") else open_clip.CLIP)(**given).eval()
    with torch.no_grad():
        model.logit_scale.fill_(4.0)
    safetensors.torch.save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    tokenizer = model_cfg["text_cfg"].get("hf_tokenizer_name")
    if tokenizer:
        (write_bert_tokenizer if tokenizer.startswith("bert") else copy_tokenizer)(folder)
    return folder


def write_config(folder: Path, model_cfg: dict[str, Any], preprocess: dict[str, Any]) -> None:
    """Write an open_clip_config.json into a folder, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {"model_cfg": model_cfg, "preprocess_cfg": preprocess}
    (folder / "open_clip_config.json").write_text(json.dumps(config))


def copy_tokenizer(folder: Path) -> None:
    """Put the demo checkpoint's tokenizer into a folder."""
    for name in TOKENIZER:
        shutil.copy(CHECKPOINT / name, folder / name)


def write_bert_tokenizer(folder: Path) -> None:
    """Put BERT's kind of tokenizer, of a few words, into a folder: it has no end-of-sequence token."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "photo", "of", "red", "star", "ring", "circle", "."]
    model = tokenizers.models.WordPiece({word: index for index, word in enumerate(words)}, unk_token="[UNK]")
    plain = tokenizers.Tokenizer(model)
    plain.normalizer = tokenizers.normalizers.BertNormalizer()
    plain.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    plain.post_processor = tokenizers.processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    transformers.PreTrainedTokenizerFast(tokenizer_object=plain, **special).save_pretrained(folder)


def export_demo(folder: Path) -> Path:
    """The demo's checkpoint, a SigLIP in transformers' format, in OpenCLIP's."""
    write_config(folder, *CONFIGS["SigLIP"])
    copy_tokenizer(folder)
    renamed = from_siglip(safetensors.torch.load_file(CHECKPOINT / "model.safetensors"))
    safetensors.torch.save_file(renamed, folder / "open_clip_model.safetensors")
    return folder


def from_siglip(theirs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The weights of transformers' `SiglipModel` by the names they have in open_clip."""
    ours = {"logit_scale": theirs["logit_scale"].reshape(()), "logit_bias": theirs["logit_bias"].reshape(())}
    halves = ("weight", "bias")

    def renamed(there: str, here: str, names: str) -> None:
        for name in names.split():
            one, _, other = name.partition(":")
            for half in halves:
                ours[f"{here}.{other or one}.{half}"] = theirs[f"{there}.{one}.{half}"]

    def stacked(there: str, here: str) -> None:
        for half in halves:
            ours[here + half] = torch.cat([theirs[f"{there}.self_attn.{part}_proj.{half}"] for part in "qkv"])

    image, trunk = "vision_model", "visual.trunk"
    renamed(image, trunk, "embeddings.patch_embedding:patch_embed.proj post_layernorm:norm")
    ours[f"{trunk}.pos_embed"] = theirs[f"{image}.embeddings.position_embedding.weight"][None].clone()
    for layer in range(_SIGLIP["depth"]):
        there, here = f"{image}.encoder.layers.{layer}", f"{trunk}.blocks.{layer}"
        stacked(there, f"{here}.attn.qkv.")
        renamed(there, here, "self_attn.out_proj:attn.proj layer_norm1:norm1 layer_norm2:norm2 mlp.fc1 mlp.fc2")
    head, pool = f"{image}.head", f"{trunk}.attn_pool"
    renamed(head, pool, "attention.out_proj:proj layernorm:norm mlp.fc1 mlp.fc2")
    ours[f"{pool}.latent"] = theirs[f"{head}.probe"]
    for half in halves:
        query, *others = theirs[f"{head}.attention.in_proj_{half}"].chunk(3)
        ours[f"{pool}.q.{half}"], ours[f"{pool}.kv.{half}"] = query.clone(), torch.cat(others)

    embeddings = "text_model.embeddings"
    renamed("text_model", "text", "final_layer_norm:ln_final head:text_projection")
    ours["text.token_embedding.weight"] = theirs[f"{embeddings}.token_embedding.weight"]
    ours["text.positional_embedding"] = theirs[f"{embeddings}.position_embedding.weight"]
    for layer in range(_SIGLIP_TEXT["layers"]):
        there, here = f"text_model.encoder.layers.{layer}", f"text.transformer.resblocks.{layer}"
        stacked(there, f"{here}.attn.in_proj_")
        renamed(there, here, "self_attn.out_proj:attn.out_proj layer_norm1:ln_1 layer_norm2:ln_2")
        renamed(there, here, "mlp.fc1:mlp.c_fc mlp.fc2:mlp.c_proj")
    return ours


def changed(folder: Path, *path: str, to: object) -> None:
    """Set one entry of the config; without a path, all of it."""
    config = json.loads((folder / CONFIG).read_text())
    inner = config
    for name in path[:-1]:
        inner = inner[name]
    if path:
        inner[path[-1]] = to
    (folder / CONFIG).write_text(json.dumps(config if path else to))


def cut_short(folder: Path) -> None:
    whole = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(whole[: len(whole) // 2])


def pickled(folder: Path) -> None:
    (folder / WEIGHTS).rename(folder / PICKLE)
