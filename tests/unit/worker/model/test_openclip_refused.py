"""What cannot be loaded of OpenCLIP's format is refused in one line; two formats in one folder are told apart."""

from __future__ import annotations

import json
import os
import pickle
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors.torch
import tokenizers
import torch
import transformers

from prelabel.schemas import ModelLoadError
from prelabel.worker.demo.story import CHECKPOINT
from tests.openclip import CONFIG, PICKLE, TOKENIZER, WEIGHTS, changed, cut_short, pickled
from tests.unit.worker.model.samples import load

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")

EXAMPLES = Path(__file__).parents[4] / "examples"


def saying(*path: str, to: object):
    return lambda folder: changed(folder, "model_cfg", *path, to=to)


def tokenizing(**arguments: object):
    return saying("text_cfg", "tokenizer_kwargs", to=arguments)


def preparing(**entries: object):
    return lambda folder: changed(folder, "preprocess_cfg", to=entries)


def without_weight(*names: str):
    def spoil(folder: Path) -> None:
        weights = safetensors.torch.load_file(folder / WEIGHTS)
        safetensors.torch.save_file({k: v for k, v in weights.items() if k not in names}, folder / WEIGHTS)

    return spoil


def with_weight(name: str):
    def spoil(folder: Path) -> None:
        weights = safetensors.torch.load_file(folder / WEIGHTS)
        safetensors.torch.save_file({**weights, name: torch.zeros(1)}, folder / WEIGHTS)

    return spoil


def two_other_weights(folder: Path) -> None:
    (folder / WEIGHTS).rename(folder / "one.safetensors")
    shutil.copy(folder / "one.safetensors", folder / "two.safetensors")


def without_eos(folder: Path) -> None:
    text_without_a_vocabulary(folder)
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel({"a": 3, "</s>": 1}, unk_token="</s>"))
    made = transformers.PreTrainedTokenizerFast(tokenizer_object=words, eos_token="</s>", pad_token="</s>")
    made.save_pretrained(folder)


def text_without_a_vocabulary(folder: Path) -> None:
    (folder / TOKENIZER[0]).unlink()


