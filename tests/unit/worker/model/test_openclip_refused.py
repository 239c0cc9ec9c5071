"""What cannot be loaded of OpenCLIP's format is refused in one line; two formats in one folder are told apart."""

from __future__ import annotations

import json
import os
import pickle
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import safetensors.torch
import tokenizers
import torch
import transformers
from PIL import Image

from prelabel.schemas import ModelLoadError
from prelabel.schemas.settings import load_settings
from prelabel.worker.demo.story import CHECKPOINT
from prelabel.worker.model.encoder import Encoder
from prelabel.worker.model.registry import load_encoder
from tests.hub import Hub
from tests.openclip import TOKENIZER, export_demo, make, open_clip

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")

EXAMPLES = Path(__file__).parents[4] / "examples"
CONFIG, WEIGHTS, PICKLE = "open_clip_config.json", "open_clip_model.safetensors", "open_clip_pytorch_model.bin"


def load(checkpoint: Path | str, **settings) -> Encoder:
    return load_encoder(load_settings(**{"model": str(checkpoint), "device": "cpu", **settings}), "m@1")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("made")
    return {name: make(folder / name, name) for name in ("CLIP", "SigLIP", "BioCLIP, squashed", "EVA")}


def changed(folder: Path, *path: str, to: object) -> None:
    """Set one entry of the config; without a path, all of it."""
    config = json.loads((folder / CONFIG).read_text())
    inner = config
    for name in path[:-1]:
        inner = inner[name]
    if path:
        inner[path[-1]] = to
    (folder / CONFIG).write_text(json.dumps(config if path else to))


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


