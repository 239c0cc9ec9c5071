"""A checkpoint's family is told by its config.json; what no family can load is refused in one line with the fix."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from prelabel.schemas import ConfigError, ModelLoadError
from prelabel.schemas.settings import load_settings
from prelabel.worker.demo.story import CHECKPOINT
from prelabel.worker.model.colour import ColourEncoder
from prelabel.worker.model.registry import GROUP, load_encoder
from tests.hub import Hub

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")


@pytest.fixture
def checkpoint(tmp_path) -> Path:
    """A copy of the demo's checkpoint to spoil; whoever reads its weights finds that they are none."""
    folder = tmp_path / "copied"
    shutil.copytree(CHECKPOINT, folder)
    (folder / "model.safetensors").write_bytes(b"no weights")
    return folder


def load(checkpoint: Path):
    return load_encoder(load_settings(model=str(checkpoint), device="cpu"), "m@1")


def as_type(checkpoint: Path, model_type: object) -> None:
    config = json.loads((checkpoint / "config.json").read_text())
    (checkpoint / "config.json").write_text(json.dumps({**config, "model_type": model_type}))


def test_the_demos_checkpoint_is_a_siglip_and_its_card_says_all_of_it() -> None:
    card = load(CHECKPOINT).card
    assert card.model_dump(exclude={"logit_scale", "logit_bias", "wire_version"}) == {
        "id": "m@1",
        "revision": "1",
        "family": "siglip",
        "dim": 96,
        "head": "sigmoid",
        "input_size": (64, 64),
        "resize": "squash",
        "mean": (0.5, 0.5, 0.5),
        "std": (0.5, 0.5, 0.5),
        "text_length": 64,
        "lower_case": False,
        "padded": True,
        "padding_side": "right",
        "mask": False,
        "ends_with_eos": True,
        # Part of the keys of stored vectors: with other names every vector anybody stored would be lost.
        "tokenisation": "SiglipTokenizer 64 own right no mask",
        "preprocessing": "64x64 squash BICUBIC 0.5,0.5,0.5/0.5,0.5,0.5 fast 2",
        "template": "This is a photo of {label}.",
        "threshold": 0.1,
        "licence": None,
        "gflop": 0.0678,
    }
    assert card.logit_scale > 1
    assert card.logit_bias < 0


def without(*names: str):
    def spoil(checkpoint: Path) -> None:
        for name in names:
            (checkpoint / name).unlink()

    return spoil


