"""When to try again: pauses of one's own, and those a server asks for."""

from __future__ import annotations

import random
import re
import time
from email.utils import parsedate_to_datetime
from typing import NamedTuple

_DOUBLINGS = 60
"""More make no difference to any cap, and a float cannot hold a thousand."""


_SECONDS = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?")
"""Whole ones by the standard; some servers say more."""


class Backoff(NamedTuple):
    """Pauses between tries that double with each failure.

    Attributes:
        base_s: longest pause after the first failure, in seconds.
        cap_s: longest pause after any.
    """

    base_s: float
    cap_s: float

    def longest_s(self, failures: int) -> float:
        """The longest pause after so many failures in a row, the first being 1; in seconds."""
        return min(self.cap_s, self.base_s * 2.0 ** min(failures - 1, _DOUBLINGS))

    def pause_s(self, failures: int) -> float:
        """A pause after so many failures in a row, in seconds: some part of the longest, at random.

        Many who failed together then do not come back together
        (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/).
        """
        return random.uniform(0, self.longest_s(failures))  # noqa: S311  # no secret


def retry_after_s(header: str) -> float | None:
    """Seconds from a Retry-After header, which holds seconds or a date; None when it holds neither.

    https://www.rfc-editor.org/rfc/rfc9110#name-retry-after
    """
    text = header.strip()
    if _SECONDS.fullmatch(text):
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, OverflowError, OSError):
        return None
