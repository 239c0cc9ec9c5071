"""What libtiff says of files goes to our log instead of stderr, each kind of message once.

Pillow raises what comes of an error; here are the words of the library, for who looks for the cause. Logged are the
part of libtiff that speaks and the message's pattern, which are libtiff's own: not the values, which are the file's.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
from typing import Any, Final

from .once import Once

log = logging.getLogger(__name__)

_Handler = ctypes.CFUNCTYPE(None, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_void_p)
"""`void handler(const char *module, const char *format, va_list values)`, see TIFFError(3tiff)."""

_SETTERS: Final = {"TIFFSetErrorHandler": "error", "TIFFSetWarningHandler": "warning"}

_said = Once()


def _handler(kind: str) -> Any:
    def hear(module: bytes | None, pattern: bytes | None, _: int | None) -> None:
        with contextlib.suppress(Exception):  # it is called from C, where nobody catches
            if not log.isEnabledFor(logging.DEBUG):
                return
            message = f"{_text(module)}: {_text(pattern)}"
            if _said.first(f"{kind} {message}"):
                log.debug("libtiff %s: %s", kind, message)

    return _Handler(hear)


_handlers: Final = {setter: _handler(kind) for setter, kind in _SETTERS.items()}
"""Kept for as long as the process runs: libtiff may call them at any time."""


def log_libtiff() -> None:
    """Have libtiff's messages in our log, at DEBUG, for the whole process."""
    try:
        from PIL import _imaging

        library = ctypes.CDLL(_imaging.__file__)
        setters = {name: getattr(library, name) for name in _handlers}
    except (ImportError, OSError, AttributeError):
        return  # no Pillow here, or one without libtiff, or with it built in
    for name, setter in setters.items():
        setter.argtypes, setter.restype = [_Handler], ctypes.c_void_p
        setter(_handlers[name])


def _text(part: bytes | None) -> str:
    return (part or b"").decode("ascii", "replace")[:200]
