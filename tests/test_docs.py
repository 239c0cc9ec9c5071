"""The documentation: its links lead somewhere, and what it quotes, runs and sets exists."""

from __future__ import annotations

import ast
import html
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import typer
from typer.main import get_command

from prelabel.integrations.label_studio.label_config import LabelConfig
from prelabel.schemas import Settings
from prelabel.worker.cli import app

ROOT = Path(__file__).parent.parent
PAGES = sorted([*(ROOT / "docs").rglob("*.md"), ROOT / "README.md"])
COMMANDS = get_command(app).commands

OURS = {f"PRELABEL_{name.upper()}" for name in Settings.model_fields}.union(
    *(getattr(field.validation_alias, "choices", []) for field in Settings.model_fields.values())
)
OTHERS = {
    *("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"),
    *("AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL", "HF_HOME", "HF_HUB_OFFLINE", "HF_TOKEN"),
    *re.findall(r"\$\{([A-Z_]+)", (ROOT / "docker-compose.yml").read_text()),
}
"""Read by boto3, the hub's library and the compose file."""


def fences(page: Path, language: str) -> list[str]:
    text = page.read_text()
    found = re.findall(rf"^( *)```{language}\b[^\n]*\n(.*?)^\1```$", text, flags=re.MULTILINE | re.DOTALL)
    return [body for _, body in found]


class Shown(NamedTuple):
    """A call of prelabel as a page shows it: the words after `prelabel`; in a sentence some may be left out."""

    page: Path
    words: list[str]
    complete: bool

    def __str__(self) -> str:
        return f"{self.page.name}: {' '.join(self.words)[:60]}"


