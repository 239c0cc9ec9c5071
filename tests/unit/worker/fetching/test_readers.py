"""Who reads a reference is told by its scheme: ours, or what another package brings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from prelabel.schemas import ConfigError, ImageRef, ItemError
from prelabel.worker.fetching.fetcher import Fetcher
from prelabel.worker.fetching.reader import Fetched
from prelabel.worker.fetching.readers import GROUP
from tests.packages import Site
from tests.unit.worker.fetching.helpers import fetch

ECHO = """
from prelabel.worker.fetching.reader import Fetched

class Echo:
    made = 0
    closed = 0

    def __init__(self, settings):
        Echo.made += 1
        self.limit = settings.max_image_bytes

    def read(self, uri, deadline, is_known):
        if is_known("the mark"):
            return Fetched("the mark", None)
        return Fetched("the mark", f"{uri} {self.limit}".encode())
"""
SILENT = """
from prelabel.worker.fetching.reader import Fetched

class Silent:
    def __init__(self, settings): ...

    def read(self, uri, deadline, is_known):
        return Fetched(None, None)
"""
CLOSES = "\n    def close(self):\n        Echo.closed += 1\n        {}\n"

Make = Callable[..., Fetcher]


def test_a_scheme_of_a_package_is_read_by_what_it_brings(fetcher: Make, site: Site) -> None:
    site.install("brought_echo", ECHO, GROUP, "echo = brought_echo:Echo")
    fetching = fetcher(max_image_bytes=77)
    assert fetch(fetching, "echo:a") == b"echo:a 77"
    assert fetch(fetching, "ECHO:b") == b"ECHO:b 77"
    assert fetching.fetch(ImageRef(uri="echo:a"), lambda mark: True) == Fetched("the mark", None)
    from brought_echo import Echo

    assert Echo.made == 1


def test_a_package_whose_scheme_is_not_used_is_not_imported(fetcher: Make, site: Site, root: Path) -> None:
    site.install("brought_bad", "raise RuntimeError", GROUP, "bad = brought_bad:Bad")
    with pytest.raises(ItemError, match="file:, http:, https:, s3:, data:, bad: "):
        fetch(fetcher(), "ftp://host/a.jpg")
    with pytest.raises(ItemError, match="no such file"):
        fetch(fetcher(), str(root / "a.jpg"))


@pytest.mark.parametrize("scheme", ["file", "http", "https", "s3", "data"])
def test_our_own_readers_are_not_replaced(fetcher: Make, site: Site, scheme: str) -> None:
    site.install("brought_bad", "raise RuntimeError", GROUP, f"{scheme} = brought_bad:Bad")
    with pytest.raises(ItemError):
        fetch(fetcher(), f"{scheme}:nothing")


def test_a_broken_package_is_one_line_however_often_it_is_met(fetcher: Make, site: Site, tmp_path: Path) -> None:
    count = tmp_path / "imports"
    source = f"with open({str(count)!r}, 'a') as file: file.write('x')\nraise RuntimeError('no wire')"
    site.install("brought_bad", source, GROUP, "bad = brought_bad:Bad")
    fetching = fetcher()
    for _ in range(3):
        with pytest.raises(ConfigError, match=r"^the image reader 'bad' of brought_bad 1\.2: .* no wire \(update"):
            fetch(fetching, "bad:a")
    assert count.read_text() == "x"


def test_what_reads_nothing_is_no_reader(fetcher: Make, site: Site) -> None:
    site.install("brought_dict", "def make(settings): return {}", GROUP, "bad = brought_dict:make")
    with pytest.raises(ConfigError, match=r"brought_dict:make made dict, which has no read\(uri, deadline, is_known\)"):
        fetch(fetcher(), "bad:a")


def test_a_reader_that_gives_nothing_fails_its_reference(fetcher: Make, site: Site) -> None:
    site.install("brought_silent", SILENT, GROUP, "silent = brought_silent:Silent")
    with pytest.raises(ItemError, match=r"silent:a: .* neither an image nor a mark"):
        fetch(fetcher(), "silent:a")


@pytest.mark.parametrize("ending", ["pass", "raise RuntimeError('stuck')"])
def test_a_reader_that_can_be_closed_is_closed_once(fetcher: Make, site: Site, ending: str) -> None:
    lines = "echo = brought_echo:Echo", "unused = brought_echo:Echo"
    site.install("brought_echo", ECHO + CLOSES.format(ending), GROUP, *lines)
    fetching = fetcher()
    fetch(fetching, "echo:a")
    fetching.close()
    from brought_echo import Echo

    assert (Echo.made, Echo.closed) == (1, 1)
