"""From references to embeddings: a file with many regions is fetched and decoded once."""

import io
import threading
import time
from collections import deque

import numpy as np
import pytest
from PIL import Image

from prelabel.schemas import ImageRef, ItemError, Region
from prelabel.worker.decoding.budget import DecodeBudget
from prelabel.worker.decoding.pixels import EncodedImage
from prelabel.worker.embedding.images import ImageEmbedder, LastFile
from prelabel.worker.fetching.reader import Fetched
from prelabel.worker.model.colour import ColourEncoder
from prelabel.worker.model.engine import Engine
from prelabel.worker.vectors.records import Block
from prelabel.worker.vectors.store import NoStore
from tests.conftest import eventually


class DictStore(NoStore):
    def __init__(self):
        self.vectors, self.stamps = {}, {}

    def get(self, keys):
        return {key: self.vectors[key] for key in keys if key in self.vectors}

    def put(self, vectors):
        self.vectors.update(vectors)

    def lookup(self, stamps):
        return {stamp: self.stamps[stamp] for stamp in stamps if stamp in self.stamps}

    def remember(self, stamps):
        """As the store on disk: a mark of a vector that is not there is dropped."""
        self.stamps.update({stamp: key for stamp, key in stamps.items() if key in self.vectors})


def halves():
    """Left half red, right half blue; stored on its side, as cameras do, with the EXIF note that turns it upright."""
    picture = Image.new("RGB", (80, 40), (255, 0, 0))
    picture.paste((0, 0, 255), (40, 0, 80, 40))
    exif = Image.Exif()
    exif[0x0112] = 6
    data = io.BytesIO()
    picture.transpose(Image.Transpose.ROTATE_90).save(data, "PNG", exif=exif)
    return data.getvalue()


LEFT = Region(x=0, y=0, width=50, height=100)
RIGHT = Region(x=50, y=0, width=50, height=100)


@pytest.fixture
def budget():
    return DecodeBudget(10**9)


def of_one_thread(engine, fetch, store, **options):
    options = {"max_pixels": 10**6, "fetches": 1, "decodes": 1, "preprocessing": "fast", "urgent": False, **options}
    return ImageEmbedder(engine, fetch, store, **options)


@pytest.fixture
def embedding(budget):
    """An embedder of one thread over files by name, the files, the names fetched, and its vector store."""
    engine = Engine(ColourEncoder(), 8)
    files, fetched, store = {"a.png": halves()}, [], DictStore()

    def fetch(image, is_known):
        fetched.append(image.uri)
        mark = f"mark of {image.uri}"
        return Fetched(mark, None if is_known(mark) else files[image.uri])

    embedder = of_one_thread(engine, fetch, store, budget=budget)
    yield embedder, files, fetched, store
    embedder.close()
    engine.close()


def colour(pending):
    return pending.vector.result(10)[:3].round(1).tolist()


def test_regions_of_one_file_are_cut_from_one_fetch_and_one_decoding(embedding, monkeypatch):
    embedder, _, fetched, _ = embedding
    decoded = []
    real = EncodedImage.image
    monkeypatch.setattr(EncodedImage, "image", lambda image: decoded.append(1) or real(image))
    last = LastFile()
    left, right = (embedder.embed(ImageRef(uri="a.png", region=region), last=last) for region in (LEFT, RIGHT))
    assert (colour(left), colour(right)) == ([1, -1, -1], [-1, -1, 1])
    assert fetched == ["a.png"]
    assert decoded == [1]


def test_regions_known_by_the_files_mark_are_not_read_again(embedding):
    embedder, _, _, store = embedding
    first = [embedder.embed(ImageRef(uri="a.png", region=region), last=LastFile()) for region in (LEFT, RIGHT)]
    for pending in first:
        pending.vector.result(10)
    eventually(lambda: len(store.stamps) == 2)  # remembered after the vectors
    last = LastFile()
    again = [embedder.embed(ImageRef(uri="a.png", region=region), last=last) for region in (LEFT, RIGHT)]
    assert [one.key for one in again] == [one.key for one in first]
    assert last.content == b""


class OneVector(DictStore):
    """Has a vector under any key, and a way to stream it."""

    def get(self, keys):
        return {key: np.ones(4, dtype=np.float32) for key in keys}

    def blocks(self, keys, rows=2048):
        if keys:
            yield Block(np.arange(len(keys)), np.ones((len(keys), 4), dtype=np.float16))


def test_a_key_that_a_job_hands_on_counts_only_where_vectors_are_made_the_same_way() -> None:
    def made(dtype):
        engine = Engine(ColourEncoder(dtype=dtype), 8)
        return engine, of_one_thread(engine, lambda image, _: Fetched(None, halves()), OneVector())

    (engine, ours), (other_engine, other) = made("float32"), made("bfloat16")
    key = ours.embed(ImageRef(uri="a.png")).key.hex()
    handed_on = ImageRef(uri="a.png", vector=key)
    assert list(ours.recall([handed_on])) == [key]
    assert list(other.recall([handed_on])) == []
    assert other.embed(handed_on).key.hex() != key
    for embedder in (ours, other):
        embedder.close()
    for one in (engine, other_engine):
        one.close()


