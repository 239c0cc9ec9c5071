"""Imported by Python itself at the start of every worker process of the suite (its folder is on PYTHONPATH).

prelabel's code is as it is; here it gets slower, meets a poisonous item, or loses one of its guards, while a file of
that name lies in the folder that FAULT_SWITCHES names. So one worker process serves cases and controls alike.
"""

from __future__ import annotations

import os
import sys
import time
import traceback
from pathlib import Path
from typing import Any

_FOLDER = os.environ.get("FAULT_SWITCHES", "")


def _on(switch: str) -> bool:
    return (Path(_FOLDER) / switch).exists()


def _pace_s() -> float:
    """Seconds an image takes on top."""
    try:
        return float((Path(_FOLDER) / "pace").read_text())
    except (OSError, ValueError):
        return 0.0


def _without(script: str, guard: str, instead: str) -> str:
    if script.count(guard) != 1:
        raise RuntimeError(f"the guard {guard!r} is not in the script any more")
    return script.replace(guard, instead)


def _worker() -> None:
    from prelabel.integrations.label_studio.deliver.push import Pusher
    from prelabel.integrations.ledger import scripts
    from prelabel.integrations.ledger.leases import Ledger
    from prelabel.schemas.errors import ItemError, TransientError
    from prelabel.worker.fetching.fetcher import Fetcher
    from prelabel.worker.model.tower import TorchImages

    encode, start, fetch, push = TorchImages.encode, TorchImages.start, Fetcher.fetch, Pusher.push
    init, renew, reap, overdue = Ledger.__init__, Ledger.renew, Ledger.reap, Ledger.overdue

    def as_switched(images: Any) -> None:
        if _on("encoder-breaks"):
            (Path(_FOLDER) / "encoder-breaks").unlink()
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        time.sleep(len(images) * _pace_s())

    def encode_images(self: Any, batch: Any) -> Any:
        as_switched(batch)
        return encode(self, batch)

    def start_images(self: Any, images: Any) -> Any:
        as_switched(images)
        return start(self, images)

    def fetch_image(self: Any, ref: Any, known: Any) -> Any:
        if "poison" in ref.uri and _on("poison"):
            os.abort()  # as a decoder may that is given this
        if not _on("no-retries"):
            return fetch(self, ref, known)
        self._attempts = 1
        try:
            return fetch(self, ref, known)
        except TransientError as error:
            raise ItemError(str(error)) from None

    def push_once(self: Any, target: Any, predictions: Any, *, check_existing: bool = False, who: str = "") -> Any:
        return push(self, target, predictions, check_existing=check_existing and not _on("no-check-existing"), who=who)

    complete = _without(scripts.COMPLETE, "~= ARGV[2]", "== 'nobody'")
    complete = _without(complete, "ordinal, 1) == 1 then", "ordinal, 1) == 2 then")
    claim = _without(
        scripts.CLAIM, "if score ~= score then return {'gone'} end", "if score ~= score then score = 0 end"
    )
    claim = _without(claim, "if score > now then return {'busy'} end", "if score > now then score = 0 end")

    def make(self: Any, client: Any, **options: Any) -> None:
        init(self, client, **options)
        fenced, unfenced = self._complete, client.register_script(complete)
        self._complete = lambda **call: (unfenced if _on("no-fence") else fenced)(**call)
        refusing, yielding = self._claim, client.register_script(claim)
        self._claim = lambda **call: (yielding if _on("no-refusal") else refusing)(**call)

    TorchImages.encode, TorchImages.start = encode_images, start_images  # type: ignore[method-assign]
    Fetcher.fetch = fetch_image  # type: ignore[method-assign]
    Pusher.push = push_once  # type: ignore[method-assign]
    Ledger.__init__ = make  # type: ignore[assignment,method-assign]
    Ledger.renew = lambda self, lease: renew(self, lease) or _on("no-fence")  # type: ignore[method-assign]
    Ledger.reap = lambda self, job: [] if _on("no-reaping") else reap(self, job)  # type: ignore[method-assign]
    Ledger.overdue = (  # type: ignore[method-assign]
        lambda self, *of, **how: [] if _on("no-overdue") else overdue(self, *of, **how)
    )


def _supervisor() -> None:
    from prelabel.integrations.ledger.leases import Ledger

    free = Ledger.free_owner
    Ledger.free_owner = (  # type: ignore[method-assign]
        lambda self, owner, why: [] if _on("no-freeing") else free(self, owner, why)
    )


def _install() -> None:
    command = sys.orig_argv
    try:
        if "celery" in command and "worker" in command:
            _worker()
        elif command[-2:] == ["prelabel.worker.cli", "worker"]:
            _supervisor()
    except Exception:  # Python would only mention it and go on
        traceback.print_exc()
        os._exit(99)


if _FOLDER:
    _install()
