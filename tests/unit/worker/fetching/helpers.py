"""What the tests of fetching share."""

from prelabel.schemas import ImageRef

TOKEN = {"Authorization": "Token topsecret"}


def fetch(fetcher, uri):
    return fetcher.read(ImageRef(uri=uri))


def marks(fetcher, uri):
    """The marks offered while an object is read in full."""
    seen = []
    fetched = fetcher.fetch(ImageRef(uri=uri), lambda mark: bool(seen.append(mark)))
    assert fetched.content is not None
    assert seen == ([] if fetched.mark is None else [fetched.mark])
    return seen
