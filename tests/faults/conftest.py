"""The world the cases run in, their reports, and the table at the end."""

from __future__ import annotations

import random
import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pytest
import redis
from rich.console import Console

from prelabel.integrations import Client
from prelabel.schemas import Settings
from prelabel.schemas.settings import load_settings
from prelabel.worker.demo.story import CHECKPOINT
from tests.faults.proxy import Proxy
from tests.faults.report import Report, table
from tests.faults.server import RedisServer
from tests.faults.site import LONG_RUN, Site
from tests.faults.truth import Truth
from tests.faults.web import Web
from tests.faults.workers import Worker
from tests.label_studio import LEGACY, LabelStudio, running

_REPORTS = pytest.StashKey[list[Report]]()
_SEED = pytest.StashKey[int]()


def pytest_configure(config: pytest.Config) -> None:
    seed = config.getoption("--fault-seed")
    config.stash[_REPORTS] = []
    config.stash[_SEED] = secrets.randbelow(10**6) if seed is None else seed


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.slow)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    reports = config.stash[_REPORTS]
    if not reports:
        return
    console = Console(width=150, no_color=not terminalreporter.hasmarkup, highlight=False)
    terminalreporter.section(f"faults (--fault-seed {config.stash[_SEED]})")
    for title, chosen in (
        ("cases: lost, doubled and wrong must be 0", [one for one in reports if not one.guard]),
        ("controls, a guard off: something must be lost, doubled or wrong", [one for one in reports if one.guard]),
    ):
        if chosen:
            with console.capture() as printed:
                console.print(table(chosen, title))
            terminalreporter.write(printed.get())


@dataclass
class World:
    """Redis, the proxy before it, an image server and a Label Studio; sites are made on them."""

    server: RedisServer
    proxy: Proxy
    web: Web
    label_studio: LabelStudio
    settings: Settings
    directory: Path
    seed: int
    items: int

    @cached_property
    def truth(self) -> Truth:
        """Pictures and their labels; scored while the first workers start."""
        made = Truth(self.directory / "pictures", self.settings)
        self.web.serve(made.pictures)
        return made

    def site(self, name: str, database: int, *, supervised: bool = True, **changes: object) -> Site:
        """Two workers and whoever uses them, on a Redis database of their own."""
        switches = self.directory / f"{name}-switches"
        switches.mkdir(exist_ok=True)
        settings = self.settings.model_copy(update=changes)
        past = load_settings(redis_url=self.server.url(database))
        behind = load_settings(**{**settings.model_dump(), "redis_url": self.server.url(database, self.proxy.port)})
        workers = [
            Worker(behind, self.directory / f"{name}-{letter}.log", switches, supervised=supervised) for letter in "ab"
        ]
        return Site(
            settings=behind,
            client=Client(past),
            redis=redis.Redis.from_url(
                self.server.url(database),
                decode_responses=True,
                encoding_errors="surrogateescape",  # outcomes are bytes
                socket_timeout=5,
            ),
            switches=switches,
            truth=self.truth,
            rng=random.Random(self.seed),
            items=self.items,
            workers=workers,
        )


@pytest.fixture(scope="session")
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Everything but the workers."""
    directory = tmp_path_factory.mktemp("faults")
    pictures = directory / "pictures"
    pictures.mkdir()
    seed, items = request.config.stash[_SEED], request.config.getoption("--fault-items")
    with ExitStack() as stack:
        web = Web(random.Random(seed))
        stack.callback(web.close)
        label_studio = stack.enter_context(running())
        server = RedisServer(directory)
        stack.callback(server.close)
        proxy = Proxy(server.port)
        stack.callback(proxy.close)
        settings = load_settings(
            model=str(CHECKPOINT),
            image_roots=(pictures,),
            allow_hosts=(web.host,),
            label_studio_url=label_studio.url,
            label_studio_api_key=LEGACY,
            lease_s=3,
            grace_s=3,
            bulk_chunks=2,
            fetch_timeout_s=2,
            fetch_attempts=5,
            item_retries=1 if items < LONG_RUN else 5,
            max_image_bytes=2**20,
            vector_store="off",  # an image is fetched and scored each time, so that a fault meets it
        )
        yield World(server, proxy, web, label_studio, settings, directory, seed, items)


@pytest.fixture(scope="session")
def shared_site(world: World) -> Iterator[Site]:
    """Two supervised workers with short leases, for all cases that can share them."""
    made = world.site("shared", 0)
    yield made
    made.close()


@pytest.fixture
def site(request: pytest.FixtureRequest, world: World, shared_site: Site) -> Iterator[Site]:
    """The shared site, with one worker ready at least; random points depend on the seed and the test alone."""
    shared_site.rng = random.Random(f"{world.seed} {request.node.name}")
    shared_site.ready(1)
    yield shared_site
    shared_site.calm()


@pytest.fixture
def long_run(world: World) -> None:
    """For what takes too long for `make test`."""
    if world.items < LONG_RUN:
        pytest.skip("runs in `make faults`")


@pytest.fixture
def report(request: pytest.FixtureRequest) -> Report:
    """This case's row, named as the test is."""
    return _report(request, "")


@pytest.fixture
def control(request: pytest.FixtureRequest) -> Callable[[str], Report]:
    """Makes a negative control's row; takes the guard that is off."""
    return lambda guard: _report(request, guard)


def _report(request: pytest.FixtureRequest, guard: str) -> Report:
    name = request.node.name.removeprefix("test_").removeprefix("control_").replace("_", " ")
    made = Report(name, guard)
    request.config.stash[_REPORTS].append(made)
    return made
