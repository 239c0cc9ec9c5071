"""Running commands of `prelabel` in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from click.testing import Result
from typer.testing import CliRunner

from prelabel.schemas import get_settings
from prelabel.worker.cli import app
from prelabel.worker.cli.console import err, out

Run = Callable[..., Result]


@pytest.fixture
def run(broker_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """Runs `prelabel …` with the test broker, on a terminal of 200 columns."""
    monkeypatch.setenv("PRELABEL_REDIS_URL", broker_url)
    for name in ("LABEL_STUDIO_URL", "LABEL_STUDIO_HOST", "LABEL_STUDIO_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    for console in (out, err):
        monkeypatch.setattr(console, "_width", 200)
    get_settings.cache_clear()
    yield lambda *arguments: CliRunner().invoke(app, arguments)
    get_settings.cache_clear()
