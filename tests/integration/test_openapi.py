"""The OpenAPI document says what the adapter does: schemathesis asks, over a real queue, and compares.

It makes requests that fit the document and requests that do not: an answer must have a status, a media type and a body
that the document names, and bad input must be refused (https://schemathesis.readthedocs.io/en/stable/reference/checks/).
"""

import subprocess
import sys
from pathlib import Path

from prelabel.integrations.label_studio.projects.register import Projects
from prelabel.integrations.label_studio.projects.registration import SECRET_HEADER
from prelabel.worker.running.stack import Stack


def test_the_document_is_true(stack: Stack, tmp_path: Path) -> None:
    client = stack.client()
    run = subprocess.run(
        [
            Path(sys.executable).with_name("schemathesis"),
            "run",
            f"{stack.adapter_url}/openapi.json",
            "--checks=all",
            "--max-examples=40",
            "--seed=1",
            "--no-color",
            f"--header={SECRET_HEADER}: {Projects(client).secret()}",
            "--warnings=off",  # of the page's buttons, which only a form of the page may press
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "No issues found" in run.stdout
