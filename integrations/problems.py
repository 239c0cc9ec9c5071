"""What a route's document says of the errors it answers with: every front door's, so that the document is true."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

_WHY = {
    400: "The body is not JSON, or not a form",
    401: "BASIC_AUTH_USER and BASIC_AUTH_PASS are set, and these are others",
    403: "Whoever asks may not",
    404: "It is not there",
    409: "It cannot be done as things stand",
    413: "The body is larger than PRELABEL_MAX_BODY_BYTES",
    422: "The body is not what the route takes",
    503: "Redis, or another server that is needed, does not answer",
}


class Problem(BaseModel):
    """The body of an error's answer: one line that says what is wrong and, where there is one, the fix."""

    detail: str


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """FastAPI's `responses` of a route that answers with these statuses."""
    return {status: {"model": Problem, "description": _WHY[status]} for status in statuses}