def test_a_file_that_is_known_leaves_the_last_one_in_place(embedding):
    embedder, files, fetched, store = embedding
    files["b.png"] = halves()
    embedder.embed(ImageRef(uri="b.png", region=LEFT)).vector.result(10)
    eventually(lambda: store.stamps)
    last = LastFile()
    for uri, region in (("a.png", LEFT), ("b.png", LEFT), ("a.png", RIGHT)):
        embedder.embed(ImageRef(uri=uri, region=region), last=last)
    assert fetched == ["b.png", "a.png", "b.png"]


def test_a_file_that_came_without_its_content_though_it_is_not_known_fails_its_image(embedding):
    embedder, files, _, _ = embedding
    files["a.png"] = None
    with pytest.raises(ItemError, match=r"a\.png: .* neither an image nor a mark that is known"):
        embedder.embed(ImageRef(uri="a.png"))


def test_another_file_is_another_fetch(embedding):
    embedder, files, fetched, _ = embedding
    files["b.png"] = halves()
    last = LastFile()
    keys = {embedder.embed(ImageRef(uri=uri, region=LEFT), last=last).key for uri in ("a.png", "b.png", "a.png")}
    assert fetched == ["a.png", "b.png", "a.png"]
    assert len(keys) == 1, "the content is the same"


def test_a_region_without_a_pixel_spoils_no_other(embedding):
    embedder, _, _, _ = embedding
    last = LastFile()
    with pytest.raises(ItemError, match="smaller than a pixel"):
        embedder.embed(ImageRef(uri="a.png", region=Region(x=1, y=1, width=0.1, height=0.1)), last=last)
    assert np.allclose(colour(embedder.embed(ImageRef(uri="a.png", region=RIGHT), last=last)), [-1, -1, 1])


def test_work_is_done_in_order_and_what_is_called_off_is_not(embedding):
    embedder, *_ = embedding  # one thread
    began, go_on, done = threading.Event(), threading.Event(), []
    todo = deque(range(5))

    def work(number):
        done.append(number)
        if number == 2:
            began.set()
            assert go_on.wait(10)

    embedder.run(work, todo)
    assert began.wait(10)
    todo.clear()
    go_on.set()
    last = deque(["last"])
    embedder.run(done.append, last)
    eventually(lambda: done[-1] == "last")
    assert done == [0, 1, 2, "last"]


# --- what is urgent goes first ---------------------------------------------------------------------------------------


@pytest.fixture
def embedder():
    """Makes embedders of plain images over one engine."""
    engine, made = Engine(ColourEncoder(), 8), []

    def make(*, urgent, thumbnail=lambda _: ""):
        made.append(
            ImageEmbedder(
                engine,
                lambda image, _: Fetched(None, plain(8)),
                NoStore(),
                max_pixels=10**6,
                fetches=2,
                decodes=2,
                preprocessing="fast",
                urgent=urgent,
                budget=DecodeBudget(10**9),
                thumbnail=thumbnail,
            )
        )
        return made[-1]

    yield make, engine.precedence
    for one in made:
        one.close(wait=True)
    engine.close()


@pytest.mark.parametrize("region", [None, LEFT], ids=["whole", "region"])
def test_an_urgent_image_is_announced_while_it_is_decoded(embedder, region):
    make, precedence = embedder
    seen = []
    urgent = make(urgent=True, thumbnail=lambda _: str(seen.append(precedence.expected)))
    urgent.embed(ImageRef(uri="a.png", region=region)).vector.result(10)
    assert seen == [True]
    assert not precedence.expected


@pytest.mark.parametrize("region", [None, LEFT], ids=["whole", "region"])
def test_no_bulk_image_is_decoded_while_an_urgent_one_is_expected_that_needs_the_cores(embedder, region, monkeypatch):
    monkeypatch.setattr("prelabel.worker.model.precedence.PATIENCE_S", 60.0)
    make, precedence = embedder
    decoded = []
    bulk = make(urgent=False, thumbnail=lambda _: str(decoded.append("bulk")))
    urgent = make(urgent=True, thumbnail=lambda _: str(decoded.append("urgent")))
    with precedence.expect():
        bulk.run(lambda uri: bulk.embed(ImageRef(uri=uri, region=region)), deque(["a.png", "b.png"]))
        time.sleep(0.1)
        urgent.embed(ImageRef(uri="c.png", region=region)).vector.result(10)
        assert decoded == ["urgent"]
    eventually(lambda: decoded == ["urgent", "bulk", "bulk"])


