"""The layout's rules: rooms import downwards, each heavy library has one room, the wheel is complete."""

from __future__ import annotations

import ast
import graphlib
import os
import re
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LAYERS = ("schemas", "integrations", "worker")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


# Rooms from the ground up: a room may import itself and those before it. A room is a folder or a module; the longest
# name that fits counts. CONTRIBUTING.md says what is in each.
ROOMS = (
    "schemas",
    "integrations/broker",
    "integrations/telemetry",
    "integrations/ledger",
    "integrations/client",
    "integrations/testing",
    "integrations/plugins",
    "integrations/problems",
    "integrations/platforms",
    "integrations/label_studio/label_config",
    "integrations/label_studio/api",
    "integrations/label_studio/convert",
    "integrations/label_studio/projects",
    "integrations/label_studio/deliver",
    "integrations/label_studio/trials",
    "integrations/label_studio",
    "integrations/http/page",
    "integrations/http",
    "integrations",
    "worker/arrays",
    "worker/machine",
    "worker/telemetry",
    "worker/fetching",
    "worker/decoding",
    "worker/vectors",
    "worker/vectors/disk",
    "worker/vectors/open",
    "worker/model",
    "worker/embedding",
    "worker/retrieval",
    "worker/scoring",
    "worker/delivering",
    "worker/chunks",
    "worker/consuming",
    "worker/runtime",
    "worker/app",
    "worker/running",
    "worker/demo/label_studio",
    "worker/demo",
    "worker/cli/console",
    "worker/cli/checks",
    "worker/cli",
)


def modules() -> list[Path]:
    return sorted(path for layer in LAYERS for path in (ROOT / layer).rglob("*.py"))


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def room_of(module: str) -> str | None:
    """The room of a module given as `worker/model/engine`; None for a package's own empty `__init__`."""
    fitting = [room for room in ROOMS if module == room or module.startswith(room + "/")]
    return max(fitting, key=len, default=None)


def imports(path: Path) -> set[str]:
    """Absolute names of everything a module imports, relative imports resolved, at any depth of the code.

    Of `from package import name` it is the name's module where it is one, else the package.
    """
    package = ["prelabel", *path.relative_to(ROOT).parent.parts]
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = [*base, *(node.module.split(".") if node.module else [])]
            for alias in node.names:
                below = ROOT.joinpath(*module[1:], alias.name)
                is_ours = module[0] == "prelabel"
                is_module = is_ours and (below.with_suffix(".py").is_file() or (below / "__init__.py").is_file())
                found.add(".".join([*module, alias.name] if is_module else module))
    return found


def ours(path: Path) -> set[str]:
    """What a module imports of the package, as `worker/model/engine`."""
    return {name.removeprefix("prelabel.").replace(".", "/") for name in imports(path) if name.startswith("prelabel.")}


def outside(path: Path) -> set[str]:
    """The other packages a module imports."""
    return {name.split(".")[0] for name in imports(path)} - {"prelabel"}


def strings(path: Path) -> list[str]:
    """The texts in a module that are no documentation."""
    tree = ast.parse(path.read_text())
    documentation = {
        id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    constants = [node for node in ast.walk(tree) if isinstance(node, ast.Constant) and id(node) not in documentation]
    return [node.value for node in constants if isinstance(node.value, str)]


def test_every_package_is_declared() -> None:
    on_disk = {
        "prelabel." + ".".join(path.parent.relative_to(ROOT).parts) for path in modules() if path.name == "__init__.py"
    }
    assert on_disk == set(PROJECT["tool"]["setuptools"]["packages"])


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_a_room_imports_only_itself_and_the_rooms_before_it(path: Path) -> None:
    here = room_of(name_of(path).removesuffix(".py").removesuffix("/__init__"))
    if here is None:
        assert ours(path) == set(), "the package of several rooms belongs to none: it imports nothing"
        return
    rooms = {name: room_of(name) for name in ours(path)}
    assert None not in rooms.values(), rooms
    upwards = {name for name, room in rooms.items() if room and ROOMS.index(room) > ROOMS.index(here)}
    assert upwards == set()


def test_no_modules_import_each_other_in_a_circle() -> None:
    def file_of(name: str) -> str:
        return f"{name}.py" if (ROOT / f"{name}.py").is_file() else f"{name}/__init__.py"

    graph = {name_of(path): {file_of(name) for name in ours(path)} for path in modules()}
    order = list(graphlib.TopologicalSorter(graph).static_order())  # raises CycleError, which names the circle
    assert set(order) >= set(graph)


def test_each_heavy_library_has_one_room() -> None:
    def users(*packages: str) -> set[str]:
        return {name_of(path) for path in modules() if outside(path) & set(packages)}

    assert {name.rpartition("/")[0] for name in users("torch", "transformers")} == {"worker/model"}
    assert users("celery", "kombu") <= {
        "integrations/broker/celery.py",
        "integrations/broker/errors.py",
        "worker/app.py",
        *(name_of(path) for path in modules() if room_of(name_of(path)) == "worker/consuming"),
    }
    assert not {name for name in users("torch", "PIL", "transformers") if name.startswith(("schemas", "integrations"))}
    assert users("pandas", "cv2") == set()
    # Imported by name when a checkpoint in OpenCLIP's format is loaded, and at no other time.
    assert users("open_clip", "timm", "torchvision") == set()


def test_redis_keys_and_scripts_are_in_the_ledger_and_in_projects() -> None:
    rooms = ("integrations/ledger/", "integrations/label_studio/projects/")
    found = {
        name_of(path)
        for path in modules()
        for text in strings(path)
        if text.startswith("prelabel:") or "redis.call(" in text
    }
    # A vector store on Redis is no part of the truth about jobs: it may be another Redis, and may forget.
    # And a lock says with one script that it is not from before the clock jumped back. A queue's name is Celery's key.
    others = {"worker/vectors/redis.py", "integrations/broker/locks.py", "schemas/queues.py"}
    assert {name for name in found if not name.startswith(rooms)} == others
    assert {
        name_of(path)
        for path in modules()
        if "integrations/ledger/keys" in ours(path) and not name_of(path).startswith("integrations/ledger/")
    } == set()


def test_telemetry_lies_below_what_it_counts() -> None:
    for path in modules():
        if "telemetry" in path.parts:
            others = {name for name in ours(path) if not name.startswith(("schemas", *TELEMETRY))}
            assert others == set(), name_of(path)


TELEMETRY = ("integrations/telemetry", "worker/telemetry")


def test_no_module_reaches_into_another_object() -> None:
    found = []
    for path in modules():
        tree = ast.parse(path.read_text())
        itself = {"self", "cls", *(node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef))}
        found += [
            f"{name_of(path)}:{node.lineno} {ast.unparse(node)}"
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute)
            and re.match("_[^_]", node.attr)
            and node.attr not in ("_exit", "_asdict", "_replace")  # the standard library's own names
            and not (isinstance(node.value, ast.Name) and node.value.id in itself)
            and ast.unparse(node.value) != "super()"
        ]
    assert found == []


def test_nothing_is_asserted_in_production() -> None:
    found = [
        f"{name_of(path)}:{node.lineno}"
        for path in modules()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Assert)
    ]
    assert found == []


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
