"""What a release is made of: one version, workflows that run what people run, and a wheel and sdist worth uploading."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import tomllib
from email.parser import Parser
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from prelabel.schemas.package import package_version
from prelabel.worker.cli import app

ROOT = Path(__file__).parent.parent
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))


def test_the_version_stands_in_one_place_and_everybody_reads_it() -> None:
    assert package_version() == VERSION
    assert CliRunner().invoke(app, ["--version"]).stdout == f"prelabel {VERSION}\n"
    spelled = [
        str(path.relative_to(ROOT))
        for folder in ("schemas", "integrations", "worker", "deploy")
        for path in (ROOT / folder).rglob("*.py")
        if re.search(rf"(?<![\d.]){re.escape(VERSION)}(?![\d.])", path.read_text())
    ]
    assert spelled == []
    assert VERSION not in (ROOT / "Dockerfile").read_text() + (ROOT / "docker-compose.yml").read_text()


def test_the_changelog_has_a_section_for_what_comes_next_or_for_this_version() -> None:
    sections = re.findall(r"^## \[?([\w.]+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert sections[0] in ("Unreleased", VERSION)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflows_keep_to_their_schema_and_run_make_targets_that_exist(path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.github-workflows", str(path)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    workflow = yaml.safe_load(path.read_text())
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    called = [step["run"].split()[1] for step in steps if step.get("run", "").startswith("make ")]
    assert called
    assert set(called) <= targets
    assert workflow["permissions"] == {"contents": "read"}


def test_the_tools_of_a_release_are_pinned_and_not_part_of_any_install() -> None:
    tools = [line for line in (ROOT / "deploy/release-tools.txt").read_text().splitlines() if line[:1] not in ("#", "")]
    assert all(re.match(r"[\w-]+==[\d.]+\s+# \w", line) for line in tools)
    names = {line.partition("==")[0] for line in tools}
    assert names == {"cyclonedx-bom", "pip-audit", "pip-licenses", "twine"}
    assert not [name for name in names if name in (ROOT / "pyproject.toml").read_text()]


@pytest.mark.slow
def test_the_sdist_builds_the_wheel_and_says_who_made_it_under_which_licence(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "build", "--outdir", str(tmp_path), str(ROOT)], check=True, capture_output=True
    )
    (wheel,), (sdist,) = tmp_path.glob("*.whl"), tmp_path.glob("*.tar.gz")
    assert wheel.name == f"prelabel-{VERSION}-py3-none-any.whl"
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
        about = archive.extractfile(f"prelabel-{VERSION}/PKG-INFO")
        assert about is not None
        metadata = Parser().parsestr(about.read().decode())
    assert {
        "pyproject.toml",
        "README.md",
        "LICENSE",
        "schemas/settings.py",
        "worker/demo/siglip-shapes/spiece.model",
    } <= names
    assert {"docker-compose.yml", "docker-compose.gpu.yml", ".env.example", "deploy/prometheus/alerts.yml"} <= names
    assert not [name for name in names if name.startswith((".venv", ".release", "images")) or name == ".env"]
    assert (metadata["License-Expression"], metadata["Description-Content-Type"]) == ("Apache-2.0", "text/markdown")
