"""The owner's own text: stored in Label Studio as it stands in the label config, and shown as chosen in its editor."""

from __future__ import annotations

from typing import Any
from xml.sax.saxutils import quoteattr

from prelabel.worker.demo.label_studio.server import LabelStudioServer
from prelabel.worker.running.stack import Stack
from tests.cookbook import inline
from tests.label_studio_server.opened import CHECKED, opened
from tests.label_studio_server.site import LabelStudio, connect_project

# name of the control, value and alias of the right choice
CASES: dict[str, tuple[str, str, str | None]] = {
    "space after": ("after ", "circle ", None),
    "space before": (" before", " circle", None),
    "spaces inside": ("in side", "red  circle", None),
    "no-break space": ("nb\u00a0sp", "circle\u00a0", None),
    "right to left": ("\u05e9\u05dd", "circle \u05e2\u05d9\u05d2\u05d5\u05dc\u200f", None),
    "emoji": ("\U0001f535", "circle \U0001f535\ufe0f", None),
    "composed": ("caf\u00e9", "circle caf\u00e9", None),
    "decomposed": ("cafe\u0301", "circle cafe\u0301", None),
    "quotes": ("'q' \"q\"", "\"circle\" 'o'", None),
    "markup": ("<b>&amp;", "circle <b>&amp;", None),
    "alias with a space": ("alias", "circle", "round one "),
    "empty alias": ("empty", "circle", ""),
}


def control(name: str, value: str, alias: str | None) -> str:
    said = "" if alias is None else f" alias={quoteattr(alias)}"
    return (
        f'<Choices name={quoteattr(name)} toName="image"><Choice value={quoteattr(value)}{said} model_prompt="circle"/>'
        '<Choice value="something else" model_prompt="a green cross|an orange star"/></Choices>'
    )


CONFIG = f'<View><Image name="image" value="$image"/>{"".join(control(*case) for case in CASES.values())}</View>'


def test_what_the_owner_wrote_is_stored_byte_for_byte_and_shown_as_chosen(
    label_studio: LabelStudio, server: LabelStudioServer, backend: Stack
) -> None:
    project = label_studio.make_project(CONFIG, title="texts")
    (task,) = label_studio.import_tasks(project, [{"image": inline("red-circle.jpg")}])
    steps = connect_project(backend, project, pre_label_all=True)
    assert not [step for step in steps if step.status == "failed"], steps
    (stored,) = label_studio.wait_for(project, 1)
    chosen: dict[str, Any] = {entry["from_name"]: entry["value"]["choices"] for entry in stored["result"]}
    assert chosen == {name: [value if alias is None else alias] for name, value, alias in CASES.values()}
    with opened(server, project, task) as page:
        page.wait_for_function(CHECKED, arg=[value for _, value, _ in CASES.values()])