def calls() -> Iterator[Shown]:
    for page in PAGES:
        prose = re.sub(r"^( *)```.*?^\1```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
        spans = re.findall(r"(?<!`)`((?:docker compose [^`\n]+ )?prelabel [a-z][^`\n]*)`(?!`)", prose)
        texts = [*((body, True) for body in fences(page, "bash")), *((span, False) for span in spans)]
        for text, complete in texts:
            for line in text.replace("\\\n", " ").splitlines():
                words = shlex.split(line, comments=True)
                for start in (at for at, word in enumerate(words) if word == "prelabel"):
                    tail = words[start + 1 :]
                    end = next((at for at, word in enumerate(tail) if word in ("|", "&&", "&", ";")), len(tail))
                    yield Shown(page, tail[:end], complete)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site; a warning, such as a link or an anchor that leads nowhere, fails the build."""
    made = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(made)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return made


def shown(site: Path, page: str) -> str:
    """A built page's text, as a reader sees it."""
    return " ".join(html.unescape(re.sub(r"<[^>]+>", "", (site / page).read_text())).split())


def test_the_site_needs_no_other_server(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 15
    for page in pages:
        tags = re.findall(r"<(?:script|img|iframe|link)\b[^>]*>", page.read_text())
        loaded = [url for tag in tags if "canonical" not in tag for url in re.findall(r'(?:src|href)="([^"]+)', tag)]
        assert loaded
        assert not [url for url in loaded if re.match(r"(https?:)?//", url)], page


def code_blocks(built: Path) -> list[str]:
    """The text of a built page's code blocks."""
    blocks = re.findall(r"<pre\b[^>]*>.*?</pre>", built.read_text(), flags=re.DOTALL)
    return [html.unescape(re.sub(r"<[^>]+>", "", block)).strip() for block in blocks]


def included(page: Path) -> Iterator[str]:
    """The programs, or parts of them, that a page puts in, however well its line is written."""
    for name, part in re.findall(r'^ *-+ *8 *< *-+ *"([^":]+)(?::(\w+))?"', page.read_text(), flags=re.MULTILINE):
        text = (ROOT / name).read_text()
        if part:
            text = re.split(rf"^.*--8<-- \[(?:start|end):{part}\]\n", text, flags=re.MULTILINE)[1]
        yield text.strip()


INCLUDING = [page for page in PAGES if any(included(page))]


def test_pages_that_put_a_program_in_are_found() -> None:
    assert {page.stem for page in INCLUDING} >= {"ml-engineer", "python", "extending"}


@pytest.mark.parametrize("page", INCLUDING, ids=lambda page: page.name)
def test_every_program_put_in_is_shown(site: Path, page: Path) -> None:
    blocks = code_blocks(site / page.relative_to(ROOT / "docs").with_suffix(".html"))
    assert [program for program in included(page) if program not in blocks] == []


def test_no_page_shows_an_empty_block_or_the_mark_of_a_program_to_put_in(site: Path) -> None:
    for built in site.rglob("*.html"):
        assert "" not in code_blocks(built), built
        assert not re.search(r"-+ *8 *< *-+", html.unescape(re.sub(r"<[^>]+>", "", built.read_text()))), built


def test_the_picture_of_the_flow_is_shown(site: Path) -> None:
    for page in ("index.html", "concepts.html"):
        assert 'src="images/flow.svg"' in (site / page).read_text()
    assert (site / "images" / "flow.svg").is_file()


def test_every_setting_is_in_the_reference(site: Path) -> None:
    text = shown(site, "configuration.html")
    page = (site / "configuration.html").read_text()
    for name, field in Settings.model_fields.items():
        assert f'id="{name}"' in page
        assert " ".join((field.description or "").split()) in text, name
    assert "PRELABEL_REDIS_URL" in text
    assert "LABEL_STUDIO_URL or LABEL_STUDIO_HOST" in text.replace("URLor", "URL or")


def test_every_command_and_option_is_in_the_reference(site: Path) -> None:
    text = shown(site, "cli.html")
    for name, command in COMMANDS.items():
        assert f"$ prelabel {name}" in text
        for parameter in command.params:
            if parameter.param_type_name == "option":
                assert all(option in text for option in parameter.opts), (name, parameter.opts)


@pytest.mark.parametrize("call", list(calls()), ids=str)
def test_every_command_line_shown_is_one_prelabel_takes(call: Shown) -> None:
    name, *arguments = call.words
    assert name in COMMANDS, f"{call.page.name} shows `prelabel {name}`"
    arguments = [re.sub(r"^(N|…|HOURS)$", "7", argument) for argument in arguments]
    # Parses, and does nothing.
    try:
        COMMANDS[name].make_context(name, arguments)
    except typer.BadParameter:  # among them MissingParameter
        assert not call.complete


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_variable_named_is_one_that_is_read(page: Path) -> None:
    text = re.sub(r"<!--.*?-->", "", page.read_text(), flags=re.DOTALL)
    named = set(re.findall(r"\b(?:PRELABEL|LABEL_STUDIO|BASIC_AUTH|AWS|HF)_[A-Z_]*[A-Z]\b", text))
    assert named - OURS - OTHERS == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_source_file_named_is_there(page: Path) -> None:
    folders = "worker|integrations|schemas|tests|deploy|examples|training|benchmarks|docs"
    named = set(re.findall(rf"`((?:{folders})/[\w./-]*)`", page.read_text()))
    assert {name for name in named if not (ROOT / name).exists()} == set()


def test_every_link_of_the_readme_leads_somewhere() -> None:
    targets = re.findall(r"\]\((?!https?:)([^)#]+)", (ROOT / "README.md").read_text())
    assert targets
    assert [target for target in targets if not (ROOT / target).exists()] == []


def test_every_label_config_shown_can_be_pre_labeled() -> None:
    shown_configs = [(page, body) for page in PAGES for body in fences(page, "xml")]
    assert shown_configs
    for page, body in shown_configs:
        assert LabelConfig.parse(body).controls, page


def literals() -> list[str]:
    """Every text in the code, `…` for what is filled in."""
    found = []
    for path in (path for layer in ("schemas", "integrations", "worker") for path in (ROOT / layer).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                parts = [str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values]
                found.append("".join(parts))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return [re.sub(r"%(\.\d)?[sdfr]", "…", text) for text in found]


def quoted_messages() -> Iterator[str]:
    """The first cells of the tables about messages."""
    text = (ROOT / "docs" / "troubleshooting.md").read_text()
    for table in re.findall(r"^\| message \|.*?\n\n", text, flags=re.MULTILINE | re.DOTALL):
        for row in table.splitlines()[2:]:
            cell = row.split(" | ")[0].strip("| ")
            quote = re.search(r"(`+)(.+)\1", cell)
            if quote:
                yield quote[2]


def test_every_message_explained_is_one_the_code_can_say() -> None:
    messages = list(quoted_messages())
    assert len(messages) > 50
    known = literals()
    unknown = [message for message in messages if not any(message in text for text in known)]
    assert unknown == []
