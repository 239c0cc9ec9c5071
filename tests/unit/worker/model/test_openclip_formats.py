"""Which of two formats is loaded, from a folder and from the hub; and which files of it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import safetensors.torch
from PIL import Image

from prelabel.schemas import ModelLoadError
from prelabel.worker.demo.story import CHECKPOINT
from tests.hub import Hub
from tests.openclip import CONFIG, WEIGHTS, changed, cut_short, export_demo, open_clip, pickled
from tests.unit.worker.model.samples import load

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")


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


def test_a_format_that_is_not_there_is_named_with_the_setting(tmp_path, open_clips) -> None:
    with pytest.raises(ModelLoadError, match=r"holds no open_clip_config\.json, which PRELABEL_FORMAT=openclip asks"):
        load(CHECKPOINT, format="openclip")
    with pytest.raises(ModelLoadError, match=r"holds no config\.json, which PRELABEL_FORMAT=transformers asks for"):
        load(open_clips["CLIP"], format="transformers")


def test_a_config_of_timms_beside_it_is_none_of_transformers(open_clips, tmp_path) -> None:
    shutil.copytree(open_clips["EVA"], tmp_path / "copied")
    (tmp_path / "copied" / "config.json").write_text('{"architecture": "eva02_base_patch16_clip_224"}')
    assert load(tmp_path / "copied").card.family == "open_clip"


def test_weights_of_any_one_name_are_found(open_clips, tmp_path) -> None:
    shutil.copytree(open_clips["CLIP"], tmp_path / "copied")
    (tmp_path / "copied" / WEIGHTS).rename(tmp_path / "copied" / "mine.safetensors")
    assert load(tmp_path / "copied").card.dim == 24


def test_older_names_of_weights_are_known(open_clips, tmp_path) -> None:
    # A text tower was no module of its own once, and a scale had a dimension.
    weights = safetensors.torch.load_file(open_clips["BioCLIP, squashed"] / WEIGHTS)
    older = {name.removeprefix("text."): value for name, value in weights.items()}
    shutil.copytree(open_clips["BioCLIP, squashed"], tmp_path / "older")
    safetensors.torch.save_file(older | {"logit_scale": weights["logit_scale"][None]}, tmp_path / "older" / WEIGHTS)
    one, other = (load(folder) for folder in (open_clips["BioCLIP, squashed"], tmp_path / "older"))
    assert (one.texts.encode(["ring"]) == other.texts.encode(["ring"])).all()
    assert one.card.logit_scale == other.card.logit_scale


def test_without_open_clip_it_is_named_and_a_folder_of_both_formats_is_transformers(
    both, open_clips, monkeypatch
) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "open_clip"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [WithoutOpenClip(list(sys.meta_path))])
    with pytest.raises(ModelLoadError, match=r"open_clip is not installed: pip install 'prelabel\[openclip\]'$"):
        load(open_clips["CLIP"])
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


def test_an_open_clip_that_does_not_import_is_named_with_the_fix(open_clips, monkeypatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "open_clip"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "ftfy", None)
    with pytest.raises(ModelLoadError, match=r"cannot be imported \(import of ftfy .*\): install torch and torch"):
        load(open_clips["CLIP"])


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


def test_one_of_the_hub_is_read_from_its_cache(open_clips, tmp_path) -> None:
    in_cache(tmp_path, "me/clip", open_clips["CLIP"])
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


def test_from_the_hub_come_its_own_files_alone_whatever_its_config_names(open_clips, hub, tmp_path) -> None:
    folder = tmp_path / "siglip"
    shutil.copytree(open_clips["SigLIP"], folder)
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


def test_pickles_on_the_hub_are_refused_with_the_command(open_clips, hub, tmp_path) -> None:
    shutil.copytree(open_clips["CLIP"], tmp_path / "pickled")
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


def test_the_command_line_scores_with_one_and_refuses_another_without_a_traceback(open_clips, tmp_path) -> None:
    picture = tmp_path / "a.png"
    Image.new("RGB", (80, 64), "red").save(picture)
    scored = prelabel("score", str(picture), "--labels", "red,blue", PRELABEL_MODEL=str(open_clips["CLIP"]))
    assert scored.returncode == 0, scored.stderr
    shutil.copytree(open_clips["CLIP"], tmp_path / "copied")
    cut_short(tmp_path / "copied")
    refused = prelabel("score", str(picture), "--labels", "red,blue", PRELABEL_MODEL=str(tmp_path / "copied"))
    assert refused.returncode == 2
    assert "open_clip_model.safetensors is damaged or cut short" in refused.stderr
    assert "Traceback" not in refused.stderr
