"""Installing Label Studio once, however many processes want it; pip gets a small stand-in for the gigabyte."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from prelabel.worker.demo.label_studio.install import VERSION

SCRIPT = "from prelabel.worker.demo.label_studio.install import install; print(install(print).program)"


def make_wheel(folder: Path) -> None:
    info = f"label_studio-{VERSION}.dist-info"
    files = {
        "label_studio.py": "def main(): print('started')\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: label-studio\nVersion: {VERSION}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": "[console_scripts]\nlabel-studio = label_studio:main\n",
    }
    folder.mkdir()
    with zipfile.ZipFile(folder / f"label_studio-{VERSION}-py3-none-any.whl", "w") as wheel:
        for name, content in files.items():
            wheel.writestr(name, content)
        wheel.writestr(f"{info}/RECORD", "".join(f"{name},,\n" for name in files) + f"{info}/RECORD,,\n")


def start(cache: Path, wheels: Path) -> subprocess.Popen[str]:
    env = {key: value for key, value in os.environ.items() if not key.startswith("PIP_")}
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT],
        env={**env, "XDG_CACHE_HOME": str(cache), "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheels)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_two_processes_install_it_once_over_what_a_third_left_half_done(tmp_path: Path) -> None:
    make_wheel(tmp_path / "wheels")
    home = (
        tmp_path / "cache" / "prelabel" / f"label-studio-{VERSION}-py{sys.version_info.major}.{sys.version_info.minor}"
    )
    (home / "venv" / "half").mkdir(parents=True)

    both = [start(tmp_path / "cache", tmp_path / "wheels") for _ in range(2)]
    said = [process.communicate(timeout=240) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert sum("installing" in out for out, _ in said) == 1
    assert not (home / "venv" / "half").exists()
    program = said[0][0].splitlines()[-1]
    assert program == said[1][0].splitlines()[-1]
    assert subprocess.run([program], capture_output=True, text=True, check=True).stdout == "started\n"


@pytest.mark.slow
def test_an_index_without_it_is_told_in_one_line_and_tried_again_next_time(tmp_path: Path) -> None:
    (tmp_path / "wheels").mkdir()
    process = start(tmp_path / "cache", tmp_path / "wheels")
    _, err = process.communicate(timeout=240)
    assert process.returncode != 0
    assert f"ConfigError: pip cannot install label-studio=={VERSION}: ERROR: No matching distribution" in err
    (home,) = (tmp_path / "cache" / "prelabel").iterdir()
    assert not (home / "complete").exists()
