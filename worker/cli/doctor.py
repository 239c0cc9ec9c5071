"""`prelabel doctor`: is everything there, and if not, what to do."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import typer
from rich.table import Table

from ...integrations.broker import broker_errors, connect_redis, shown_url
from ...integrations.chunks import absolute_item
from ...integrations.client import Client
from ...schemas.errors import PrelabelError
from ...schemas.items import Item
from ...schemas.settings import Settings, get_settings
from . import options
from .console import EXIT_FAILED, needs, out, print_json, user_errors

Status = Literal["ok", "warn", "fail"]

_LOW_DISK_BYTES = 2 * 2**30


@dataclass(frozen=True)
class Check:
    """One line of the report; `fix` says what to do about a warning or failure."""

    name: str
    status: Status
    detail: str
    fix: str = ""


def doctor(
    load_model: bool = typer.Option(False, "--load-model", help="Really load the checkpoint (slow for a big one)"),
    image: str | None = typer.Option(None, help="Also fetch and decode this image as a worker here would"),
    as_json: options.AsJson = False,
) -> None:
    """Check Redis, workers, model, device, Label Studio and disk; say what to do where something is wrong.

    Exit status 1 when a check failed; warnings do not count.
    """
    with user_errors():
        settings = get_settings()
    checks: list[Check] = []
    found = {
        "redis": _redis(settings),
        "workers": _workers(settings),
        "model": _model(settings, load_model),
        "label studio": _label_studio(settings),
        "image": _image(settings, image),
        "disk": _disk(settings),
    }
    for name, made in found.items():
        try:
            checks += made
        except PrelabelError as error:
            checks.append(Check(name, "fail", str(error)))
    if as_json:
        print_json([asdict(check) for check in checks])
    else:
        table = Table("check", "", "found", "fix", show_edge=False)
        colours = {"ok": "green", "warn": "yellow", "fail": "red"}
        for check in checks:
            table.add_row(check.name, f"[{colours[check.status]}]{check.status}[/]", check.detail, check.fix)
        out.print(table)
    if any(check.status == "fail" for check in checks):
        raise typer.Exit(EXIT_FAILED)


def _redis(settings: Settings) -> Iterator[Check]:
    with broker_errors(settings):
        info: dict[str, Any] = connect_redis(settings).info()
    name = f"{info.get('server_name', 'redis')} {info['redis_version']}"
    yield Check("redis", "ok", f"{name} at {shown_url(settings)}")
    if not info.get("aof_enabled"):
        yield Check("persistence", "warn", "no append-only file: a crash of Redis loses queued jobs", "appendonly yes")
    policy = info.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        yield Check("memory policy", "fail", f"{policy}: Redis may drop queued jobs", "maxmemory-policy noeviction")


def _workers(settings: Settings) -> Iterator[Check]:
    client = Client(settings.model_copy(update={"broker_wait_s": 0}))  # it is here to say what is wrong
    workers = client.workers()
    if not workers:
        yield Check("workers", "warn", "none is running", "prelabel worker, or prelabel up")
    for worker in workers:
        yield Check("worker", "ok", f"{worker.name}: {worker.model} on {worker.device} ({worker.dtype})")
    waiting = client.queues()
    yield Check("queues", "ok", ", ".join(f"{name} {length}" for name, length in waiting.items()))


def _model(settings: Settings, load: bool) -> Iterator[Check]:
    if importlib.util.find_spec("torch") is None:
        yield Check(
            "model", "warn", "torch is not installed here", "only workers need it: pip install prelabel[worker]"
        )
        return
    if load:
        from ...integrations.model_identity import settings_model_id
        from ..siglip import SiglipEncoder

        encoder = SiglipEncoder.from_settings(settings, settings_model_id(settings))
        yield Check("model", "ok", f"{encoder.model_id} loads on {encoder.device} ({encoder.dtype})")
        return
    directory = Path(settings.model).expanduser()
    if settings.model.startswith((".", "/", "~")) and not directory.is_dir():
        yield Check("model", "fail", f"{settings.model}: no such directory", "set PRELABEL_MODEL to a checkpoint")
        return
    if directory.is_dir():
        there = (directory / "config.json").is_file()
        detail = f"{settings.model} is a directory" + ("" if there else " without config.json")
        yield Check("model", "ok" if there else "fail", detail, "" if there else "set PRELABEL_MODEL to a checkpoint")
        return
    from huggingface_hub import try_to_load_from_cache

    cached = try_to_load_from_cache(settings.model, "config.json", revision=settings.pinned_revision)
    if isinstance(cached, str):
        yield Check("model", "ok", f"{settings.model} is in the cache")
    elif os.environ.get("HF_HUB_OFFLINE", "0") not in ("", "0"):
        yield Check(
            "model", "fail", f"{settings.model} is not in the cache, HF_HUB_OFFLINE is set", "copy it to HF_HOME"
        )
    else:
        yield Check(
            "model", "warn", f"{settings.model} is not in the cache: the first worker downloads it", "wait for it"
        )
    if settings.pinned_revision is None:
        yield Check("revision", "warn", "not pinned: an upload on the hub changes scores", "set PRELABEL_REVISION")


def _label_studio(settings: Settings) -> Iterator[Check]:
    if not settings.label_studio_url:
        yield Check("label studio", "warn", "LABEL_STUDIO_URL is not set", "only needed to push predictions")
        return
    with needs("label-studio"):
        import httpx
    from ...integrations.label_studio.auth import LabelStudioAuth

    headers = LabelStudioAuth.from_settings(settings).headers()
    try:
        reply = httpx.get(f"{settings.label_studio_url}/api/projects?page_size=1", headers=headers, timeout=10)
    except httpx.HTTPError as error:
        yield Check("label studio", "fail", f"{settings.label_studio_url}: {error}", "is it running, is the URL right?")
        return
    if reply.status_code == 200:
        yield Check("label studio", "ok", f"{settings.label_studio_url}, token accepted")
    else:
        yield Check(
            "label studio", "fail", f"{settings.label_studio_url} answers {reply.status_code}", "check the API key"
        )


def _image(settings: Settings, reference: str | None) -> Iterator[Check]:
    if reference is None:
        return
    with needs("worker"):
        from ..decode import decode
        from ..runtime import make_fetcher
    image = absolute_item(Item.of(reference)).images[0]
    fetcher = make_fetcher(settings)
    try:
        decoded = decode(fetcher.fetch(image), max_pixels=settings.max_image_pixels)
    finally:
        fetcher.close()
    yield Check("image", "ok", f"{image.display}: {decoded.width} x {decoded.height}")


def _disk(settings: Settings) -> Iterator[Check]:
    place = settings.state_dir
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    low = free < _LOW_DISK_BYTES
    yield Check(
        "disk", "warn" if low else "ok", f"{free / 2**30:.1f} GiB free at {settings.state_dir}", "free some" * low
    )
