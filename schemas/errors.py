"""The error tree, grouped by what the caller must do.

- PrelabelError
    - ConfigError          fix a setting, a label config or an install; raised at start-up; HTTP 4xx
        - WireVersionError     the message was written by another prelabel version: upgrade one side
    - ItemError            this image can never be scored: reported on the item, never retried
    - TransientError       try again with backoff (store, platform or broker unavailable, overloaded)
        - BrokerUnavailable    Redis does not answer
    - ScorerError          the model side is in trouble
        - OutOfMemory          halve the batch and go on
        - ModelLoadError       the checkpoint cannot be loaded: exit, name the cause
            - ModelUnreachable     for the hub that has it did not answer

Every message names the cause and, where there is one, the fix. No message holds a password, a token or a
signed query string.
"""

from __future__ import annotations


class PrelabelError(Exception):
    """Root of everything prelabel raises on purpose."""


class ConfigError(PrelabelError):
    """A setting, a label config or an install is wrong. The message names the fix."""


class WireVersionError(ConfigError):
    """A message carries a wire version this prelabel does not speak."""


class ItemError(PrelabelError):
    """This item can never be scored (missing, too large, not an image, forbidden address). Not retried."""


class TransientError(PrelabelError):
    """Something outside is unavailable for now; the same call may succeed later.

    Attributes:
        retry_after_s: seconds it asked to be left alone for; None when it did not say.
    """

    def __init__(self, message: str = "", *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class BrokerUnavailable(TransientError):
    """Redis cannot be reached or refuses us."""


class ScorerError(PrelabelError):
    """The model side failed."""


class OutOfMemory(ScorerError):
    """The device ran out of memory for this batch; a smaller batch may fit."""


class ModelLoadError(ScorerError):
    """The checkpoint cannot be loaded; the worker must not start."""


class ModelUnreachable(ModelLoadError):
    """The hub that has the checkpoint did not answer; what the settings name may be right."""
