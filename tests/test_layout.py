"""The layout's rules: packages declared, layers respected, torch in one place, the wheel importable."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LAYERS = ("schemas", "integrations", "worker")  # each may import those before it
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def modules() -> list[Path]:
    return sorted(path for layer in LAYERS for path in (ROOT / layer).rglob("*.py"))


def imports(path: Path) -> set[str]:
    """Absolute names of everything a module imports, relative imports resolved."""
    package = ["prelabel", *path.relative_to(ROOT).parent.parts]
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            found.add(".".join([*base, *([node.module] if node.module else [])]))
    return found


def test_every_package_is_declared() -> None:
    on_disk = {
        "prelabel." + ".".join(path.parent.relative_to(ROOT).parts) for path in modules() if path.name == "__init__.py"
    }
    assert on_disk == set(PROJECT["tool"]["setuptools"]["packages"])


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_layer_imports_only_itself_and_the_layers_before_it(path: Path) -> None:
    layer = path.relative_to(ROOT).parts[0]
    allowed = LAYERS[: LAYERS.index(layer) + 1]
    ours = {name for name in imports(path) if name.startswith("prelabel.")}
    if path.name == "taxonomy.py":  # a method that reads label configs, to be taken out
        ours.discard("prelabel.integrations.label_studio.label_config.config")
    assert all(name.split(".")[1] in allowed for name in ours), ours


def test_the_models_room_alone_imports_torch() -> None:
    rooms = {path.parent for path in modules() if {"torch", "transformers"} & {n.split(".")[0] for n in imports(path)}}
    assert rooms == {ROOT / "worker" / "model"}


def test_the_package_never_imports_itself_absolutely() -> None:
    for path in modules():
        tree = ast.parse(path.read_text())
        absolute = [n for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and not n.level and n.module]
        assert not [n.module for n in absolute if n.module.split(".")[0] == "prelabel"], path


def test_no_module_hides_too_much() -> None:
    long = {str(path.relative_to(ROOT)): n for path in modules() if (n := path.read_text().count("\n")) > 400}
    assert long == {}


def test_every_dependency_is_justified() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    start, end = text.index("\ndependencies = ["), text.index("[project.scripts]")
    lines = [line.strip() for line in text[start:end].splitlines() if line.strip().startswith('"')]
    obvious = ("prelabel[", "pytest>", "mypy>", "ruff>", "pre-commit>")
    unjustified = [line for line in lines if "#" not in line and not line.strip('"').startswith(obvious)]
    assert unjustified == []


@pytest.mark.slow
def test_the_wheel_holds_everything_and_imports_in_a_clean_environment(tmp_path: Path) -> None:
    # The wheel is made from the source distribution, so that one is complete too.
    subprocess.run(
        [sys.executable, "-m", "build", "--outdir", str(tmp_path / "dist"), str(ROOT)], check=True, capture_output=True
    )
    (source,) = (tmp_path / "dist").glob("*.tar.gz")
    with tarfile.open(source) as packed:
        sources = {name.partition("/")[2] for name in packed.getnames()}
    assert {
        *("docker-compose.yml", "Dockerfile", "constraints.txt", "Makefile", "mkdocs.yml", "CHANGELOG.md"),
        *("docs/index.md", "docs/reference.py", "docs/images/flow.svg", "examples/submit.py"),
    } <= sources
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    for path in modules():
        assert f"prelabel/{path.relative_to(ROOT)}" in names
    assert {f"prelabel/{layer}/py.typed" for layer in LAYERS} <= names
    assert "prelabel/worker/demo/report.html" in names
    assert any(name.endswith("siglip-shapes/model.safetensors") for name in names)
    assert not any(name.startswith(("tests", "training", "benchmarks", ".typings")) for name in names)

    # A base install: the light client alone, from the wheel.
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "--constraint", str(ROOT / "constraints.txt"), str(wheel)], check=True, capture_output=True)
    code = (
        "import sys; from prelabel.integrations import Client; from prelabel.schemas import Taxonomy; "
        "Taxonomy.flat(['a']); Client(); "
        "assert not {'torch', 'pandas', 'numpy', 'PIL'} & set(sys.modules); "
        "import importlib.util as u; assert not u.find_spec('torch') and not u.find_spec('pandas')"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    subprocess.run([str(python), "-c", code], check=True, cwd=tmp_path, env=environment)
    script = tmp_path / "venv" / "bin" / "prelabel"
    shown = subprocess.run([str(script), "--help"], check=True, capture_output=True, text=True, cwd=tmp_path)
    assert "submit" in shown.stdout
    told = subprocess.run(
        [str(script), "score", "a.jpg", "--labels", "x"], capture_output=True, text=True, cwd=tmp_path
    )
    assert told.returncode == 2
    assert "pip install prelabel[worker]" in told.stderr
