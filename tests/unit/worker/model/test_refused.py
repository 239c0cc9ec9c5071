"""Checkpoints of every family that cannot be used are refused in one line, which names the file and what helps.

Most of it is seen before a weight is read, and all of it before an image or a text is.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from prelabel.schemas import ModelLoadError
from tests.checkpoints import MAKERS, edit_json, gemma_tokenizer, make_naflex, make_siglip_2
from tests.unit.worker.model.samples import load
from tests.unit.worker.model.spoiling import (
    TOKENIZER,
    WEIGHTS,
    Spoil,
    a_shard_missing,
    an_adapter,
    as_transformers_4_wrote_it,
    config,
    cut,
    half,
    images,
    nulled,
    of_another_width,
    pickled,
    tokenizer,
    tower,
    weights,
    without,
    without_texts,
    written,
)

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")

SIGLIPS = ("siglip", "siglip i18n", "siglip 2", "siglip 2 naflex")
CLIPS = ("clip", "metaclip 2", "altclip")
ONE_SIZE = tuple(name for name in MAKERS if name != "siglip 2 naflex")
XLM_RS = ("metaclip 2", "altclip")


@pytest.fixture
def copied(made, tmp_path) -> Callable[[str], Path]:
    """A copy of a checkpoint to spoil."""

    def copy(name: str) -> Path:
        folder = tmp_path / "copied"
        shutil.copytree(made(name), folder)
        return folder

    return copy


OWN = r"save the checkpoint's own processor there, processor\.save_pretrained\(folder\)$"
NO_TOKENIZER = r"it holds no tokenizer file \(tokenizer\.json, spiece\.model, …\): save .* processor\.save_pretrained"
DAMAGED = r"model\.safetensors is damaged or cut short, copy it again: "
UNFIT = r"neither squashes images to one size nor scales their shorter edge and crops: " + OWN
CUTS_OTHERS = r"\(processor_config\.json\) cuts patches of 16, and config\.json says 8: " + OWN

CASES: dict[str, tuple[Spoil, str, tuple[str, ...]]] = {
    "no tokenizer": (without(*TOKENIZER), NO_TOKENIZER, tuple(MAKERS)),
    "no vocabulary": (without("spiece.model", "tokenizer.json"), NO_TOKENIZER, tuple(MAKERS)),
    "a tokenizer's config that is no JSON": (
        written("tokenizer_config.json", "{"),
        r"its processor \(processor_config\.json, tokenizer_config\.json, .*\) cannot be used, copy .*: Expecting",
        tuple(MAKERS),
    ),
    "a sentencepiece that is none": (
        written("spiece.model", "none"),
        r"its processor \(.*vocabulary\) cannot be used, copy the checkpoint again: .*spiece\.model",
        ("siglip", "siglip i18n"),
    ),
    "no image processor": (
        without("processor_config.json"),
        r"it holds no preprocessor_config\.json: save the checkpoint's processor there",
        tuple(MAKERS),
    ),
    "a processor that is no JSON": (
        written("processor_config.json", "{"),
        r"its processor \(processor_config\.json, .*cannot be used, copy the checkpoint again: .*not a valid JSON",
        tuple(MAKERS),
    ),
    "an image processor that does not resize": (
        images(do_resize=False),
        r"its image processor \(processor_config\.json\) has do_resize off: " + OWN,
        tuple(MAKERS),
    ),
    "the same as transformers 4 wrote it": (
        as_transformers_4_wrote_it,
        r"its image processor \(preprocessor_config\.json\) has do_rescale off: " + OWN,
        tuple(MAKERS),
    ),
    "an image processor that keeps proportions": (
        images(size={"shortest_edge": 32}, do_center_crop=False),
        r"its image processor \(processor_config\.json\) " + UNFIT,
        ONE_SIZE,
    ),
    "an image processor with a longest edge": (
        images(size={"longest_edge": 32}, do_center_crop=True, crop_size={"height": 32, "width": 32}),
        UNFIT,
        CLIPS,
    ),
    "a crop of more than there is": (
        images(size={"shortest_edge": 20}, do_center_crop=True, crop_size={"height": 32, "width": 32}),
        r"scales the shorter edge to 20 and crops to 32x32, which is more: " + OWN,
        ONE_SIZE,
    ),
    "images of another size than the model's": (
        images(size={"height": 48, "width": 48}, crop_size={"height": 48, "width": 48}),
        r"\(processor_config\.json\) makes images of 48x48, and config\.json says 32: " + OWN,
        ONE_SIZE,
    ),
    "patches of another size than the model's": (images(patch_size=16), CUTS_OTHERS, ("siglip 2 naflex",)),
    "no number of patches": (
        images(max_num_patches=0),
        r"\(processor_config\.json\) has no patch_size or no max_num_patches: " + OWN,
        ("siglip 2 naflex",),
    ),
    "a filter nobody knows": (images(resample=99), r"has resample=99, which cannot be used: " + OWN, tuple(MAKERS)),
    "one mean": (images(image_mean=[0.5]), r"has image_mean=.0\.5.*, which cannot be used: " + OWN, tuple(MAKERS)),
    "no deviation": (
        images(image_std=[0.5, 0, 0.5]),
        r"has image_std=.*, which cannot be used: " + OWN,
        tuple(MAKERS),
    ),
    "another kind": (
        config(model_type="gpt2"),
        r"config\.json says model_type 'gpt2', and there are families for altclip, clip, .* alone: set PRELABEL_MODEL",
        tuple(MAKERS),
    ),
    "texts alone": (
        half("text_config"),
        r"config\.json says model_type '\w+_text_model', which embeds images alone or texts alone: set PRELABEL_MODEL",
        tuple(MAKERS),
    ),
    "images alone": (
        half("vision_config"),
        r"config\.json says model_type '\w+_vision_model', which embeds images alone or texts alone: set",
        tuple(MAKERS),
    ),
    "a config with a value of another type": (
        tower("vision_config", num_hidden_layers="many"),
        r"config\.json cannot be used, copy the checkpoint again: .*'num_hidden_layers': .*'many'",
        tuple(MAKERS),
    ),
    "towers of different lengths": (
        tower("vision_config", hidden_size=48),
        r"config\.json gives images 48 dimensions and texts 32, which cannot be compared: copy it",
        SIGLIPS,
    ),
    "projections of another length": (
        config(projection_dim=48),
        r"its weights \(\*\.safetensors\) have \w+_projection\.weight of 24x32, and config\.json asks for 48x32: one",
        CLIPS,
    ),
    "projections of no length": (
        nulled("projection_dim"),
        r"config\.json cannot be used, copy (it from )?the checkpoint again: ",
        ("clip", "altclip"),
    ),
    "no end of texts": (nulled("text_config", "eos_token_id"), r"config\.json", ("clip",)),
    "no token to fill up with": (
        tokenizer(pad_token=None),
        r"its tokenizer fills texts up with None \(pad_token of tokenizer_config\.json\), which is none of the [\d,]+ ",
        ("siglip 2", "siglip 2 naflex", "clip", "metaclip 2"),
    ),
    "a token to fill up with that the model has not": (
        tokenizer(pad_token="[FILL]"),
        r"its tokenizer fills texts up with '\[FILL\]' \(pad_token of tokenizer_config\.json\), which is none of the ",
        tuple(MAKERS),
    ),
    "a length of texts that is a list": (
        tokenizer(model_max_length=[1, 2]),
        r"tokenizer.* cannot be used, copy ",
        tuple(MAKERS),
    ),
    "a crop that is a word": (
        images(crop_size="x"),
        r"processor_config\.json",
        CLIPS,
    ),
    "weights cut short": (cut(WEIGHTS, -1000), DAMAGED + r"it has [\d,]+ bytes and says [\d,]+$", tuple(MAKERS)),
    "weights cut short in their head": (cut(WEIGHTS, 100), DAMAGED + "its head is longer", tuple(MAKERS)),
    "empty weights": (cut(WEIGHTS, 0), DAMAGED, tuple(MAKERS)),
    "a shard missing": (
        a_shard_missing,
        r"model\.safetensors\.index\.json names model-00002-of-00002\.safetensors, which is not there: copy it",
        tuple(MAKERS),
    ),
    "half of the weights": (
        weights(without_texts),
        r"its weights \(\*\.safetensors\) lack text_model\..* and \d+ more, which config\.json asks for: .* copy both",
        tuple(MAKERS),
    ),
    "weights of another width": (
        weights(of_another_width),
        r"its weights \(\*\.safetensors\) have vision_model\.\S+fc1\.weight of 9x7, and config\.json asks for 64x32: ",
        tuple(MAKERS),
    ),
    "pickles": (
        pickled,
        r"it holds pickled weights .* never opened, .* python -c 'from transformers import AutoModel; AutoModel\."
        r"from_pretrained\(\".*copied\"\)\.save_pretrained\(\"converted\"\)'",
        tuple(MAKERS),
    ),
    "no weights": (
        without(WEIGHTS),
        r"it holds no \*\.safetensors: .* model\.save_pretrained\(folder\)",
        tuple(MAKERS),
    ),
    "an adapter with its base's config": (
        an_adapter,
        r"adapter_config\.json says that it is an adapter \(LoRA\) .*merge_and_unload\(\)",
        tuple(MAKERS),
    ),
}


@pytest.mark.parametrize(("case", "name"), [(case, name) for case, (_, _, names) in CASES.items() for name in names])
def test_a_checkpoint_that_cannot_be_used_is_one_line_with_the_file_and_the_fix(case, name, copied) -> None:
    spoil, message, _ = CASES[case]
    folder = copied(name)
    spoil(folder)
    with pytest.raises(ModelLoadError, match=message) as refused:
        load(folder)
    assert str(refused.value).startswith(f"cannot load the checkpoint in {folder}: ")
    assert "\n" not in str(refused.value)
    assert "/secret" not in str(refused.value)


TWO = r"config\.json says {}, and its processor's files are those of {}\w*: two checkpoints' files lie in one folder"
VOCABULARY = r"its tokenizer has 1,0\d\d tokens, and config\.json says [\d,]+: the tokenizer's files are another"

MIXED = [
    # A folder of the first, with these files of the second.
    ("siglip", "clip", TOKENIZER, TWO.format("siglip", "CLIPTokenizer")),
    ("siglip", "clip", ("processor_config.json",), TWO.format("siglip", "CLIPImageProcessor")),
    ("siglip", "siglip 2 naflex", ("processor_config.json",), UNFIT),
    ("siglip", "siglip 2", TOKENIZER, VOCABULARY),
    ("siglip", "metaclip 2", TOKENIZER, TWO.format("siglip", "XLMRobertaTokenizer")),
    ("siglip 2", "clip", (WEIGHTS,), r"its weights \(\*\.safetensors\) (have|lack) "),
    ("siglip 2", "siglip", ("config.json",), VOCABULARY),
    ("siglip 2 naflex", "siglip 2", ("processor_config.json",), TWO.format("siglip2", "SiglipImageProcessor")),
    ("siglip 2 naflex", "siglip 2", (WEIGHTS,), r"its weights \(\*\.safetensors\) have vision_model\.embeddings"),
    ("siglip 2 naflex", "clip", TOKENIZER, TWO.format("siglip2", "CLIPTokenizer")),
    ("siglip 2 naflex", "altclip", TOKENIZER, TWO.format("siglip2", "XLMRobertaTokenizer")),
    ("siglip 2", "siglip 2 naflex", ("config.json",), TWO.format("siglip2", "SiglipImageProcessor")),
    ("clip", "siglip", TOKENIZER, TWO.format("clip", "SiglipTokenizer")),
    ("clip", "siglip", ("processor_config.json",), TWO.format("clip", "SiglipImageProcessor")),
    ("clip", "siglip 2", TOKENIZER, TWO.format("clip", "GemmaTokenizer")),
    ("clip", "altclip", TOKENIZER, TWO.format("clip", "XLMRobertaTokenizer")),
    ("clip", "siglip", (WEIGHTS,), r"its weights \(\*\.safetensors\) (have|lack) "),
    ("clip", "siglip", ("config.json",), TWO.format("siglip", "CLIPImageProcessor")),
    ("metaclip 2", "clip", TOKENIZER, r"its tokenizer has 1,0\d\d tokens, and config\.json says [\d,]+"),
    ("altclip", "clip", TOKENIZER, r"its tokenizer has 1,0\d\d tokens, and config\.json says [\d,]+"),
    ("altclip", "clip", (WEIGHTS,), r"its weights \(\*\.safetensors\) (have|lack) "),
]


@pytest.mark.parametrize(("name", "other", "files", "message"), MIXED)
def test_files_of_two_checkpoints_in_one_folder_are_refused(name, other, files, message, made, copied) -> None:
    folder = copied(name)
    for file in files:
        (folder / file).unlink(missing_ok=True)
        if (made(other) / file).exists():
            shutil.copy(made(other) / file, folder)
    with pytest.raises(ModelLoadError, match=message) as refused:
        load(folder)
    assert "\n" not in str(refused.value)


LOST_EOS = r"its tokenizer does not end texts with the end-of-sequence token: tokenizer_config\.json was lost"


def test_siglip_2_whose_tokenizer_lost_its_settings_is_refused(tmp_path) -> None:
    """It loads, and every vector of a text is another one than the model was trained to give."""
    with pytest.raises(ModelLoadError, match=LOST_EOS):
        load(make_siglip_2(tmp_path, add_eos_token=False))


def test_naflex_whose_tokenizer_lost_its_settings_is_refused(tmp_path) -> None:
    with pytest.raises(ModelLoadError, match=LOST_EOS):
        load(make_naflex(tmp_path, tokenizer=gemma_tokenizer(add_eos_token=False)))


def test_a_tokenizer_that_fills_up_on_the_left_is_made_to_fill_up_on_the_right(made, tmp_path) -> None:
    """Gemma's own default; SigLIP 2's checkpoints set it to the right."""
    left = load(make_siglip_2(tmp_path, padding_side="left"))
    assert json.loads((tmp_path / "tokenizer_config.json").read_text())["padding_side"] == "left"
    texts = ["a cat", "a rather longer prompt about a red star"]
    assert (left.texts.encode(texts) == load(made("siglip 2")).texts.encode(texts)).all()


def test_a_mask_that_the_tokenizers_config_leaves_out_is_made_where_the_model_needs_one(made, copied) -> None:
    folder = copied("altclip")
    edit_json(folder / "tokenizer_config.json", model_input_names=["input_ids"])
    texts = ["a cat", "a rather longer prompt about a red star"]
    assert (load(folder).texts.encode(texts) == load(made("altclip")).texts.encode(texts)).all()


@pytest.mark.parametrize("name", MAKERS)
def test_without_its_tokenizers_config_a_checkpoint_is_refused_or_gives_the_same_vectors(name, made, copied) -> None:
    folder = copied(name)
    (folder / "tokenizer_config.json").unlink()
    texts = ["A Cat!", "Σίσυφος", "a rather longer prompt about a red star"]
    if name in ("siglip 2", "altclip"):
        with pytest.raises(ModelLoadError, match=r"tokenizer_config\.json"):
            load(folder)
    else:
        assert (load(folder).texts.encode(texts) == load(made(name)).texts.encode(texts)).all()


def test_clip_whose_config_names_another_end_of_texts_than_its_tokenizer_is_refused(copied) -> None:
    """The model reads a text at that token; where there is none it reads it at its beginning."""
    folder = copied("clip")
    tower("text_config", eos_token_id=7)(folder)
    with pytest.raises(ModelLoadError, match=r"ends texts with the token 1089, and config\.json says 7: the"):
        load(folder)


def test_clip_with_openais_early_config_reads_texts_at_the_highest_token(made, copied) -> None:
    """Whose end-of-sequence token was 2, which it is not, and which transformers passes over."""
    folder = copied("clip")
    tower("text_config", eos_token_id=2)(folder)
    texts = ["a cat", "a rather longer prompt about a red star"]
    assert (load(folder).texts.encode(texts) == load(made("clip")).texts.encode(texts)).all()


@pytest.mark.parametrize("name", ["siglip", "clip"])
def test_the_licence_is_the_one_the_readme_names(name, copied) -> None:
    folder = copied(name)
    assert load(folder).card.licence is None
    (folder / "README.md").write_text("---\nlanguage: en\nlicense: cc-by-nc-4.0\ntags: [vision]\n---\n\nlicense: mit\n")
    assert load(folder).card.licence == "cc-by-nc-4.0"
    (folder / "README.md").write_text("# A model\n\nlicense: mit\n")
    assert load(folder).card.licence is None


PROCESSES = [
    ("siglip", "weights cut short"),
    ("clip", "no tokenizer"),
    ("siglip 2 naflex", "patches of another size than the model's"),
    ("clip", "projections of another length"),
    ("siglip", "an adapter with its base's config"),
]


@pytest.mark.parametrize(("name", "case"), PROCESSES)
def test_on_the_command_line_it_is_one_line_and_status_2(name, case, copied, tmp_path) -> None:
    spoil, message, _ = CASES[case]
    folder = copied(name)
    spoil(folder)
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    ran = subprocess.run(
        [sys.executable, "-m", "prelabel.worker.cli", "score", str(tmp_path / "a.png"), "--labels", "red,blue"],
        env={"PRELABEL_MODEL": str(folder), "PRELABEL_DEVICE": "cpu", "COLUMNS": "400", "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 2
    assert ran.stdout == ""
    (line,) = ran.stderr.strip().splitlines()
    assert f"cannot load the checkpoint in {folder}: " in line
    assert re.search(message, line)
