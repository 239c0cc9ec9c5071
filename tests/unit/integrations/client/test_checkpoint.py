"""What tells one model's answers and vectors from another's."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from prelabel.integrations.client.checkpoint import names_one_model, settings_model_id
from prelabel.schemas.settings import load_settings
from prelabel.worker.demo.story import CHECKPOINT


@pytest.mark.parametrize(
    ("given", "one"),
    [
        ({}, True),  # the default model's commit is pinned
        ({"model": str(CHECKPOINT)}, True),  # a directory is told by its files
        ({"model": "someone/siglip"}, False),
        ({"model": "someone/siglip", "revision": "main"}, False),
        ({"model": "someone/siglip", "revision": "753a949581523b60257d93e18391e8c27f72eb22"}, True),
    ],
)
def test_a_hub_model_without_a_commit_may_become_another(given, one) -> None:
    assert names_one_model(load_settings(**given)) is one


def test_other_weights_under_the_same_name_are_another_model(tmp_path) -> None:
    ids = set()
    for weights in (b"one", b"two"):
        directory = tmp_path / weights.decode() / "siglip"
        directory.mkdir(parents=True)
        (directory / "model.safetensors").write_bytes(weights)
        ids.add(settings_model_id(load_settings(model=str(directory))))
    assert len(ids) == 2


WEIGHTS = bytes(range(256)) * 12_000
"""Three MiB: more than anyone would look at by the file's ends alone."""


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    directory = tmp_path / "siglip"
    directory.mkdir()
    (directory / "config.json").write_text("{}")
    (directory / "model.safetensors").write_bytes(WEIGHTS)
    return directory


def model_id_of(checkpoint: Path, state_dir: Path) -> str:
    return settings_model_id(load_settings(model=str(checkpoint), state_dir=state_dir))


def model_id_said_by_another_process(checkpoint: Path, state_dir: Path) -> str:
    program = (
        "from prelabel.integrations.client.checkpoint import settings_model_id\n"
        "from prelabel.schemas import get_settings\n"
        "print(settings_model_id(get_settings()))"
    )
    environment = os.environ | {"PRELABEL_MODEL": str(checkpoint), "PRELABEL_STATE_DIR": str(state_dir)}
    said = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    return said.stdout.strip()


def change_a_byte_in_the_middle(file: Path) -> None:
    with file.open("r+b") as opened:
        opened.seek(len(WEIGHTS) // 2)
        opened.write(b"\xff")


def test_weights_that_differ_in_one_byte_in_the_middle_are_another_model(checkpoint: Path, tmp_path: Path) -> None:
    before = model_id_of(checkpoint, tmp_path / "state")
    change_a_byte_in_the_middle(checkpoint / "model.safetensors")
    assert model_id_of(checkpoint, tmp_path / "state") != before


def test_a_later_process_takes_an_unchanged_files_digest_from_the_state_folder(
    checkpoint: Path, tmp_path: Path
) -> None:
    file, state_dir = checkpoint / "model.safetensors", tmp_path / "state"
    before = model_id_said_by_another_process(checkpoint, state_dir)
    seen = file.stat()
    change_a_byte_in_the_middle(file)  # behind its back: only whoever reads the file can tell
    os.utime(file, ns=(seen.st_atime_ns, seen.st_mtime_ns))
    assert model_id_of(checkpoint, state_dir) == before
    assert model_id_said_by_another_process(checkpoint, tmp_path / "another state") != before


@pytest.mark.parametrize("damage", ["not JSON", '{"/x": 1}', "[]", None])
def test_a_state_folder_that_cannot_be_used_is_no_error(checkpoint: Path, tmp_path: Path, damage: str | None) -> None:
    expected = model_id_of(checkpoint, tmp_path / "good")
    state_dir = tmp_path / "state"
    if damage is None:
        state_dir.write_text("a file where the folder should be")
    else:
        state_dir.mkdir()
        (state_dir / "checkpoints.json").write_text(damage)
    assert model_id_of(checkpoint, state_dir) == expected


def test_what_is_remembered_of_a_checkpoint_that_is_gone_is_forgotten(checkpoint: Path, tmp_path: Path) -> None:
    state_dir = tmp_path / "state"
    model_id_of(checkpoint, state_dir)
    moved = checkpoint.rename(tmp_path / "moved")
    model_id_of(moved, state_dir)
    remembered = (state_dir / "checkpoints.json").read_text()
    assert str(moved) in remembered
    assert str(checkpoint) not in remembered
