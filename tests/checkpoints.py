"""Checkpoints of every family with random weights, written by transformers' own `save_pretrained`, processor included.

The tokenizers are trained here on a few words of several scripts, always with the same result.
"""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import sentencepiece
import torch
import transformers
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

from prelabel.worker.demo.story import CHECKPOINT
from prelabel.worker.model.torchvision_ops import make_importable

make_importable()  # transformers imports a torchvision that is installed, whatever torch it was built for

WORDS = """
a photo of red green blue circle star ring square cross triangle cat dog bird small large crooked bottle with a crack
this is the drawing street sign living room apple bridge river mountain snow night
συρραφή οδός Σίσυφος κόκκινος κύκλος γάτα σκύλος ποταμός θάλασσα
красный круг синяя звезда кошка собака река мост снег ночь
قطة كلب دائرة حمراء نجمة زرقاء جسر نهر مدرسة كتاب
חתול כלב עיגול אדום כוכב כחול גשר נהר ספר בית
बिल्ली कुत्ता लाल गोला नीला तारा पुल नदी किताब घर
แมว สุนัข วงกลมสีแดง ดาวสีฟ้า สะพาน แม่น้ำ หนังสือ บ้าน
猫 狗 红色的圆 蓝色的星 桥 河 山 书 房子 赤い 丸 青い 星 ねこ いぬ カメラ 고양이 개 빨간 원 파란 별 다리
kırmızı daire ısırgan İstanbul köprü ırmak çocuk güneş café naïve Ångström Straße
"""  # noqa: RUF001

TINY = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4, "num_hidden_layers": 2}
BASE = {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12, "num_hidden_layers": 12}

SIGMOID_BIAS = -12.9
SCALE = 4.7


def make_siglip(folder: Path) -> Path:
    """SigLIP: the demo checkpoint's sentencepiece."""
    for name in ("spiece.model", "tokenizer_config.json"):
        shutil.copy(CHECKPOINT / name, folder)
    tokenizer = transformers.SiglipTokenizer.from_pretrained(folder)
    return _siglip(folder, tokenizer, size=32)


def make_siglip_i18n(folder: Path) -> Path:
    """SigLIP of other languages: the same kind of tokenizer, with a sentencepiece of several scripts."""
    (folder / "spiece.model").write_bytes(_sentencepiece())
    tokenizer = transformers.SiglipTokenizer(str(folder / "spiece.model"), model_max_length=64)
    return _siglip(folder, tokenizer, size=32)


def make_siglip_2(folder: Path, **tokenizer: Any) -> Path:
    """SigLIP 2 of one resolution: a Gemma tokenizer, set up as on the hub but for what is given."""
    return _siglip(folder, gemma_tokenizer(**tokenizer), size=32)


def make_siglip_2_base(folder: Path) -> Path:
    """The geometry of google/siglip2-base-patch16-256, but for 32,000 tokens instead of 256,000 (3 bytes of 4)."""
    return _siglip(folder, gemma_tokenizer(), size=256, tower=BASE, vocabulary=32_000, patch=16)


def make_naflex(folder: Path, *, patches: int = 24, patch: int = 8, tokenizer: Any = None) -> Path:
    """SigLIP 2 NaFlex: images of any proportions, of so many patches at most."""
    tokenizer = tokenizer or gemma_tokenizer()
    torch.manual_seed(4)
    model = transformers.Siglip2Model(
        transformers.Siglip2Config(
            text_config=_siglip_text(tokenizer, TINY, None),
            # Places of 4 x 4 patches, which are stretched to those of an image.
            vision_config={**TINY, "num_patches": 16, "patch_size": patch},
        )
    )
    processor = transformers.Siglip2Processor(
        transformers.Siglip2ImageProcessorPil(patch_size=patch, max_num_patches=patches), tokenizer
    )
    return _saved(folder, model, processor, bias=SIGMOID_BIAS)


def make_naflex_base(folder: Path) -> Path:
    """The geometry of google/siglip2-base-patch16-naflex, but for 32,000 tokens instead of 256,000."""
    tokenizer = gemma_tokenizer()
    torch.manual_seed(4)
    model = transformers.Siglip2Model(
        transformers.Siglip2Config(
            text_config=_siglip_text(tokenizer, BASE, 32_000),
            vision_config={**BASE, "num_patches": 256, "patch_size": 16},
        )
    )
    processor = transformers.Siglip2Processor(transformers.Siglip2ImageProcessorPil(), tokenizer)
    return _saved(folder, model, processor, bias=SIGMOID_BIAS)