def an_adapter_alone(checkpoint: Path) -> None:
    without("config.json", "model.safetensors")(checkpoint)
    (checkpoint / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    (checkpoint / "adapter_model.safetensors").write_bytes(b"")


REFUSED = {
    "another kind": (
        lambda c: as_type(c, "gpt2"),
        r"config\.json says model_type 'gpt2', .* altclip, clip, metaclip_2, open_clip, siglip, siglip2 alone: set",
    ),
    "no kind": (lambda c: as_type(c, None), r"config\.json names no model_type: set PRELABEL_MODEL"),
    "no object": (lambda c: (c / "config.json").write_text("[]"), r"config\.json names no model_type"),
    "no JSON": (
        lambda c: (c / "config.json").write_text("{"),
        r"config\.json cannot be read, copy .* again: Expecting",
    ),
    "no text": (lambda c: (c / "config.json").write_bytes(b"\xff"), r"config\.json cannot be read, copy .* again: "),
    "no config": (without("config.json"), r"holds no config\.json: set PRELABEL_MODEL to a checkpoint's folder"),
    "no tokenizer": (without("spiece.model"), r"holds no tokenizer file .* processor\.save_pretrained"),
    "no weights": (without("model.safetensors"), r"holds no \*\.safetensors: .* model\.save_pretrained"),
    "an adapter": (an_adapter_alone, r"adapter_config\.json says that it is an adapter \(LoRA\) .*merge_and_unload"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_loaded_is_refused_before_its_weights_are_read(case, checkpoint) -> None:
    spoil, message = REFUSED[case]
    spoil(checkpoint)
    with pytest.raises(ModelLoadError, match=message) as refused:
        load(checkpoint)
    assert str(refused.value).startswith(f"cannot load the checkpoint in {checkpoint}: ")
    assert "\n" not in str(refused.value)


def test_weights_with_an_adapters_config_beside_them_are_a_checkpoint(tmp_path) -> None:
    shutil.copytree(CHECKPOINT, tmp_path / "both")
    (tmp_path / "both" / "adapter_config.json").write_text("{}")
    assert load(tmp_path / "both").card.family == "siglip"


def test_a_flexible_resolution_is_refused_before_the_weights_are_read(checkpoint) -> None:
    processor = json.loads((checkpoint / "preprocessor_config.json").read_text())
    (checkpoint / "preprocessor_config.json").write_text(json.dumps({**processor, "do_resize": False}))
    with pytest.raises(
        ModelLoadError,
        match=r"image processor \(preprocessor_config\.json\) has do_resize off: save the checkpoint's own",
    ):
        load(checkpoint)


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    # The hub's client reads the environment when it is imported.
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], env=environment, capture_output=True, text=True, check=False
    )


LOAD = (
    "import sys; from prelabel.schemas import PrelabelError; from prelabel.schemas.settings import load_settings\n"
    "from prelabel.worker.model.registry import load_encoder\n"
    "try: print(load_encoder(load_settings(model=MODEL), 'm@1').card.family)\n"
    "except PrelabelError as error: print(type(error).__name__, error)\n"
    "print('torch' in sys.modules)"
)


def in_cache(home: Path, name: str, source: Path) -> None:
    """As the hub's client keeps what it has downloaded of a repository's main branch."""
    kept, commit = home / "hub" / f"models--{name.replace('/', '--')}", "0123456789" * 4
    shutil.copytree(source, kept / "snapshots" / commit)
    (kept / "refs").mkdir()
    (kept / "refs" / "main").write_text(commit)


def load_from_cache(home: Path, model: str) -> list[str]:
    ran = run(f"MODEL = {model!r}\n{LOAD}", HF_HOME=str(home), HF_HUB_OFFLINE="1")
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.splitlines()


def test_a_checkpoint_of_the_hub_is_read_from_its_cache(tmp_path) -> None:
    in_cache(tmp_path, "me/shapes", CHECKPOINT)
    assert load_from_cache(tmp_path, "me/shapes") == ["siglip", "True"]


def test_another_kind_on_the_hub_is_refused_without_torch(tmp_path, checkpoint) -> None:
    as_type(checkpoint, "gpt2")
    in_cache(tmp_path, "me/gpt2", checkpoint)
    refused, torch_is_there = load_from_cache(tmp_path, "me/gpt2")
    assert refused.startswith("ModelLoadError cannot load me/gpt2: config.json says model_type 'gpt2'")
    assert torch_is_there == "False"


def test_an_adapter_on_the_hub_is_told_apart_from_a_checkpoint_that_is_not_there(tmp_path, checkpoint) -> None:
    an_adapter_alone(checkpoint)
    in_cache(tmp_path, "me/lora", checkpoint)
    adapter, _ = load_from_cache(tmp_path, "me/lora")
    assert adapter.startswith("ModelLoadError cannot load me/lora: adapter_config.json says")
    nothing, _ = load_from_cache(tmp_path, "me/nothing")
    assert "HF_HUB_OFFLINE is set and it is not in the cache" in nothing


@pytest.fixture
def hub(tmp_path) -> Iterator[Hub]:
    (tmp_path / "mine").mkdir()
    with Hub(tmp_path / "mine") as hub:
        yield hub


def load_from(hub: Hub, home: Path) -> list[str]:
    ran = run(f"MODEL = 'me/mine'\n{LOAD}", HF_HOME=str(home), **hub.environment)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.splitlines()


def test_a_checkpoint_comes_from_a_hub_that_answers(hub, tmp_path) -> None:
    hub.folder = CHECKPOINT
    assert load_from(hub, tmp_path / "home") == ["siglip", "True"]


def test_what_a_hub_that_answers_does_not_have_is_told_apart(hub, tmp_path) -> None:
    (nothing, _), asked = load_from(hub, tmp_path / "home"), len(hub.asked)
    assert nothing == "ModelLoadError cannot load me/mine: it holds no config.json: set PRELABEL_MODEL to a checkpoint"
    assert asked <= 6
    (hub.folder / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    adapter, _ = load_from(hub, tmp_path / "other")
    assert adapter.startswith("ModelLoadError cannot load me/mine: adapter_config.json says that it is an adapter")


BROUGHT = """
from prelabel.worker.model.colour import ColourEncoder, colour_card

class Colours:
    def load(self, checkpoint, settings, model_id):
        return ColourEncoder(card=colour_card(f"{model_id} of {checkpoint.config['painter']}"))

colours = Colours()
"""


def painted(folder: Path, model_type: str = "colours") -> Path:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": model_type, "painter": "Klee"}))
    return folder


def test_a_family_comes_from_another_package(site, tmp_path) -> None:
    site.install("brought_good", BROUGHT, GROUP, "colours = brought_good:colours")
    assert load(painted(tmp_path / "model")).card.id == "m@1 of Klee"


def test_a_family_that_is_not_asked_for_is_not_imported(site, tmp_path) -> None:
    site.install("brought_bad", "raise RuntimeError", GROUP, "other = brought_bad:family")
    site.install("brought_good", BROUGHT, GROUP, "colours = brought_good:colours")
    assert isinstance(load(painted(tmp_path / "model")), ColourEncoder)


def test_a_kind_nobody_knows_is_refused_with_all_that_somebody_does(site, tmp_path) -> None:
    site.install("brought_good", BROUGHT, GROUP, "colours = brought_good:colours")
    known = "families for altclip, clip, colours, metaclip_2, open_clip, siglip, siglip2 alone"
    with pytest.raises(ModelLoadError, match=known):
        load(painted(tmp_path / "model", "sounds"))


def test_our_own_families_are_not_replaced(site) -> None:
    site.install("brought_siglip", "raise RuntimeError", GROUP, "siglip = brought_siglip:family")
    assert load(CHECKPOINT).card.family == "siglip"


LOADS = "class Broken:\n    def load(self, checkpoint, settings, model_id):\n        {}\nfamily = Broken()\n"
BROKEN = {
    "does not compile": ("def", r"brought_x:family cannot be imported: .*invalid syntax"),
    "needs what is not there": ("import brought_nothing", r"cannot be imported: No module named 'brought_nothing'"),
    "fails when imported": ("raise RuntimeError('one\\ntwo')", r"cannot be imported: one \("),
    "lacks the object": ("", r"cannot be imported: .*has no attribute 'family'"),
    "is no family": ("family = 3", r"brought_x:family is no object with load\(checkpoint, settings, model_id\)"),
    "is a class": (LOADS.format("pass") + "family = Broken", r"brought_x:family is no object with load"),
    "fails to load": (LOADS.format("{}['missing']"), r"it failed to load .*/model: 'missing' \("),
    "takes other arguments": ("class F:\n    def load(self): pass\nfamily = F()", r"it failed to load .*argument"),
    "gives something else": (LOADS.format("return 3"), r"its load\(\) returned int, not an Encoder"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_family_is_one_line_that_names_its_package(case, site, tmp_path) -> None:
    source, message = BROKEN[case]
    site.install("brought_x", source, GROUP, "colours = brought_x:family")
    with pytest.raises(ConfigError, match=message) as refused:
        load(painted(tmp_path / "model"))
    assert str(refused.value).startswith("the model family 'colours' of brought_x 1.2: ")
    assert "\n" not in str(refused.value)


def test_what_a_family_refuses_is_said_as_it_says_it(site, tmp_path) -> None:
    source = "from prelabel.schemas import ModelLoadError\n" + LOADS.format("raise ModelLoadError('no brush')")
    site.install("brought_x", source, GROUP, "colours = brought_x:family")
    with pytest.raises(ModelLoadError, match=r"^no brush$"):
        load(painted(tmp_path / "model"))


def test_two_packages_with_the_same_family_are_named(site, tmp_path) -> None:
    for name in ("brought_one", "brought_two"):
        site.install(name, BROUGHT, GROUP, f"colours = {name}:colours")
    with pytest.raises(ConfigError, match=r"brought_one 1\.2 and brought_two 1\.2 both bring .*'colours': uninstall"):
        load(painted(tmp_path / "model"))


def test_a_family_that_is_broken_is_no_traceback_on_the_command_line(site, tmp_path) -> None:
    site.install("brought_x", "raise RuntimeError('no paint')", GROUP, "colours = brought_x:family")
    picture = tmp_path / "a.png"
    Image.new("RGB", (8, 8)).save(picture)
    ran = subprocess.run(
        [sys.executable, "-m", "prelabel.worker.cli", "score", str(picture), "--labels", "red,blue"],
        env={"PYTHONPATH": str(site.folder), "PRELABEL_MODEL": str(painted(tmp_path / "model")), "COLUMNS": "300"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 2
    assert "the model family 'colours' of brought_x 1.2: brought_x:family cannot be imported: no paint" in ran.stderr
    assert "Traceback" not in ran.stderr
