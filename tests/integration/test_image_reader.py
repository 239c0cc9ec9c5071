"""The image reader of docs/extending.md, installed as the package it tells people to make."""

from __future__ import annotations

# --8<-- [start:reader]
import zipfile

from prelabel.schemas import ItemError, Settings
from prelabel.worker.fetching.deadline import Deadline
from prelabel.worker.fetching.reader import Fetched, IsKnown, too_large


class ZipReader:
    """Reads `zip:/folder/archive.zip!name-inside.jpg`."""

    def __init__(self, settings: Settings) -> None:
        self._limit = settings.max_image_bytes

    def read(self, uri: str, deadline: Deadline, is_known: IsKnown) -> Fetched:
        archive, separator, name = uri.removeprefix("zip:").partition("!")
        if not separator:
            raise ItemError("not a reference into an archive: write zip:/path/archive.zip!name")
        try:
            with zipfile.ZipFile(archive) as opened:
                entry = opened.getinfo(name)
                if entry.file_size > self._limit:
                    raise too_large(self._limit)
                mark = f"{entry.CRC}:{entry.file_size}"
                return Fetched(mark, None if is_known(mark) else opened.read(entry))
        except (OSError, KeyError, zipfile.BadZipFile):
            raise ItemError("there is no such archive, or no such file in it") from None


# --8<-- [end:reader]

from collections.abc import Iterator
from pathlib import Path

import pytest

from prelabel.schemas import ImageRef
from prelabel.worker.fetching.fetcher import Fetcher
from prelabel.worker.fetching.readers import GROUP
from tests.packages import Site, announced_in_docs, marked


@pytest.fixture
def archive(photo: Path, tmp_path: Path) -> Path:
    made = tmp_path / "photos.zip"
    with zipfile.ZipFile(made, "w") as opened:
        opened.write(photo, "a.jpg")
    return made


@pytest.fixture
def fetcher(site: Site, settings: Settings) -> Iterator[Fetcher]:
    """One beside an installed package of the reader shown."""
    site.install("my_zip", marked(Path(__file__), "reader"), GROUP, *announced_in_docs(GROUP))
    fetcher = Fetcher(settings)
    yield fetcher
    fetcher.close()


def test_a_reader_reads_what_its_scheme_names(fetcher: Fetcher, archive: Path, photo: Path) -> None:
    assert fetcher.read(ImageRef(uri=f"zip:{archive}!a.jpg")) == photo.read_bytes()
    assert fetcher.fetch(ImageRef(uri=f"zip:{archive}!a.jpg"), lambda mark: ":" in mark).content is None


@pytest.mark.parametrize("inside", ["", "!b.jpg"])
def test_a_reader_says_what_can_never_be_read(fetcher: Fetcher, archive: Path, inside: str) -> None:
    with pytest.raises(ItemError, match=r"write zip:|no such file in it"):
        fetcher.read(ImageRef(uri=f"zip:{archive}{inside}"))
