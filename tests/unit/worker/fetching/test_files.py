"""Files below the roots and inline data: what is read, and that nothing leads out."""

import base64
import os

import pytest

from prelabel.schemas import ImageRef
from prelabel.schemas.errors import ItemError
from tests.unit.worker.fetching.helpers import fetch, marks

# --- files -----------------------------------------------------------------------------------------------------------


def test_a_file_uri_may_name_any_bytes(fetcher, tmp_path):
    (tmp_path / os.fsdecode(b"caf\xe9.jpg")).write_bytes(b"picture")
    assert fetch(fetcher(), f"file:{tmp_path}/caf%E9.jpg") == b"picture"


def test_a_file_below_a_root_is_read_however_it_is_named(fetcher, tmp_path):
    place = tmp_path / "sub" / "a b#1.jpg"
    place.parent.mkdir()
    place.write_bytes(b"picture")
    for uri in (
        str(place),
        "sub/a b#1.jpg",
        "sub/../sub/a b#1.jpg",
        place.as_uri(),
        f"file://localhost{place}",
        f"FILE:{place}",
    ):
        assert fetch(fetcher(), uri) == b"picture"


def test_roots_default_to_the_current_folder(fetcher, tmp_path, monkeypatch):
    (tmp_path / "here.jpg").write_bytes(b"picture")
    monkeypatch.chdir(tmp_path)
    assert fetch(fetcher(image_roots=None), "here.jpg") == b"picture"
    with pytest.raises(ItemError, match="PRELABEL_IMAGE_ROOTS"):
        fetch(fetcher(image_roots=None), "/etc/hostname")


def test_a_relative_path_is_looked_up_below_each_root(fetcher, tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    (tmp_path / "two" / "a.jpg").write_bytes(b"picture")
    assert fetch(fetcher(image_roots=(tmp_path / "one", tmp_path / "two")), "a.jpg") == b"picture"


def test_no_way_leads_out_of_the_roots(fetcher, tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "root-of-evil").mkdir()
    for place in (tmp_path / "secret", tmp_path / "root-of-evil" / "secret"):
        place.write_bytes(b"secret")
    (root / "link").symlink_to(tmp_path / "secret")
    (root / "folder").symlink_to(tmp_path)
    one = fetcher(image_roots=(root,))
    for uri in (
        "../secret",
        "link",
        "folder/secret",
        str(tmp_path / "secret"),
        f"{root}/../secret",
        f"file://{root}/%2e%2e/secret",
        "../root-of-evil/secret",
        "../does-not-exist",
        "/etc/passwd",
    ):
        with pytest.raises(ItemError, match="outside the folders"):
            fetch(one, uri)


def test_a_link_that_stays_inside_is_followed(fetcher, tmp_path):
    (tmp_path / "real.jpg").write_bytes(b"picture")
    (tmp_path / "link.jpg").symlink_to("real.jpg")
    assert fetch(fetcher(), "link.jpg") == b"picture"


@pytest.mark.timeout(5)
def test_a_pipe_is_refused_without_waiting_on_it(fetcher, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ItemError, match="not a regular file"):
        fetch(fetcher(), "pipe")


@pytest.mark.timeout(5)
def test_a_file_swapped_for_a_pipe_after_the_check_is_refused(fetcher, tmp_path, monkeypatch):
    (tmp_path / "a.jpg").write_bytes(b"picture")
    os.mkfifo(tmp_path / "pipe")
    really = os.open
    monkeypatch.setattr(os, "open", lambda path, *args: really(tmp_path / "pipe", *args))
    with pytest.raises(ItemError, match="not a regular file"):
        fetch(fetcher(), "a.jpg")


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("missing.jpg", "no such file"),
        ("file.jpg/below", "no such file"),
        (".", "not a regular file"),
        ("a\0b", "not a usable file path"),
        ("n" * 5000, "cannot be read"),
        ("loop", "not a usable file path"),
        ("file://elsewhere/a.jpg", "on this machine"),
    ],
)
def test_what_cannot_be_read_is_named_plainly(fetcher, tmp_path, uri, message):
    (tmp_path / "file.jpg").write_bytes(b"x")
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(ItemError, match=message):
        fetch(fetcher(), uri)


