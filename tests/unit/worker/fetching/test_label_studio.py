"""Media on Label Studio: access tokens live five minutes, jobs live longer."""

import threading

import pytest

from prelabel.schemas import ImageRef, ItemError
from prelabel.schemas.settings import load_settings
from prelabel.worker.fetching.open import make_fetcher
from tests.label_studio import running


@pytest.fixture
def label_studio():
    with running() as state:
        yield state


@pytest.fixture
def fetcher(label_studio):
    """Makes fetchers with an API key."""
    made = []

    def make(key):
        settings = load_settings(label_studio_url=label_studio.url, label_studio_api_key=key, fetch_attempts=1)
        made.append(make_fetcher(settings))
        return made[-1]

    yield make
    for one in made:
        one.close()


def fetch(fetcher, label_studio, path="/data/upload/1/a.jpg"):
    return fetcher.read(ImageRef(uri=label_studio.url + path))


@pytest.mark.parametrize("kind", ["legacy", "personal"])
def test_media_are_fetched_with_either_kind_of_key(label_studio, fetcher, kind):
    assert fetch(fetcher(getattr(label_studio, kind)), label_studio) == b'{"an image of project": 1}'


def test_an_access_token_that_ends_in_the_middle_of_a_job_is_exchanged_and_the_image_fetched(label_studio, fetcher):
    ours = fetcher(label_studio.personal)
    fetch(ours, label_studio)
    label_studio.keys.clear()  # five minutes pass
    assert fetch(ours, label_studio)
    assert label_studio.refreshes == 2


def test_threads_that_meet_an_ended_token_together_all_get_their_image(label_studio, fetcher):
    ours = fetcher(label_studio.personal)
    fetch(ours, label_studio)
    label_studio.keys.clear()
    found = []
    threads = [threading.Thread(target=lambda: found.append(fetch(ours, label_studio))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 6


def test_a_new_token_is_asked_for_once_an_image(label_studio, fetcher):
    label_studio.trouble = lambda method, path: 401 if path.startswith("/data/") else None
    with pytest.raises(ItemError, match="HTTP 401"):
        fetch(fetcher(label_studio.personal), label_studio)
    assert len(label_studio.calls_to("GET", "/data/upload/1/a.jpg")) == 2
    assert label_studio.refreshes == 2


def test_a_legacy_token_that_is_refused_is_not_sent_again(label_studio, fetcher):
    with pytest.raises(ItemError, match="HTTP 401"):
        fetch(fetcher("0" * 40), label_studio)
    assert len(label_studio.calls) == 1


def test_what_is_no_media_gets_no_token(label_studio, fetcher):
    with pytest.raises(ItemError, match="HTTP 401"):
        fetch(fetcher(label_studio.legacy), label_studio, "/api/current-user/whoami")
    assert label_studio.calls[0][3] == ""
