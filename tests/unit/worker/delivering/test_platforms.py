"""Which platform a job's predictions go to: ours first, else one that an installed package brings."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from prelabel.integrations.label_studio.deliver.push import Pusher
from prelabel.integrations.label_studio.label_config import LabelConfig
from prelabel.integrations.label_studio.projects.register import Projects
from prelabel.integrations.platforms import HearsOfFailures, Platform, PushReport
from prelabel.schemas import (
    Answer,
    ConfigError,
    ImageRef,
    Item,
    Prediction,
    PushTarget,
    Settings,
    TransientError,
    model_version,
)
from prelabel.worker.delivering.platforms import Platforms
from tests.label_studio import running

TARGET = PushTarget(platform="table", project=1)


class Site:
    """Where packages are installed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def install(self, module: str, source: str, *announced: str) -> None:
        """Put `module` and its metadata there; `announced` are lines `platform = module:object`."""
        (self.folder / f"{module}.py").write_text(source)
        info = self.folder / f"{module}-1.2.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.2\n")
        (info / "entry_points.txt").write_text("\n".join(["[prelabel.platforms]", *announced, ""]))


@pytest.fixture
def site(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    yield Site(tmp_path)
    for name in set(sys.modules) - before:
        if name.startswith("brought_"):
            del sys.modules[name]


@pytest.fixture
def platforms(client) -> Platforms:
    return Platforms(Settings(label_studio_url="http://127.0.0.1:1", label_studio_api_key="k"), client.connection.redis)


GOOD = """
from prelabel.integrations.label_studio.label_config import LabelConfig
from prelabel.integrations.label_studio.projects.register import Projects
from prelabel.integrations.platforms import PushReport

class Table:
    def __init__(self, url, client):
        self.url, self.client = url, client

    def push(self, target, predictions, *, check_existing=False, who=""):
        return PushReport(skipped=(target.project,))

def table(settings, client):
    return Table(settings.label_studio_url, client)
"""


def test_label_studio_is_ours(platforms) -> None:
    assert isinstance(platforms.get("label_studio"), Pusher)


def test_ours_is_not_replaced(site, platforms) -> None:
    site.install("brought_bad", "raise RuntimeError", "label_studio = brought_bad:make")
    assert isinstance(platforms.get("label_studio"), Pusher)


def test_another_comes_from_the_package_that_brings_it(site, platforms) -> None:
    site.install("brought_table", GOOD, "table = brought_table:table")
    platform = platforms.get("table")
    assert isinstance(platform, Platform)
    assert platform.push(TARGET, [], check_existing=True, who="job") == PushReport(skipped=(1,))


def test_one_that_wants_to_hears_what_failed(site, platforms) -> None:
    hears = GOOD.replace(
        "    def push", "    def failed(self, target, predictions):\n        raise ConfigError('heard')\n\n    def push"
    )
    site.install("brought_ears", f"from prelabel.schemas import ConfigError\n{hears}", "table = brought_ears:table")
    platform = platforms.get("table")
    assert isinstance(platform, HearsOfFailures)
    with pytest.raises(ConfigError, match="heard"):
        platform.failed(TARGET, [])


def test_one_that_does_not_want_to_hear_what_failed_need_not(site, platforms) -> None:
    site.install("brought_deaf", GOOD, "table = brought_deaf:table")
    platforms.get("table").failed(TARGET, [])


def test_it_is_made_once_from_the_settings_and_our_redis(site, client, platforms) -> None:
    source = GOOD.replace("class Table", "seen = []\n\nclass Table").replace(
        "    return Table", "    seen.append((settings.label_studio_url, client))\n    return Table"
    )
    site.install("brought_table", source, "table = brought_table:table")
    assert platforms.get("table") is platforms.get("table")
    import brought_table

    assert brought_table.seen == [("http://127.0.0.1:1", client.connection.redis)]


def test_a_push_that_changes_what_a_project_shows_has_the_adapter_look_at_it(client) -> None:
    xml = (
        '<View><Image name="img" value="$image"/><Choices name="cls" toName="img"><Choice value="Cat"/>'
        '<Choice value="Dog"/></Choices></View>'
    )
    version = model_version("siglip@12345678", LabelConfig.parse(xml).to_controls())
    answer = Answer(control="cls", rule="softmax", paths=(("Cat",),), confidence=0.9)
    item = Item(id="1", images=(ImageRef(uri="s3://b/1.jpg"),))
    prediction = Prediction(item=item, ordinal=0, model_version=version, answers=(answer,))
    with running() as label_studio:
        label_studio.add_project(1, xml, tasks=[1], model_version="siglip@12345678+tax.000000")
        settings = Settings(label_studio_url=label_studio.url, label_studio_api_key=label_studio.legacy)
        platforms = Platforms(settings, client.connection.redis)
        target = PushTarget(project=1, label_config=xml)
        platforms.get(target.platform).push(target, [prediction], check_existing=True, who="job")
        platforms.close()
    turn = Projects(client).take_turn(time.time())
    assert turn is not None
    assert turn.project == 1


def test_one_that_is_not_asked_for_is_not_imported(site, platforms) -> None:
    site.install("brought_bad", "raise RuntimeError", "other = brought_bad:make")
    site.install("brought_table", GOOD, "table = brought_table:table")
    platforms.get("table")
    assert "brought_bad" not in sys.modules


def test_a_name_nobody_brings_is_refused_with_all_that_are_known(site, platforms) -> None:
    site.install("brought_table", GOOD, "table = brought_table:table")
    with pytest.raises(ConfigError, match="the platform 'chair', and this worker knows label_studio, table alone"):
        platforms.get("chair")


def test_two_packages_that_bring_the_same_are_named(site, platforms) -> None:
    for name in ("brought_one", "brought_two"):
        site.install(name, GOOD, f"table = {name}:table")
    with pytest.raises(ConfigError, match=r"brought_one 1\.2 and brought_two 1\.2 both bring .*'table': uninstall"):
        platforms.get("table")


PUSHES = (
    "class P:\n    def push(self, target, predictions, **options):\n        {}\ndef make(settings, client): return P()"
)
BROKEN = {
    "does not compile": ("def", r"brought_x:make cannot be imported: .*invalid syntax"),
    "needs what is not there": ("import brought_nothing", r"cannot be imported: No module named 'brought_nothing'"),
    "fails when imported": ("raise RuntimeError('one\\ntwo')", r"cannot be imported: one \("),
    "lacks the object": ("", r"cannot be imported: .*has no attribute 'make'"),
    "is no function": ("make = 3", r"brought_x:make cannot be called"),
    "takes other arguments": ("def make(): pass", r"brought_x:make failed: .*argument"),
    "fails to make it": ("def make(settings, client): {}['key']", r"brought_x:make failed: 'key' \("),
    "makes something else": ("def make(settings, client): return 3", r"made int, which has no push\(\)"),
    "fails to push": (PUSHES.format("raise ValueError"), r"its push\(\) failed: ValueError \("),
    "does not report": (PUSHES.format("return None"), r"its push\(\) returned NoneType, not a PushReport"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_one_is_one_line_that_names_its_package(case, site, platforms) -> None:
    source, message = BROKEN[case]
    site.install("brought_x", source, "table = brought_x:make")
    with pytest.raises(ConfigError, match=message) as refused:
        platforms.get("table").push(TARGET, [])
    assert str(refused.value).startswith("the platform 'table' of brought_x 1.2: ")
    assert str(refused.value).endswith("(update or uninstall it)")
    assert "\n" not in str(refused.value)


def test_what_it_says_of_itself_is_said_as_it_says_it(site, platforms) -> None:
    source = "from prelabel.schemas import TransientError\n" + PUSHES.format(
        "raise TransientError('closed on Sundays')"
    )
    site.install("brought_x", source, "table = brought_x:make")
    with pytest.raises(TransientError, match=r"^closed on Sundays$"):
        platforms.get("table").push(TARGET, [])


def test_one_that_could_not_be_made_is_tried_again(site, platforms, monkeypatch) -> None:
    source = GOOD.replace("    return Table(", "    import os\n    assert os.environ['TABLE']\n    return Table(")
    site.install("brought_table", source, "table = brought_table:table")
    with pytest.raises(ConfigError, match="TABLE"):
        platforms.get("table")
    monkeypatch.setenv("TABLE", "there")
    assert platforms.get("table").push(TARGET, []) == PushReport(skipped=(1,))