def test_a_device_is_refused(fetcher):
    with pytest.raises(ItemError, match="not a regular file"):
        fetch(fetcher(image_roots=("/dev",)), "/dev/zero")


def test_a_file_that_comes_in_pieces_or_grows_meanwhile_is_read_to_its_end(fetcher, tmp_path, monkeypatch):
    (tmp_path / "a.jpg").write_bytes(bytes(range(100)))
    really = os.read

    def pieces(descriptor, count):
        with (tmp_path / "a.jpg").open("ab") as file:
            file.write(b"x" if file.tell() < 105 else b"")
        return really(descriptor, min(count, 30))

    monkeypatch.setattr(os, "read", pieces)
    assert fetch(fetcher(), "a.jpg").startswith(bytes(range(100)) + b"xx")
    with pytest.raises(ItemError, match="PRELABEL_MAX_IMAGE_BYTES"):
        fetch(fetcher(max_image_bytes=104), "a.jpg")


def test_a_file_of_exactly_the_limit_is_read_and_one_byte_more_is_not(fetcher, tmp_path):
    (tmp_path / "fits").write_bytes(b"x" * 100)
    (tmp_path / "not").write_bytes(b"x" * 101)
    assert len(fetch(fetcher(max_image_bytes=100), "fits")) == 100
    with pytest.raises(ItemError, match="PRELABEL_MAX_IMAGE_BYTES"):
        fetch(fetcher(max_image_bytes=100), "not")


# --- data: URIs --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "uri",
    [
        "data:image/png;base64,aGVsbG8/+w==",
        "DATA:image/png;BASE64,aGVsbG8/+w==",
        "data:;base64,aGVsbG8/+w",
        "data:image/png;name=x;base64,aGVs%0AbG8%2F%2Bw%3D%3D",
        "data:image/png;base64,aGVs bG8/\n+w==",
        "data:,hello%3f%fb",
    ],
)
def test_data_uris_are_decoded(fetcher, uri):
    assert fetch(fetcher(), uri) == b"hello?\xfb"


@pytest.mark.parametrize(
    "uri",
    [
        "data:",
        "data:image/png;base64",
        "data:;base64,@@@@",
        "data:;base64,a",
        "data:;base64,aGVs=bG8",
        "data:;base64,é",
        "data:,100%",
        "data:,%zz",
        "data:,é",
    ],
)
def test_a_malformed_data_uri_is_an_item_error(fetcher, uri):
    with pytest.raises(ItemError, match="malformed data: URI"):
        fetch(fetcher(), uri)


def test_a_data_uri_is_held_to_the_byte_limit(fetcher):
    payload = base64.b64encode(b"x" * 101).decode()
    for uri in (f"data:;base64,{payload}", "data:," + "x" * 101, "data:," + "%78" * 500):
        with pytest.raises(ItemError, match="PRELABEL_MAX_IMAGE_BYTES"):
            fetch(fetcher(max_image_bytes=100), uri)
    assert fetch(fetcher(max_image_bytes=101), f"data:;base64,{payload}") == b"x" * 101
    assert fetch(fetcher(max_image_bytes=100), "data:," + "%78" * 100) == b"x" * 100


def test_a_file_has_the_same_mark_until_it_is_written_again(fetcher, tmp_path):
    reader = fetcher()
    path = tmp_path / "a.jpg"
    path.write_bytes(b"one")
    first = marks(reader, str(path))
    assert first == marks(reader, str(path))
    assert reader.fetch(ImageRef(uri=str(path)), lambda mark: mark == first[0]) == (first[0], None)
    path.write_bytes(b"two")
    assert first != marks(reader, str(path))