def make_clip(folder: Path) -> Path:
    """CLIP, with an embedding of another length than the towers' width."""
    return _clip(folder, tower=TINY, size=32, patch=8, projection=24, vocabulary=None)


def make_clip_base(folder: Path) -> Path:
    """The geometry of openai/clip-vit-base-patch16."""
    text = {"hidden_size": 512, "intermediate_size": 2048, "num_attention_heads": 8}
    return _clip(folder, tower=BASE, size=224, patch=16, projection=512, vocabulary=49_408, **text)


def make_metaclip_2(folder: Path) -> Path:
    """MetaCLIP 2: CLIP's towers, XLM-R's tokenizer."""
    tokenizer = xlm_r_tokenizer()
    torch.manual_seed(6)
    model = transformers.MetaClip2Model(
        transformers.MetaClip2Config(
            text_config={**TINY, **_ids(tokenizer), "max_position_embeddings": 77, "vocab_size": len(tokenizer)},
            vision_config={**TINY, "image_size": 32, "patch_size": 8},
            projection_dim=24,
        )
    )
    return _saved(folder, model, transformers.CLIPProcessor(_clip_images(32), tokenizer))


def make_altclip(folder: Path) -> Path:
    """AltCLIP: CLIP's image tower, XLM-R as text tower."""
    tokenizer = xlm_r_tokenizer()
    torch.manual_seed(7)
    text = {**TINY, **_ids(tokenizer), "max_position_embeddings": 100, "vocab_size": len(tokenizer), "project_dim": 32}
    model = transformers.AltCLIPModel(
        transformers.AltCLIPConfig(
            text_config=text, vision_config={**TINY, "image_size": 32, "patch_size": 8}, projection_dim=24
        )
    )
    return _saved(folder, model, transformers.AltCLIPProcessor(_clip_images(32), tokenizer))


MAKERS: dict[str, Callable[[Path], Path]] = {
    "siglip": make_siglip,
    "siglip i18n": make_siglip_i18n,
    "siglip 2": make_siglip_2,
    "siglip 2 naflex": make_naflex,
    "clip": make_clip,
    "metaclip 2": make_metaclip_2,
    "altclip": make_altclip,
}
"""One of each kind, tiny."""

BASES: dict[str, Callable[[Path], Path]] = {
    "clip base-patch16": make_clip_base,
    "siglip 2 base-patch16-256": make_siglip_2_base,
    "siglip 2 base-patch16-naflex": make_naflex_base,
}
"""Of full size: seconds an image."""


def edit_json(path: Path, **changes: Any) -> None:
    """Set some of a file's values; None takes one out."""
    values = {**json.loads(path.read_text(encoding="utf-8")), **changes}
    kept = {name: value for name, value in values.items() if value is not None}
    path.write_text(json.dumps(kept, ensure_ascii=False), encoding="utf-8")


def _siglip(
    folder: Path, tokenizer: Any, *, size: int, tower: Any = TINY, vocabulary: int | None = None, patch: int = 8
) -> Path:
    torch.manual_seed(3)
    model = transformers.SiglipModel(
        transformers.SiglipConfig(
            text_config=_siglip_text(tokenizer, tower, vocabulary),
            vision_config={**tower, "image_size": size, "patch_size": patch},
        )
    )
    images = transformers.SiglipImageProcessorPil(size={"height": size, "width": size}, resample=2)
    return _saved(folder, model, transformers.SiglipProcessor(images, tokenizer), bias=SIGMOID_BIAS)


def _siglip_text(tokenizer: Any, tower: Any, vocabulary: int | None) -> dict[str, Any]:
    return {
        **tower,
        **_ids(tokenizer),
        "vocab_size": vocabulary or len(tokenizer),
        "max_position_embeddings": 64,
        "projection_size": tower["hidden_size"],
    }


def _clip(
    folder: Path, *, tower: Any, size: int, patch: int, projection: int, vocabulary: int | None, **text: Any
) -> Path:
    tokenizer = clip_tokenizer()
    torch.manual_seed(5)
    model = transformers.CLIPModel(
        transformers.CLIPConfig(
            text_config={
                **tower,
                **_ids(tokenizer),
                "vocab_size": vocabulary or len(tokenizer),
                "max_position_embeddings": 77,
                **text,
            },
            vision_config={**tower, "image_size": size, "patch_size": patch},
            projection_dim=projection,
        )
    )
    return _saved(folder, model, transformers.CLIPProcessor(_clip_images(size), tokenizer))


