"""Small JPEGs of image files, made in a child process: a file that brings a decoder down takes nobody else with it.

The child is this module run as a program. It starts when it is first needed, ends when nobody has needed it for a
while, and at once with its parent, whose end closes its standard input. Both directions carry frames: a kind (one
byte), a length (four bytes, big-endian), and so many bytes.
"""

from __future__ import annotations

import contextlib
import io
import select
import struct
import subprocess
import sys
import threading
from typing import IO, Final

from PIL import Image

from ...schemas.errors import ItemError
from ..decoding.pixels import EncodedImage
from ..telemetry.logs import quiet_pillow

IDLE_S: Final = 120.0
"""Seconds after which a child that nobody needs ends."""

LONGEST_S: Final = 20.0
"""Seconds a file may take; the child is ended then."""

_QUALITY = 75
_HEAD = struct.Struct(">cI")
_FILE, _PICTURE, _REFUSED = b"f", b"p", b"r"


class SmallPictures:
    """Makes them, one at a time. Thread-safe; close it after use.

    Args:
        max_pixels: largest image that is decoded.
        side_px: longest side of what is made.
    """

    def __init__(self, max_pixels: int, side_px: int) -> None:
        self._command = [sys.executable, "-m", __name__, str(max_pixels), str(side_px)]
        self._lock = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None

    def make(self, data: bytes) -> bytes:
        """A JPEG of an image file, upright, on white where it is transparent.

        Raises:
            ItemError: it is no image, too large, damaged, takes too long or ends the process that decodes it.
        """
        with self._lock:
            for _ in range(2):  # the child may have ended just now, because nobody needed it
                frame = self._asked(data)
                if frame is not None:
                    break
            else:
                raise ItemError("the image cannot be decoded: it ends the process that tries")
        kind, body = frame
        if kind == _REFUSED:
            raise ItemError(body.decode())
        return body

    def close(self) -> None:
        """End the child."""
        with self._lock:
            self._end()

    def _asked(self, data: bytes) -> tuple[bytes, bytes] | None:
        """The child's frame; None where it has ended by itself instead.

        Raises:
            ItemError: it took too long and was ended: another child would be kept as long.
        """
        child = self._running()
        if child.stdin is None or child.stdout is None:
            return None
        late = threading.Event()

        def end_late() -> None:
            late.set()
            child.kill()

        limit = threading.Timer(LONGEST_S, end_late)
        limit.start()
        try:
            _send(child.stdin, _FILE, data)
            frame = _receive(child.stdout)
        except BrokenPipeError:
            frame = None
        finally:
            limit.cancel()
        if frame is None:
            self._end()
            if late.is_set():
                raise ItemError(f"the image cannot be decoded: it takes too long, more than {LONGEST_S:g} s")
        return frame

    def _running(self) -> subprocess.Popen[bytes]:
        if self._child is None or self._child.poll() is not None:
            self._end()
            self._child = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,  # decoders put texts of strangers there
                start_new_session=True,  # a Ctrl-C in the terminal is its parent's, whose end is its own
            )
        return self._child

    def _end(self) -> None:
        if self._child is None:
            return
        self._child.kill()
        self._child.wait()
        for pipe in (self._child.stdin, self._child.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
        self._child = None


def small_jpeg(data: bytes, max_pixels: int, side_px: int) -> bytes:
    """What the child does.

    Raises:
        ItemError: see `SmallPictures.make`.
    """
    small = Image.fromarray(EncodedImage(data, max_pixels=max_pixels, scaled=True).pixels())
    small.thumbnail((side_px, side_px), reducing_gap=2.0)
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=_QUALITY)
    return buffer.getvalue()


def _send(pipe: IO[bytes], kind: bytes, body: bytes) -> None:
    pipe.write(_HEAD.pack(kind, len(body)))
    pipe.write(body)
    pipe.flush()


def _receive(pipe: IO[bytes]) -> tuple[bytes, bytes] | None:
    """The next frame; None at the end."""
    head = pipe.read(_HEAD.size)
    if len(head) < _HEAD.size:
        return None
    kind, length = _HEAD.unpack(head)
    body = pipe.read(length)
    return (kind, body) if len(body) == length else None


def _serve(max_pixels: int, side_px: int) -> None:
    quiet_pillow()
    files, pictures = sys.stdin.buffer, sys.stdout.buffer
    # Each frame is read to its end, so nothing of the next one waits in the buffer when this asks.
    while select.select([files], [], [], IDLE_S)[0] and (frame := _receive(files)):
        try:
            _send(pictures, _PICTURE, small_jpeg(frame[1], max_pixels, side_px))
        except ItemError as error:
            _send(pictures, _REFUSED, str(error).encode())


if __name__ == "__main__":
    _serve(int(sys.argv[1]), int(sys.argv[2]))
