"""Commands that run until they are stopped: up, worker, serve."""

from __future__ import annotations

import importlib.util
import logging
import sys
import time
from contextlib import ExitStack, nullcontext
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from ...integrations.broker.connection import connect_redis
from ...schemas.errors import ConfigError
from ...schemas.settings import Settings, get_settings, load_settings
from .console import err, interruptible, needs, out, plain, user_errors
from .doing import Doing
from .here import settings_here

if TYPE_CHECKING:
    from ..delivering.thumbnails import ThumbnailMaker

log = logging.getLogger(__name__)


def up(
    model: Annotated[
        str | None, typer.Option(help="Hub id or directory; default PRELABEL_MODEL", show_default=False)
    ] = None,
    port: Annotated[int | None, typer.Option(help="Port of the adapter; default 9090", show_default=False)] = None,
) -> None:
    """Run everything on this machine: Redis, a worker and the Label Studio adapter.

    Needs no server: a packaged Redis-compatible one is started on loopback, with its data in the state directory, so
    that queued work survives a restart. It listens on 6379, or where that is taken on another port, the same at each
    start; prelabel's other commands find it there. With PRELABEL_REDIS_URL set that Redis is used instead.
    Ctrl-C stops all of it.
    """
    with user_errors():
        with needs("all"):
            from ..model.checkpoint import require_folder
            from ..running.announced import announced
            from ..running.broker import DEFAULT_PORT
            from ..running.stack import local_stack

        _require("worker", "torch", "transformers", "boto3", "PIL")
        _require("label-studio", "uvicorn", "fastapi")
        settings = _with(get_settings(), model=model, port=port)
        require_folder(settings.model)  # before anything is started for it
        embedded = "redis_url" not in get_settings().model_fields_set
        try:
            with (
                interruptible(),
                local_stack(settings, settings.state_dir, adapter=True, embedded=embedded) as stack,
                announced(settings.state_dir, stack.redis_port, "prelabel up") if embedded else nullcontext(),
            ):
                with Doing("starting") as doing:
                    stack.wait_until_ready(doing.update)
                table = Table(show_header=False, box=None)
                table.add_row(
                    "Redis", plain(stack.settings_shown_url()), "(embedded)" if embedded else "(PRELABEL_REDIS_URL)"
                )
                worker = stack.workers()[0]
                table.add_row("worker", plain(worker.model), f"on {worker.device}, {worker.dtype}")
                table.add_row("adapter", plain(stack.adapter_url or ""), "Label Studio > Settings > Model > this URL")
                table.add_row("logs", plain(str(stack.logs)), "")
                out.print(table)
                if embedded:
                    out.print("prelabel's commands in other terminals find this Redis by themselves")
                    if stack.redis_port != DEFAULT_PORT:
                        out.print(f"programs need: [bold]export PRELABEL_REDIS_URL={plain(stack.redis_url)}[/]")
                out.print("ready; Ctrl-C stops everything")
                while True:
                    stack.check()
                    time.sleep(0.5)
        except KeyboardInterrupt:
            err.print("stopped")


def worker() -> None:
    """Run one worker: it takes chunks from Redis, scores them, and is started again should it die.

    One worker per GPU. The first SIGTERM or Ctrl-C lets it finish or hand back what it has (PRELABEL_GRACE_S), the
    second stops it at once; nothing is lost either way.
    """
    with user_errors():
        settings = settings_here()
        _require("worker", "torch", "transformers", "boto3", "PIL")
        connect_redis(settings)  # a URL that is none is told here, not by a child that dies again and again
        from ..running.supervisor import Supervisor
        from ..telemetry.logs import configure_logging

        configure_logging(settings.log_level, settings.log_format)
        sys.exit(Supervisor(settings).run())


def serve(
    host: Annotated[str | None, typer.Option(help="Address; default PRELABEL_HOST or 127.0.0.1")] = None,
    port: Annotated[int | None, typer.Option(help="Port; default PRELABEL_PORT or 9090")] = None,
) -> None:
    """Run the Label Studio ML-backend adapter."""
    with user_errors():
        settings = _with(settings_here(), host=host, port=port)
        with needs("label-studio"):
            import uvicorn

            from ...integrations.http.app import create_app
            from ...integrations.telemetry.server import serve_metrics
            from ..machine.ports import require_free_port
        from ...integrations.client.checkpoint import settings_model_id
        from ...integrations.client.client import Client
        from ..telemetry.logs import configure_logging

        require_free_port(settings.host, settings.port)
        configure_logging(settings.log_level, settings.log_format)
        # A request must not hang until Redis is back: Label Studio would give up on it long before.
        with Client(settings.model_copy(update={"broker_wait_s": 0})) as client, ExitStack() as stack:
            maker = _thumbnail_maker(settings)
            if maker is not None:
                stack.callback(maker.close)
            app = create_app(settings, client, model=settings_model_id(settings), thumbnail=maker)
            if settings.metrics_port:
                serve_metrics(app.state.registry, settings.host, settings.metrics_port)
            uvicorn.run(app, host=settings.host, port=settings.port, log_config=None, access_log=False)


def _thumbnail_maker(settings: Settings) -> ThumbnailMaker | None:
    """What makes small pictures for the page; None where the adapter is installed without what decodes images."""
    try:
        from ..delivering.thumbnails import ThumbnailMaker
    except ModuleNotFoundError as error:
        log.info("the page shows no pictures of tasks, %s is not installed: pip install prelabel[pictures]", error.name)
        return None
    return ThumbnailMaker(settings)


def _require(extra: str, *modules: str) -> None:
    """Refuse to start children that could only die; looks for modules without loading them."""
    for module in modules:
        if importlib.util.find_spec(module) is None:
            raise ConfigError(f"{module} is not installed, this command needs it: pip install prelabel[{extra}]")


def _with(settings: Settings, **changes: Any) -> Settings:
    given = {name: value for name, value in changes.items() if value is not None}
    return load_settings(**{**settings.model_dump(), **given}) if given else settings
