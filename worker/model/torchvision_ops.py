"""torchvision beside a torch that it was not built for, as beside a CPU build where pip found the one for CUDA alone.

Its compiled half cannot be loaded then, and it does not even import, for it describes two operators of that half to
torch. transformers imports it wherever it is installed, and open_clip always; both take nothing but Python from it. So
the two are declared, without a kernel: whoever calls one is told that there is none.
"""

from __future__ import annotations

import importlib.util
import logging
from functools import lru_cache
from pathlib import Path
from typing import Final

import torch

log = logging.getLogger(__name__)

_DESCRIBED: Final = ("nms", "qnms")
"""What torchvision/_meta_registrations.py describes to torch, whether its compiled half is there or not."""


@lru_cache(maxsize=1)
def make_importable() -> torch.library.Library | None:
    """Declare what torchvision's import needs, where its own compiled half does not bring it.

    To be called before transformers or open_clip import it. Does nothing where there is no torchvision.

    Returns:
        The declarations, which last as long as this object does; None where there are none.
    """
    spec = importlib.util.find_spec("torchvision")
    if spec is None or not spec.submodule_search_locations:
        return None
    reason = "it has none"
    for path in sorted(Path(spec.submodule_search_locations[0]).glob("_C.*")):
        try:
            torch.ops.load_library(path)  # type: ignore[no-untyped-call]
            return None
        except OSError as error:
            reason = str(error).splitlines()[0]
    log.debug("torchvision's compiled half is not for this torch, it goes without: %s", reason)
    declared = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
    for name in _DESCRIBED:
        declared.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")  # type: ignore[no-untyped-call]
    return declared
