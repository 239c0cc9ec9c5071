"""What a tab may filter by."""

from __future__ import annotations

import re
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prelabel.integrations.label_studio.api import tasks, views

TEXTS = st.text(st.characters(blacklist_categories=["Cs", "Cc"]), min_size=1) | st.text(string.punctuation, min_size=1)


@given(TEXTS, TEXTS)
def test_a_text_as_a_pattern_is_found_where_it_stands_and_nowhere_else(text: str, other: str) -> None:
    pattern = f"^({views.literally(text)})$"
    assert re.search(pattern, text)
    assert bool(re.search(pattern, other)) == (text == other)


@given(TEXTS)
def test_only_punctuation_that_means_something_has_a_backslash_so_that_every_dialect_takes_it(text: str) -> None:
    escaped = re.findall(r"\\(.)", views.literally(text), re.DOTALL)
    assert set(escaped) <= set(r"\.^$*+?()[]{}|")
    assert re.sub(r"\\(.)", r"\1", views.literally(text), flags=re.DOTALL) == text


def test_a_list_of_numbers_is_never_stored_because_it_stops_the_data_manager() -> None:
    with pytest.raises(ValueError, match="stop every tab"):
        views.joined("and", [tasks.is_number(1), tasks.numbered([1, 2])])
    assert views.joined("or", [tasks.is_number(1)])["items"] == [tasks.is_number(1)]
