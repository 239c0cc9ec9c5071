"""What the tests of fetching share."""

from prelabel.schemas import ImageRef

TOKEN = {"Authorization": "Token topsecret"}


def fetch(fetcher, uri):
    return fetcher.fetch(ImageRef(uri=uri))


def marks(fetcher, uri):
    """The marks offered while an object is read in full."""
    seen = []
    assert fetcher.fetch_unless(ImageRef(uri=uri), lambda mark: bool(seen.append(mark))) is not None
    return seen
