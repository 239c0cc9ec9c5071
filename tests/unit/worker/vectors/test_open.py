"""Which vector store is opened is told by `PRELABEL_VECTOR_STORE`: ours, or what another package brings."""

from __future__ import annotations

import pytest

from prelabel.schemas import ConfigError
from prelabel.schemas.settings import load_settings
from prelabel.worker.vectors.disk.store import DiskStore
from prelabel.worker.vectors.open import GROUP, open_store
from prelabel.worker.vectors.redis import RedisStore
from prelabel.worker.vectors.store import EmbeddingStore, NoStore
from tests.packages import Site

SHELF = """
from prelabel.worker.vectors.store import NoStore

class Shelf(NoStore):
    def __init__(self, settings):
        self.url = settings.vector_store.get_secret_value()
"""


def opened(vector_store: str, **settings: object) -> EmbeddingStore:
    return open_store(load_settings(vector_store=vector_store, **settings))


def test_a_store_of_a_package_is_made_of_the_settings(site: Site) -> None:
    site.install("brought_shelf", SHELF, GROUP, "shelf = brought_shelf:Shelf")
    store = opened("shelf://user:secret@host/Path")
    assert isinstance(store, NoStore)
    assert vars(store) == {"url": "shelf://user:secret@host/Path"}


def test_ours_are_not_replaced_and_a_package_that_is_not_chosen_is_not_imported(
    site: Site, tmp_path, broker_url
) -> None:
    names = ("disk", "off", "redis", "rediss", "other")
    site.install("brought_bad", "raise RuntimeError", GROUP, *(f"{name} = brought_bad:Bad" for name in names))
    kinds = {"off": NoStore, "disk": DiskStore, broker_url: RedisStore}
    for choice, kind in kinds.items():
        store = opened(choice, vector_store_dir=tmp_path / "vectors", redis_url="redis://elsewhere:1/0")
        assert type(store) is kind
        store.close()


def test_a_scheme_nobody_brings_is_refused_with_those_that_are_there(site: Site) -> None:
    site.install("brought_shelf", SHELF, GROUP, "shelf = brought_shelf:Shelf")
    with pytest.raises(ConfigError, match=r"store for table: URLs; use disk, off, or .* or a shelf: URL$") as refused:
        opened("table://s3cret")
    assert "s3cret" not in str(refused.value)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("raise RuntimeError('no wood')", "brought_x:make cannot be imported: no wood"),
        ("def make(settings): raise RuntimeError('no wood')", "brought_x:make failed: no wood"),
        ("def make(settings): return {}", "brought_x:make made dict, which is no EmbeddingStore"),
    ],
)
def test_a_broken_package_is_one_line(site: Site, source: str, message: str) -> None:
    site.install("brought_x", source, GROUP, "shelf = brought_x:make")
    with pytest.raises(ConfigError, match=message) as refused:
        opened("shelf://")
    assert str(refused.value).startswith("the vector store 'shelf' of brought_x 1.2: ")