# --- the memory for decoding ---------------------------------------------------------------------------------------


class Decoding:
    """An embedder of four threads under a budget, whose images stay in the decoding until they are let go.

    Attributes:
        inside: names of the images that are being decoded.
        most: how many there were at once.
    """

    def __init__(self, engine, files, limit):
        self.budget = DecodeBudget(limit)
        self.inside, self.most = [], 0
        self.done: list[str] = []
        self._lock = threading.Lock()
        self._gates = {name: threading.Event() for name in files}
        self._name = threading.local()
        self.embedder = ImageEmbedder(
            engine,
            lambda image, _: Fetched(None, files[image.uri]),
            NoStore(),
            max_pixels=10**7,
            fetches=4,
            decodes=4,
            preprocessing="fast",
            urgent=False,
            budget=self.budget,
            thumbnail=self._pass_gate,
        )

    def start(self, *names, region=None):
        self.embedder.run(lambda name: self._embed(name, region), deque(names))

    def let_go(self, *names):
        for name in names:
            self._gates[name].set()

    def _embed(self, name, region):
        self._name.value = name
        self.embedder.embed(ImageRef(uri=name, region=region)).vector.result(10)
        self.done.append(name)

    def _pass_gate(self, _):
        name = self._name.value
        with self._lock:
            self.inside.append(name)
            self.most = max(self.most, len(self.inside))
        assert self._gates[name].wait(10)
        with self._lock:
            self.inside.remove(name)
        return ""

    def close(self):
        self.let_go(*self._gates)
        self.embedder.close(wait=True)


def plain(side, kind="PNG", mode="RGB"):
    data = io.BytesIO()
    Image.new(mode, (side, side)).save(data, kind)
    return data.getvalue()


@pytest.fixture
def decoding():
    """Makes a `Decoding` of these files under a budget of so many times what the first of them needs."""
    engine, started = Engine(ColourEncoder(), 8), []

    def start(files, times):
        needed = EncodedImage(next(iter(files.values())), max_pixels=10**7).memory
        started.append(Decoding(engine, files, int(times * needed)))
        return started[-1]

    yield start
    for one in started:
        one.close()
    engine.close()


def test_all_threads_together_decode_what_the_budget_has_memory_for(decoding):
    names = ["a", "b", "c", "d"]
    work = decoding(dict.fromkeys(names, plain(300)), 2.5)
    work.start(*names)
    eventually(lambda: len(work.inside) == 2 and work.budget.waiting == 2)
    work.let_go(*names)
    eventually(lambda: sorted(work.done) == names)
    assert (work.most, work.budget.taken) == (2, 0)


def test_pixels_that_take_more_memory_count_for_more(decoding):
    files = {"float": plain(300, "TIFF", "F"), "grey": plain(300, "PNG", "L"), "webp": plain(300, "WEBP")}
    work = decoding(files, 1.9)
    work.start("float")
    eventually(lambda: work.inside == ["float"])
    work.start("webp")
    eventually(lambda: work.budget.waiting == 1)
    work.let_go("float")
    eventually(lambda: work.inside == ["webp"])


def test_an_image_larger_than_the_budget_is_decoded_alone(decoding):
    work = decoding({"small": plain(300), "large": plain(1500), "next": plain(300)}, 3)
    work.start("small")
    eventually(lambda: work.inside == ["small"])
    work.start("large")
    eventually(lambda: work.budget.waiting == 1)
    work.start("next")
    eventually(lambda: work.budget.waiting == 2)
    work.let_go("small")
    eventually(lambda: work.inside == ["large"] and work.budget.waiting == 1)
    work.let_go("large", "next")
    eventually(lambda: sorted(work.done) == ["large", "next", "small"])


def test_what_a_file_keeps_for_further_regions_counts_until_it_is_left(embedding, budget):
    embedder, files, _, _ = embedding
    with LastFile() as last:
        embedder.embed(ImageRef(uri="a.png", region=LEFT), last=last)
        assert budget.taken == EncodedImage(files["a.png"], max_pixels=10**6).kept_memory
        embedder.embed(ImageRef(uri="a.png", region=RIGHT), last=last)
        embedder.embed(ImageRef(uri="a.png"), last=last)
        assert budget.taken == 0
        embedder.embed(ImageRef(uri="a.png", region=RIGHT), last=last)
    assert budget.taken == 0


def test_regions_of_a_damaged_file_fail_one_after_the_other(embedding, budget):
    embedder, files, _, _ = embedding
    files["a.png"] = files["a.png"][:-40]
    with LastFile() as last:
        for region in (LEFT, RIGHT):
            with pytest.raises(ItemError, match="damaged"):
                embedder.embed(ImageRef(uri="a.png", region=region), last=last)
            assert budget.taken <= EncodedImage(files["a.png"], max_pixels=10**6).image_memory
    assert budget.taken == 0