def _clip_images(size: int) -> Any:
    return transformers.CLIPImageProcessorPil(
        size={"shortest_edge": size}, crop_size={"height": size, "width": size}, do_center_crop=True
    )


def _ids(tokenizer: Any) -> dict[str, int | None]:
    names = ("bos_token_id", "eos_token_id", "pad_token_id")
    return {name: getattr(tokenizer, name, None) for name in names}


def _saved(folder: Path, model: Any, processor: Any, *, bias: float | None = None) -> Path:
    with torch.no_grad():
        # Random weights come with other ones, with which all pairs look alike.
        model.logit_scale.fill_(SCALE)
        if bias is not None:
            model.logit_bias.fill_(bias)
        for weights in model.parameters():
            if weights.dim() > 1:
                weights.normal_(std=1.5 * (weights.shape[0] / weights.numel()) ** 0.5)
    bars = transformers.logging.is_progress_bar_enabled()
    transformers.logging.disable_progress_bar()
    model.save_pretrained(folder)
    if bars:
        transformers.logging.enable_progress_bar()
    processor.save_pretrained(folder)
    return folder


def gemma_tokenizer(**options: Any) -> Any:
    """As SigLIP 2's checkpoints on the hub set it up: filled up on the right, ended by EOS, no mask."""
    vocabulary, merges = _gemma_pieces()
    hub = {
        "padding_side": "right",
        "add_bos_token": False,
        "add_eos_token": True,
        "model_input_names": ["input_ids"],
        "model_max_length": 10**30,
    }
    return transformers.GemmaTokenizer(vocab=dict(vocabulary), merges=list(merges), **{**hub, **options})


def siglip_2_tokenizer() -> Any:
    """SigLIP 2's own class, which lower-cases itself; the checkpoints on the hub name Gemma's."""
    vocabulary, merges = _gemma_pieces()
    return transformers.Siglip2Tokenizer(
        vocab=dict(vocabulary), merges=list(merges), padding_side="right", add_bos_token=False, add_eos_token=True
    )


def clip_tokenizer() -> Any:
    """Byte-level; EOS has the highest number, as CLIP's has."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trained = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    trained.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    trained.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    trained.train_from_iterator(
        WORDS.split("\n"),
        trainers.BpeTrainer(
            vocab_size=900, initial_alphabet=alphabet, end_of_word_suffix="</w>", min_frequency=1, show_progress=False
        ),
    )
    merges = [tuple(merge) for merge in json.loads(trained.to_str())["model"]["merges"]]
    pieces = [*alphabet, *(f"{letter}</w>" for letter in alphabet), *("".join(merge) for merge in merges)]
    vocabulary = {piece: number for number, piece in enumerate(dict.fromkeys(pieces))}
    for special in ("<|startoftext|>", "<|endoftext|>"):
        vocabulary[special] = len(vocabulary)
    return transformers.CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=77)


def xlm_r_tokenizer() -> Any:
    """XLM-R's: the pieces of the sentencepiece below, behind its own special tokens."""
    trained = sentencepiece.SentencePieceProcessor(model_proto=_sentencepiece())
    pieces = [(trained.id_to_piece(number), trained.get_score(number)) for number in range(3, len(trained))]
    special = [(name, 0.0) for name in ("<s>", "<pad>", "</s>", "<unk>")]
    return transformers.XLMRobertaTokenizer(vocab=[*special, *pieces, ("<mask>", 0.0)], model_max_length=77)


@cache
def _sentencepiece() -> bytes:
    """Several scripts; SigLIP's special tokens in SigLIP's places."""
    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([*WORDS.lower().split("\n"), *WORDS.lower().split()]),
        model_writer=written,
        vocab_size=520,
        hard_vocab_limit=False,
        character_coverage=1.0,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        num_threads=1,
        minloglevel=2,
    )
    return written.getvalue()


@cache
def _gemma_pieces() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Vocabulary and merges: Gemma's special tokens first, then all bytes for what has no piece."""
    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", *(f"<0x{byte:02X}>" for byte in range(256))]
    trained = Tokenizer(models.BPE())
    trained.normalizer = normalizers.Replace(" ", "▁")
    trained.train_from_iterator(
        [*WORDS.lower().split("\n"), *(f" {word}" for word in WORDS.lower().split())],
        trainers.BpeTrainer(vocab_size=1000, special_tokens=special, show_progress=False),
    )
    model = json.loads(trained.to_str())["model"]
    return model["vocab"], [tuple(merge) for merge in model["merges"]]
