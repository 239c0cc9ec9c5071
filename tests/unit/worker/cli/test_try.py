"""`prelabel try`: what is said before a label config is read, and before any server is asked."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from prelabel.schemas import get_settings
from prelabel.worker.cli import app

HERE = {"LABEL_STUDIO_URL": "http://127.0.0.1:1", "PRELABEL_REDIS_URL": "redis://127.0.0.1:1/0"}
KEY = {"LABEL_STUDIO_API_KEY": "0123456789abcdef"}


@pytest.mark.parametrize(
    ("project", "variables", "said"),
    [
        ("0", KEY, "Invalid value for '--project'"),
        ("-7", KEY, "Invalid value for '--project'"),
        ("7", {"LABEL_STUDIO_API_KEY": ""}, "LABEL_STUDIO_API_KEY"),
        ("7", {**KEY, "LABEL_STUDIO_URL": ""}, "LABEL_STUDIO_URL"),
        ("7", KEY, "cannot read"),
    ],
)
def test_what_is_wrong_with_the_call_is_said_first(
    project: str, variables: dict[str, str], said: str, tmp_path: Path
) -> None:
    get_settings.cache_clear()
    gone = str(tmp_path / "gone.xml")
    result = CliRunner().invoke(app, ["try", "--project", project, "--config", gone], env={**HERE, **variables})
    get_settings.cache_clear()
    assert result.exit_code == 2, result.output
    assert said in " ".join(result.output.split())
    assert "Traceback" not in result.output