def cut_short(folder: Path) -> None:
    whole = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(whole[: len(whole) // 2])


def two_other_weights(folder: Path) -> None:
    (folder / WEIGHTS).rename(folder / "one.safetensors")
    shutil.copy(folder / "one.safetensors", folder / "two.safetensors")


def pickled(folder: Path) -> None:
    (folder / WEIGHTS).rename(folder / PICKLE)


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
def test_what_cannot_be_loaded_is_one_line_that_names_the_file_and_the_fix(case, made, tmp_path) -> None:
    which, spoil, message = REFUSED[case]
    folder = tmp_path / "copied"
    shutil.copytree(made[which], folder)
    spoil(folder)
    with pytest.raises(ModelLoadError, match=message) as refused:
        load(folder)
    assert str(refused.value).startswith(f"cannot load the checkpoint in {folder}: ")
    assert "\n" not in str(refused.value)


class Evil:
    def __reduce__(self):
        return os.mkdir, ("was-run",)


def test_a_pickle_is_never_opened(made, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(made["CLIP"], tmp_path / "copied")
    (tmp_path / "copied" / WEIGHTS).unlink()
    (tmp_path / "copied" / PICKLE).write_bytes(pickle.dumps(Evil()))
    with pytest.raises(ModelLoadError, match="never opened"):
        load(tmp_path / "copied")
    assert not (tmp_path / "was-run").exists()
    pickle.loads((tmp_path / "copied" / PICKLE).read_bytes())
    assert (tmp_path / "was-run").exists()  # who opens it runs it


def test_code_beside_a_tokenizer_is_not_run(made, tmp_path) -> None:
    folder = tmp_path / "copied"
    shutil.copytree(made["SigLIP"], folder)
    (folder / "words.py").write_text(f"import os; os.mkdir({str(tmp_path / 'was-run')!r})\nclass Words: pass")
    config = json.loads((folder / TOKENIZER[1]).read_text())
    config |= {"tokenizer_class": "Words", "auto_map": {"AutoTokenizer": ["words.Words", None]}}
    (folder / TOKENIZER[1]).write_text(json.dumps(config))
    with pytest.raises(ModelLoadError, match="cannot load the checkpoint in") as refused:
        load(folder)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "was-run").exists()


@pytest.mark.parametrize("how", ["the command of the refusal", "the program of the documentation"])
def test_pickles_are_converted_as_people_are_told_to(how, made, tmp_path) -> None:
    folder = tmp_path / "a copy"
    shutil.copytree(made["CLIP"], folder)
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


@pytest.fixture
def both(tmp_path) -> Path:
    """The demo's checkpoint in both formats."""
    folder = export_demo(tmp_path / "both")
    for path in CHECKPOINT.iterdir():
        shutil.copy(path, folder)
    return folder


def test_weights_in_both_formats_ask_which_to_load(both) -> None:
    with pytest.raises(
        ModelLoadError, match=r"formats, model\.safetensors and open_clip_model\.safetensors: set PRELABEL_FORMAT to"
    ):
        load(both)
    assert load(both, format="openclip").card.family == "open_clip"
    assert load(both, format="transformers").card.family == "siglip"


def test_the_format_whose_weights_are_there_is_loaded(both) -> None:
    (both / WEIGHTS).rename(both / "aside")
    assert load(both).card.family == "siglip"
    (both / "aside").rename(both / WEIGHTS)
    (both / "model.safetensors").unlink()
    assert load(both).card.family == "open_clip"


def test_a_format_that_is_not_there_is_named_with_the_setting(tmp_path, made) -> None:
    with pytest.raises(ModelLoadError, match=r"holds no open_clip_config\.json, which PRELABEL_FORMAT=openclip asks"):
        load(CHECKPOINT, format="openclip")
    with pytest.raises(ModelLoadError, match=r"holds no config\.json, which PRELABEL_FORMAT=transformers asks for"):
        load(made["CLIP"], format="transformers")


def test_a_config_of_timms_beside_it_is_none_of_transformers(made, tmp_path) -> None:
    shutil.copytree(made["EVA"], tmp_path / "copied")
    (tmp_path / "copied" / "config.json").write_text('{"architecture": "eva02_base_patch16_clip_224"}')
    assert load(tmp_path / "copied").card.family == "open_clip"


def test_weights_of_any_one_name_are_found(made, tmp_path) -> None:
    shutil.copytree(made["CLIP"], tmp_path / "copied")
    (tmp_path / "copied" / WEIGHTS).rename(tmp_path / "copied" / "mine.safetensors")
    assert load(tmp_path / "copied").card.dim == 24


def test_older_names_of_weights_are_known(made, tmp_path) -> None:
    # A text tower was no module of its own once, and a scale had a dimension.
    weights = safetensors.torch.load_file(made["BioCLIP, squashed"] / WEIGHTS)
    older = {name.removeprefix("text."): value for name, value in weights.items()}
    shutil.copytree(made["BioCLIP, squashed"], tmp_path / "older")
    safetensors.torch.save_file(older | {"logit_scale": weights["logit_scale"][None]}, tmp_path / "older" / WEIGHTS)
    one, other = (load(folder) for folder in (made["BioCLIP, squashed"], tmp_path / "older"))
    assert (one.texts.encode(["ring"]) == other.texts.encode(["ring"])).all()
    assert one.card.logit_scale == other.card.logit_scale


def test_without_open_clip_it_is_named_and_a_folder_of_both_formats_is_transformers(both, made, monkeypatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "open_clip"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [WithoutOpenClip(list(sys.meta_path))])
    with pytest.raises(ModelLoadError, match=r"open_clip is not installed: pip install 'prelabel\[openclip\]'$"):
        load(made["CLIP"])
    assert load(both).card.family == "siglip"


class WithoutOpenClip:
    """Finds what others find, as in an environment where open_clip is not installed."""

    def __init__(self, others) -> None:
        self._others = others

    def find_spec(self, name, path=None, target=None):
        if name == "open_clip":
            return None
        found = (finder.find_spec(name, path, target) for finder in self._others)
        return next((spec for spec in found if spec), None)


def test_an_open_clip_that_does_not_import_is_named_with_the_fix(made, monkeypatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "open_clip"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "ftfy", None)
    with pytest.raises(ModelLoadError, match=r"cannot be imported \(import of ftfy .*\): install torch and torch"):
        load(made["CLIP"])


RUN = (
    "import sys; from prelabel.schemas import PrelabelError; from prelabel.schemas.settings import load_settings\n"
    "from prelabel.worker.model.registry import load_encoder\n"
    "try: print(load_encoder(load_settings(model=MODEL, device='cpu'), 'm@1').card.family)\n"
    "except PrelabelError as error: print(error)\n"
    "print('open_clip' in sys.modules)"
)


def run(model: Path | str, **environment: str) -> list[str]:
    # The hub's client reads the environment when it is imported.
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", f"MODEL = {str(model)!r}\n{RUN}"],
        env={"HF_HUB_OFFLINE": "1", **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.splitlines()


def in_cache(home: Path, name: str, source: Path) -> None:
    """As the hub's client keeps what it has downloaded of a repository's main branch."""
    kept, commit = home / "hub" / f"models--{name.replace('/', '--')}", "0123456789" * 4
    shutil.copytree(source, kept / "snapshots" / commit)
    (kept / "refs").mkdir()
    (kept / "refs" / "main").write_text(commit)


def test_one_of_the_hub_is_read_from_its_cache(made, tmp_path) -> None:
    in_cache(tmp_path, "me/clip", made["CLIP"])
    assert run("me/clip", HF_HOME=str(tmp_path)) == ["open_clip", "True"]


def test_on_the_hub_transformers_format_comes_first(both, tmp_path) -> None:
    in_cache(tmp_path, "me/both", both)
    assert run("me/both", HF_HOME=str(tmp_path)) == ["siglip", "False"]
    other, _ = run("me/both", HF_HOME=str(tmp_path), PRELABEL_FORMAT="openclip")
    assert "open_clip_config.json" in other


@pytest.fixture
def hub(tmp_path) -> Iterator[Hub]:
    with Hub(tmp_path) as hub:
        yield hub


def fetched(hub: Hub, folder: Path, home: Path) -> list[str]:
    hub.folder = folder
    return run("me/mine", HF_HOME=str(home), **hub.environment)


def test_from_the_hub_come_its_own_files_alone_whatever_its_config_names(made, hub, tmp_path) -> None:
    folder = tmp_path / "siglip"
    shutil.copytree(made["SigLIP"], folder)
    shutil.copy(folder / WEIGHTS, folder / "model.safetensors")
    tower = {"image_size": 160, "timm_model_name": "test_vit", "timm_pool": "token", "timm_proj": None}
    changed(folder, "model_cfg", "vision_cfg", to=tower)
    text = json.loads((folder / CONFIG).read_text())["model_cfg"]["text_cfg"]
    model = open_clip.CustomTextCLIP(embed_dim=96, vision_cfg=tower, text_cfg=text, init_logit_bias=-10)
    safetensors.torch.save_file(model.state_dict(), folder / WEIGHTS)
    assert fetched(hub, folder, tmp_path / "home") == ["open_clip", "True"]
    assert {path.split("/me/")[1].split("/")[0] for path in hub.asked if "/me/" in path} == {"mine"}
    assert not [path for path in hub.asked if path.endswith("/model.safetensors")]
    # And once more from the cache.
    assert run("me/mine", HF_HOME=str(tmp_path / "home")) == ["open_clip", "True"]


def test_pickles_on_the_hub_are_refused_with_the_command(made, hub, tmp_path) -> None:
    shutil.copytree(made["CLIP"], tmp_path / "pickled")
    pickled(tmp_path / "pickled")
    refused, _ = fetched(hub, tmp_path / "pickled", tmp_path / "home")
    assert (
        "(open_clip_pytorch_model.bin) are never opened, for they can run code: convert them once, python -c" in refused
    )
    assert not [path for path in hub.asked if path.endswith(".bin")]


def test_a_checkpoint_of_transformers_does_not_import_open_clip() -> None:
    assert run(CHECKPOINT) == ["siglip", "False"]


def prelabel(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "prelabel.worker.cli", *arguments],
        env={**os.environ, "COLUMNS": "400", **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_command_line_scores_with_one_and_refuses_another_without_a_traceback(made, tmp_path) -> None:
    picture = tmp_path / "a.png"
    Image.new("RGB", (80, 64), "red").save(picture)
    scored = prelabel("score", str(picture), "--labels", "red,blue", PRELABEL_MODEL=str(made["CLIP"]))
    assert scored.returncode == 0, scored.stderr
    shutil.copytree(made["CLIP"], tmp_path / "copied")
    cut_short(tmp_path / "copied")
    refused = prelabel("score", str(picture), "--labels", "red,blue", PRELABEL_MODEL=str(tmp_path / "copied"))
    assert refused.returncode == 2
    assert "open_clip_model.safetensors is damaged or cut short" in refused.stderr
    assert "Traceback" not in refused.stderr
