import threading

import httpx
import pytest

from prelabel.integrations.label_studio.api.auth import LabelStudioAuth
from prelabel.schemas import ConfigError, TransientError
from prelabel.schemas.settings import load_settings


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def test_legacy_token_is_sent_as_it_is(label_studio):
    auth = LabelStudioAuth(label_studio.url, label_studio.legacy + "\n")
    assert auth.headers() == {"Authorization": f"Token {label_studio.legacy}"}
    assert label_studio.calls == []


def test_personal_token_is_exchanged_and_kept_until_30_s_before_its_end(label_studio):
    clock = Clock()
    auth = LabelStudioAuth(label_studio.url, label_studio.personal, clock=clock)
    first = auth.headers()
    assert first["Authorization"] in label_studio.keys
    clock.now = 269.0
    assert auth.headers() == first
    clock.now = 270.5
    assert auth.headers() != first
    assert label_studio.refreshes == 2


def test_threads_share_one_exchange(label_studio):
    auth = LabelStudioAuth(label_studio.url, label_studio.personal)
    threads = [threading.Thread(target=auth.headers) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert label_studio.refreshes == 1


def test_a_revoked_access_token_is_exchanged_once_more(label_studio):
    auth = LabelStudioAuth(label_studio.url, label_studio.personal)
    with httpx.Client(auth=auth) as client:
        assert client.get(f"{label_studio.url}/api/current-user/whoami").status_code == 200
        label_studio.keys.clear()
        assert client.get(f"{label_studio.url}/api/current-user/whoami").status_code == 200
    assert label_studio.refreshes == 2


def test_an_unknown_personal_token_names_the_fix(label_studio):
    key = label_studio.personal[:-2] + "zz"
    auth = LabelStudioAuth(label_studio.url, key)
    with pytest.raises(ConfigError, match=r"refuses LABEL_STUDIO_API_KEY.*Personal Access Token") as refused:
        auth.headers()
    assert key not in str(refused.value)
    assert key not in repr(auth)


def test_label_studio_down(label_studio):
    auth = LabelStudioAuth(label_studio.url, label_studio.personal)
    label_studio.fail_with = 503
    with pytest.raises(TransientError, match="answers 503"):
        auth.headers()
    auth = LabelStudioAuth("http://127.0.0.1:1", label_studio.personal)
    with pytest.raises(TransientError, match="does not answer: ConnectError"):
        auth.headers()


def test_something_else_at_the_address(label_studio):
    label_studio.html = True
    with pytest.raises(ConfigError, match=r"check the address"):
        LabelStudioAuth(label_studio.url, label_studio.personal).headers()


def test_settings_must_name_url_and_key():
    with pytest.raises(ConfigError, match="LABEL_STUDIO_URL is not set"):
        LabelStudioAuth.from_settings(load_settings(label_studio_api_key="x"))
    with pytest.raises(ConfigError, match="LABEL_STUDIO_API_KEY is not set"):
        LabelStudioAuth.from_settings(load_settings(label_studio_url="http://ls"))


def test_covers_media_only():
    auth = LabelStudioAuth("http://ls:8080/", "key")
    assert auth.covers("http://ls:8080/data/upload/1/x.jpg")
    assert not auth.covers("http://ls:8080/images/x.jpg")