REFUSED = {
    "no object": ("CLIP", lambda c: changed(c, to=[]), r"config\.json names no model_cfg with vision_cfg and text_cfg"),
    "no model": ("CLIP", lambda c: changed(c, to={"embed_dim": 3}), r"names no model_cfg with .* copy it"),
    "no towers": ("CLIP", saying("text_cfg", to="ViT"), r"names no model_cfg with vision_cfg and text_cfg"),
    "no JSON": ("CLIP", lambda c: (c / CONFIG).write_text("{"), r"open_clip_config\.json cannot be read, copy the"),
    "CoCa": ("CLIP", saying("multimodal_cfg", to={}), r"has a multimodal_cfg: it is a CoCa, which writes captions"),
    "unknown argument": (
        "CLIP",
        saying("wings", to=2),
        r"cannot build what .* argument 'wings' \(pip install -U",
    ),
    "unknown part": ("CLIP", saying("vision_cfg", "wings", to=2), r"cannot build what .* argument 'wings'"),
    "no embed_dim": ("CLIP", saying("embed_dim", to=None), r"cannot build what open_clip_config\.json describes: "),
    "unknown tower": (
        "EVA",
        saying("vision_cfg", "timm_model_name", to="eva99"),
        r"image tower eva99, which timm .* -U",
    ),
    "hub's tower": (
        "EVA",
        saying("vision_cfg", "timm_model_name", to="hf-hub:me/tower"),
        r"names the image tower hf-hub:me/tower, .* nothing is fetched for a config",
    ),
    "other tower": ("CLIP", saying("vision_cfg", "layers", to=3), r"lacks visual\.transformer.* and \d+ more, which"),
    "larger tower": ("CLIP", saying("vision_cfg", "image_size", to=96), r"lacks visual\.positional_embedding, which"),
    "smaller tower": ("CLIP", saying("vision_cfg", "layers", to=1), r"has visual.*config\.json does not ask for"),
    "another's weights": (
        "CLIP",
        lambda c: shutil.copy(CHECKPOINT / "model.safetensors", c / WEIGHTS),
        r"lacks .* and",
    ),
    "half of it": (
        "CLIP",
        without_weight("ln_final.weight"),
        r"lacks ln_final\.weight, which open_clip_config",
    ),
    "no bias": (
        "SigLIP",
        without_weight("logit_bias"),
        r"lacks logit_bias, which open_clip_config\.json asks",
    ),
    "a bias": ("CLIP", with_weight("logit_bias"), r"has logit_bias, which open_clip_config\.json does not"),
    "cut short": (
        "CLIP",
        cut_short,
        r"open_clip_model\.safetensors is damaged or cut short, copy it again: ",
    ),
    "no safetensors": ("CLIP", lambda c: (c / WEIGHTS).write_bytes(b"PK\x03\x04"), r"is damaged or cut short"),
    "no weights": (
        "CLIP",
        lambda c: (c / WEIGHTS).unlink(),
        r"holds no open_clip_model\.safetensors: copy it",
    ),
    "which weights": (
        "CLIP",
        two_other_weights,
        r"holds one\.safetensors and two\.safetensors, and no open_cl",
    ),
    "pickles": ("CLIP", pickled, r"pickled weights \(open_clip_pytorch_model\.bin\) are never opened, .* python -c "),
    "no tokenizer": ("SigLIP", text_without_a_vocabulary, r"no tokenizer file .* tokenizer\.save_pretrained\(folder\)"),
    "no end": ("SigLIP", without_eos, r"does not end texts with the end-of-sequence token: tokenizer_config\.json"),
    "other words": (
        "SigLIP",
        saying("text_cfg", "hf_tokenizer_name", to=""),
        r"has 49,408 tokens and .* 390: one",
    ),
    "code": (
        "SigLIP",
        tokenizing(trust_remote_code=True),
        r"has trust_remote_code among its tokenizer_kwargs, and clean, language, strip_sep_token alone are passed on",
    ),
    "chance": (
        "CLIP",
        saying("text_cfg", "tokenizer_kwargs", to={"reduction_mask": "syntax"}),
        r"has reduction_mask among",
    ),
    "a file": (
        "CLIP",
        saying("text_cfg", "tokenizer_kwargs", to={"bpe_path": "/etc/passwd"}),
        r"has bpe_path among its",
    ),
    "cleaning": (
        "CLIP",
        saying("text_cfg", "tokenizer_kwargs", to={"clean": "wash"}),
        r"cleaned by 'wash', and open_clip",
    ),
    "no arguments": (
        "CLIP",
        saying("text_cfg", "tokenizer_kwargs", to=[1]),
        r"has tokenizer_kwargs that are no object",
    ),
    "no length": ("CLIP", saying("text_cfg", "context_length", to="77"), r"has '77' as context_length: copy it"),
    "padded": (
        "CLIP",
        preparing(resize_mode="longest"),
        r"fits images into 64x64 by resize_mode 'longest', and",
    ),
    "odd filter": ("CLIP", preparing(interpolation="lanczos"), r"an interpolation or a mode of images that open_clip"),
    "grey": ("CLIP", preparing(mode="L"), r"an interpolation or a mode of images that open_clip does not know: copy"),
    "two means": ("CLIP", preparing(mean=[0.5, 0.5]), r"has a mean or a std that is no color's: copy it"),
    "no deviation": ("CLIP", preparing(std=[0, 0, 0]), r"has a mean or a std that is no color's: copy it"),
    "a tower that is a number": (
        "EVA",
        saying("vision_cfg", "timm_model_name", to=1.5),
        r"open_clip_config\.json has 1\.5 as timm_model_name, which is no name: copy it",
    ),
    "a tokenizer that is a number": (
        "SigLIP",
        saying("text_cfg", "hf_tokenizer_name", to=3),
        r"has 3 as hf_tokenizer_name, which is no name: copy it",
    ),
    "no preparation": (
        "CLIP",
        lambda c: changed(c, "preprocess_cfg", to="none"),
        r"has a preprocess_cfg that is no object",
    ),
    "dims": (
        "EVA",
        saying("vision_cfg", "timm_proj", to="none"),
        r"lacks|has visual\.|embeddings of \(48,\) and texts \(24,\), which cannot be compared",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_loaded_is_one_line_that_names_the_file_and_the_fix(case, open_clips, tmp_path) -> None:
    which, spoil, message = REFUSED[case]
    folder = tmp_path / "copied"
    shutil.copytree(open_clips[which], folder)
    spoil(folder)
    with pytest.raises(ModelLoadError, match=message) as refused:
        load(folder)
    assert str(refused.value).startswith(f"cannot load the checkpoint in {folder}: ")
    assert "\n" not in str(refused.value)


class Evil:
    def __reduce__(self):
        return os.mkdir, ("was-run",)


def test_a_pickle_is_never_opened(open_clips, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(open_clips["CLIP"], tmp_path / "copied")
    (tmp_path / "copied" / WEIGHTS).unlink()
    (tmp_path / "copied" / PICKLE).write_bytes(pickle.dumps(Evil()))
    with pytest.raises(ModelLoadError, match="never opened"):
        load(tmp_path / "copied")
    assert not (tmp_path / "was-run").exists()
    pickle.loads((tmp_path / "copied" / PICKLE).read_bytes())
    assert (tmp_path / "was-run").exists()  # who opens it runs it


def test_code_beside_a_tokenizer_is_not_run(open_clips, tmp_path) -> None:
    folder = tmp_path / "copied"
    shutil.copytree(open_clips["SigLIP"], folder)
    (folder / "words.py").write_text(f"import os; os.mkdir({str(tmp_path / 'was-run')!r})\nclass Words: pass")
    config = json.loads((folder / TOKENIZER[1]).read_text())
    config |= {"tokenizer_class": "Words", "auto_map": {"AutoTokenizer": ["words.Words", None]}}
    (folder / TOKENIZER[1]).write_text(json.dumps(config))
    with pytest.raises(ModelLoadError, match="cannot load the checkpoint in") as refused:
        load(folder)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "was-run").exists()


@pytest.mark.parametrize("how", ["the command of the refusal", "the program of the documentation"])
def test_pickles_are_converted_as_people_are_told_to(how, open_clips, tmp_path) -> None:
    folder = tmp_path / "a copy"
    shutil.copytree(open_clips["CLIP"], folder)
    before = load(folder).texts.encode(["ring"])
    weights = safetensors.torch.load_file(folder / WEIGHTS)
    (folder / WEIGHTS).unlink()
    # As training leaves them: below a key of their own, from a model spread over GPUs.
    torch.save({"epoch": 3, "state_dict": {f"module.{k}": v for k, v in weights.items()}}, folder / PICKLE)
    with pytest.raises(ModelLoadError) as refused:
        load(folder)
    python, *arguments = shlex.split(str(refused.value).partition("convert them once, ")[2])
    assert python == "python"
    if how == "the program of the documentation":
        arguments = [str(EXAMPLES / "convert_openclip.py"), str(folder / PICKLE)]
    subprocess.run([sys.executable, *arguments], check=True)
    assert (load(folder).texts.encode(["ring"]) == before).all()
