"""An installed torchvision, even one not built for this torch, changes nothing for checkpoints of transformers."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import transformers

from prelabel.schemas.settings import load_settings
from prelabel.worker.demo.story import CHECKPOINT
from prelabel.worker.model.registry import load_encoder
from prelabel.worker.model.torchvision_ops import make_importable

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")

WITHOUT_ITS_COMPILED_HALF = """
import torch

@torch.library.register_fake("torchvision::nms")
def nms(dets, scores, iou_threshold): ...

@torch.library.register_fake("torchvision::qnms")
def qnms(dets, scores, iou_threshold): ...
"""

IMPORTS = "import torch, torchvision; torchvision.nms\n"
MADE_IMPORTABLE = "from prelabel.worker.model.torchvision_ops import make_importable; make_importable()\n" + IMPORTS
CALLS = "torch.ops.torchvision.nms(torch.zeros(1, 4), torch.zeros(1), 0.5)\n"


def run(code: str, folder) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("compiled", ["", "_C.so"])
def test_one_that_was_not_built_for_this_torch_is_imported_without_its_compiled_half(compiled, tmp_path) -> None:
    package = tmp_path / "torchvision"
    package.mkdir()
    (package / "__init__.py").write_text(WITHOUT_ITS_COMPILED_HALF)
    if compiled:
        (package / compiled).write_bytes(b"of another build")
    assert "torchvision::nms does not exist" in run(IMPORTS, tmp_path).stderr
    ran = run(MADE_IMPORTABLE, tmp_path)
    assert ran.returncode == 0, ran.stderr
    called = run(MADE_IMPORTABLE + CALLS, tmp_path)
    assert called.returncode == 1
    assert "NotImplementedError" in called.stderr
    assert "torchvision::nms" in called.stderr


def test_its_image_processors_are_not_the_ones_that_are_read(monkeypatch) -> None:
    make_importable()
    theirs = transformers.AutoProcessor.from_pretrained(CHECKPOINT).image_processor
    if type(theirs).__name__.endswith("Pil"):
        pytest.skip("no torchvision here")

    def made(*_args, **_kwargs):
        raise AssertionError("its pixels are not Pillow's")

    monkeypatch.setattr(type(theirs), "__init__", made)
    assert load_encoder(load_settings(model=str(CHECKPOINT), device="cpu"), "m@1").card.family == "siglip"
