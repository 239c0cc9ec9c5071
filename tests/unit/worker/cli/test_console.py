"""What the command line prints of texts that are not ours: as they stand, whatever is in them."""

from __future__ import annotations

import io
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rich.console import Console
from rich.text import Text
from typer.testing import CliRunner

from prelabel.integrations.ledger.leases import ChunkRef
from prelabel.schemas import Answer, ItemFailure, Outcome, Prediction, get_settings
from prelabel.schemas.items import Item
from prelabel.worker.cli import app
from prelabel.worker.cli.console import err, fail, out, plain, predictions_table

NAMES = ["[siglip]", "a\\[/]", "[/]", "back\\", "[bold]x", "[link=http://h]y", ":smile:", "\\\\[b]\\\\"]


@given(st.text(st.characters(codec="utf-8")), st.sampled_from(["", "[/]", " [/]", "[/][b]"]))
@example("a\\[/]", "[/]")
@example("back\\", "")
@example("back\\", "[/]")
def test_markup_shows_a_text_as_it_stands_wherever_it_is_put(text: str, after: str) -> None:
    visible = "".join(c for c in text if unicodedata.category(c) not in ("Cc", "Cf", "Zl", "Zp"))
    assert Text.from_markup(f"[dim]{plain(visible)}{after}" if after else plain(visible), emoji=False).plain == (
        visible + after.removesuffix("[b]").removesuffix("[/]").replace("[/]", "")
    )


@given(st.text())
def test_nothing_in_a_text_is_a_command_to_the_terminal(text: str) -> None:
    printed = io.StringIO()
    Console(file=printed, markup=True, emoji=False, width=10_000).print(plain(text), soft_wrap=True)
    line = printed.getvalue().removesuffix("\n")
    assert not [c for c in line if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp")]


@pytest.fixture
def wide(monkeypatch) -> None:
    for one in (out, err):
        monkeypatch.setattr(one, "_width", 200)


@pytest.mark.parametrize("name", NAMES)
def test_a_table_of_predictions_shows_names_labels_and_errors(name: str, capsys, wide) -> None:
    item = Item(id=name, images=({"uri": "a"},))
    answer = Answer(control="label", rule="softmax", paths=((name,),), confidence=0.9)
    failure = ItemFailure(kind="ItemError", message=name)
    out.print(
        predictions_table(
            [
                Prediction(item=item, ordinal=0, model_version="m", answers=(answer,)),
                Prediction(item=item, ordinal=1, error=failure),
            ]
        )
    )
    assert capsys.readouterr().out.count(name) == 4


@pytest.mark.parametrize("name", NAMES)
def test_an_error_shows_what_it_names(name: str, capsys) -> None:
    with pytest.raises(SystemExit):
        fail(f"cannot read {name}")
    assert f"cannot read {name}\n" in capsys.readouterr().err


def test_an_escape_sequence_in_a_file_name_is_spelt_out(capsys) -> None:
    with pytest.raises(SystemExit):
        fail("no file \x1b]0;owned\x07\x9b31m\u202egpj.exe\udce9\nerror: none")
    shown = capsys.readouterr().err
    assert shown == "error: no file \\x1b]0;owned\\x07\\x9b31m\\u202egpj.exe\\udce9\\nerror: none\n"


@pytest.mark.parametrize("labels", ["a\\[/],circle", "[red],[/]"])
def test_labels_that_look_like_markup_are_scored_and_shown(labels: str, client, ledger, broker_url, monkeypatch, wide):
    monkeypatch.setenv("PRELABEL_REDIS_URL", broker_url)
    get_settings.cache_clear()
    submitted = CliRunner().invoke(app, ["submit", "s3://b/[b].jpg", "--labels", labels, "--name", "[/x]"])
    assert submitted.exit_code == 0, submitted.output
    (job,) = client.jobs()
    (first, _) = labels.split(",")
    worker = ledger()
    answer = Answer(control="label", rule="softmax", paths=((first,),), confidence=0.9)
    outcome = Outcome(model_version="m", answers=(answer,))
    worker.complete(worker.claim(ChunkRef(job.job_id, 0)), [(0, outcome)], close=True)
    shown = CliRunner().invoke(app, ["results", job.job_id])
    assert first in shown.output
    assert "s3://b/[b].jpg" in shown.output
    assert "[/x]" in CliRunner().invoke(app, ["status", job.job_id]).output
    get_settings.cache_clear()
