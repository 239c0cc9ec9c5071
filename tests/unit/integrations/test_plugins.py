"""What other packages bring is found by name, imported when it is asked for, and blamed by name when it is broken."""

from __future__ import annotations

import pytest

from prelabel.integrations.plugins import Plugins
from prelabel.schemas import ConfigError, TransientError
from tests.packages import Site

GROUP = "prelabel.things"


def things() -> Plugins:
    return Plugins(GROUP, "thing")


def test_a_plugin_is_found_by_its_name(site: Site) -> None:
    site.install("brought_good", "def make(*arguments): return list(arguments)", GROUP, "lists = brought_good:make")
    plugin = things().find("lists")
    assert plugin is not None
    assert plugin.make(1, 2) == [1, 2]
    assert things().names == {"lists"}
    assert things().find("tuples") is None


def test_plugins_of_another_group_are_none_of_these(site: Site) -> None:
    site.install("brought_other", "", "prelabel.others", "lists = brought_other:make")
    assert things().find("lists") is None


def test_finding_imports_nothing(site: Site) -> None:
    site.install("brought_bad", "raise RuntimeError", GROUP, "lists = brought_bad:make")
    assert things().find("lists") is not None
    assert things().names == {"lists"}


BROKEN = {
    "does not compile": ("def", "brought_x:make cannot be imported: .*invalid syntax"),
    "needs what is not there": ("import brought_nothing", "cannot be imported: No module named 'brought_nothing'"),
    "fails when imported": ("raise RuntimeError('one\\ntwo')", r"cannot be imported: one \("),
    "lacks the object": ("", "cannot be imported: .*has no attribute 'make'"),
    "is nothing to call": ("make = 3", "brought_x:make cannot be called"),
    "takes other arguments": ("def make(): pass", "brought_x:make failed: .*argument"),
    "fails": ("def make(settings): raise KeyError('missing')", "brought_x:make failed: 'missing'"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_one_is_a_line_that_names_its_package(case: str, site: Site) -> None:
    source, message = BROKEN[case]
    site.install("brought_x", source, GROUP, "lists = brought_x:make")
    plugin = things().find("lists")
    assert plugin is not None
    with pytest.raises(ConfigError, match=message) as refused:
        plugin.make("settings")
    assert str(refused.value).startswith("the thing 'lists' of brought_x 1.2: ")
    assert str(refused.value).endswith("(update or uninstall it)")
    assert "\n" not in str(refused.value)


def test_what_it_says_in_our_words_is_passed_on(site: Site) -> None:
    source = "from prelabel.schemas import TransientError\ndef make(): raise TransientError('busy')"
    site.install("brought_x", source, GROUP, "lists = brought_x:make")
    plugin = things().find("lists")
    assert plugin is not None
    with pytest.raises(TransientError, match=r"^busy$"):
        plugin.make()


def test_two_packages_that_bring_the_same_are_named(site: Site) -> None:
    for name in ("brought_one", "brought_two"):
        site.install(name, "make = list", GROUP, f"lists = {name}:make")
    with pytest.raises(ConfigError, match=r"brought_one 1\.2 and brought_two 1\.2 both bring the thing 'lists'"):
        things().find("lists")
