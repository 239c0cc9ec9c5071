"""What `prelabel doctor` says of a project's tasks."""

from __future__ import annotations

import pytest

from prelabel.integrations.label_studio.projects import overview
from prelabel.integrations.label_studio.projects.figures import ProjectFigures, WhyNot
from prelabel.integrations.label_studio.projects.overview import Overview
from prelabel.integrations.label_studio.projects.unanswered import Why
from prelabel.schemas import Settings
from prelabel.worker.cli.checks.figures import check_figures


def test_the_reason_that_is_told_is_one_of_what_is_wrong(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    counted = ProjectFigures(
        project=7,
        tasks=103,
        failed=3,
        nothing_chosen=100,
        reasons=(
            WhyNot(why=Why.NOTHING_CHOSEN, text="no label reached its threshold", tasks=100),
            WhyNot(why=Why.FAILED, text="HTTP 404", tasks=3),
        ),
    )
    monkeypatch.setattr(overview, "overview", lambda *_: [Overview(7, counted)])
    (line,) = check_figures(settings.model_copy(update={"label_studio_url": "http://127.0.0.1:9"}), None)
    assert line.status == "warn"
    assert line.detail.endswith("3 failed: HTTP 404")
