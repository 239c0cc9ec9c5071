"""The Redis URL: what is taken, and that nothing of a password gets out of one that is not."""

from __future__ import annotations

import socket

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from prelabel.integrations import Client
from prelabel.integrations.broker.connection import url_options
from prelabel.schemas import ConfigError
from prelabel.schemas.settings import load_settings

HINT = "percent-encode special characters in user and password"


@pytest.mark.parametrize(
    "url",
    [
        "redis://:hun@ter2#x@127.0.0.1:6379/0",
        "redis://:hun#ter2@127.0.0.1:6379/0",
        "redis://:12/hunter2@127.0.0.1:6379/0",
        "redis://:12/hunter2:6379/0",
        "redis://:hun@ter2/x:6379/0",
        "redis://:hun@ter2?x@127.0.0.1:6379/0",
        "redis://:12?hunter2@127.0.0.1:6379/0",
        "redis://:hun?ter2@127.0.0.1",
        "redis://:hun[ter2@127.0.0.1:6379/0",
    ],
)
def test_a_password_with_odd_characters_is_neither_shown_nor_looked_up(url: str, monkeypatch) -> None:
    looked_up: list[object] = []
    monkeypatch.setattr(socket, "getaddrinfo", lambda *asked, **_: looked_up.append(asked))
    with pytest.raises(ConfigError, match=HINT) as refused:
        Client(load_settings(redis_url=url)).ping()
    assert not any(piece in str(refused.value) for piece in ("hun", "ter2"))
    assert not looked_up


@given(st.text(st.characters(min_codepoint=33, max_codepoint=126)))
@example("hun@ter2#x")
@example("1/0?a=b")
def test_whatever_the_password_the_host_is_the_host_or_the_url_is_refused(password: str) -> None:
    try:
        options = url_options(load_settings(redis_url=f"redis://:{password}@127.0.0.1:6379/3"))
    except ConfigError:
        return
    assert (options["host"], options["port"], options["db"]) == ("127.0.0.1", 6379, 3)


@pytest.mark.parametrize("end", ["", "/", "/0", "/3/"])
def test_what_is_percent_encoded_is_taken(end: str) -> None:
    assert url_options(load_settings(redis_url=f"redis://:a%40%2F%23@h:7{end}"))["password"] == "a@/#"


@pytest.mark.parametrize("url", ["redis://h:6379/name", "redis://h:port/0", "redis://h:6379/0#x", "http://h"])
def test_what_redis_py_would_overlook_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="is no redis URL"):
        url_options(load_settings(redis_url=url))
