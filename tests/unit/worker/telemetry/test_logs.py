"""Logs for people and for machines."""

from __future__ import annotations

import io
import json
import logging
import struct
import threading
import warnings

import pytest
from PIL import Image

from prelabel.schemas import ItemError
from prelabel.worker.decoding.pixels import decode_pixels
from prelabel.worker.telemetry import libtiff
from prelabel.worker.telemetry.logs import configure_logging, log_about
from prelabel.worker.telemetry.once import Once


@pytest.fixture(autouse=True)
def _restored():
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def test_json_logs_are_one_object_a_line_that_says_what_it_is_about(capsys) -> None:
    configure_logging("INFO", "json")
    with log_about(job="j1", chunk=3):
        with log_about(item='a"\nb.jpg'):
            logging.getLogger("prelabel.x").warning("item %s: %s", "ä", "late")
        logging.getLogger("prelabel.x").info("done")
    logging.getLogger("prelabel.x").info("idle")
    first, second, third = map(json.loads, capsys.readouterr().err.splitlines())
    assert first.pop("time").endswith("+00:00")
    assert first == {
        "level": "WARNING",
        "logger": "prelabel.x",
        "message": "item ä: late",
        "job": "j1",
        "chunk": 3,
        "item": 'a"\nb.jpg',
    }
    assert (second["job"], second["chunk"], "item" in second) == ("j1", 3, False)
    assert "job" not in third


def test_a_traceback_stays_in_its_line(capsys) -> None:
    configure_logging("INFO", "json")
    try:
        raise ValueError("odd")
    except ValueError:
        logging.getLogger("x").exception("failed")
    (line,) = capsys.readouterr().err.splitlines()
    assert "ValueError: odd" in json.loads(line)["exc_info"]


def test_what_a_line_is_about_does_not_leak_into_other_threads(capsys) -> None:
    configure_logging("INFO", "json")
    with log_about(job="mine"):
        other = threading.Thread(target=logging.getLogger("x").info, args=("hello",))
        other.start()
        other.join()
    assert "job" not in json.loads(capsys.readouterr().err)


def test_people_get_a_line_and_libraries_stay_quiet(capsys) -> None:
    configure_logging("INFO")
    with log_about(job="j1"):
        logging.getLogger("prelabel.x").info("job %s chunk %d", "j1", 3)
    logging.getLogger("httpx").info("GET https://host/?signature=s3cret")
    said = capsys.readouterr().err
    assert said.endswith(" INFO prelabel.x: job j1 chunk 3\n")
    assert "s3cret" not in said


def test_what_was_said_lately_is_not_said_again() -> None:
    news = Once(most=2)
    assert [news.first(what) for what in ("a", "b", "a", "b")] == [True, True, False, False]
    assert news.first("c")
    assert news.first("a"), "long ago"


def test_what_pillow_says_of_broken_files_is_no_line(capsys) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        configure_logging("INFO")
        warnings.warn_explicit("Corrupt EXIF data: 17", UserWarning, "PIL/TiffImagePlugin.py", 1, "PIL.TiffImagePlugin")
        with pytest.raises(UserWarning):
            warnings.warn_explicit("else", UserWarning, "other.py", 1, "PILOT")
    assert capsys.readouterr().err == ""


def unpackable_tiff() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64), "red").save(buffer, "TIFF", compression="tiff_lzw")
    return buffer.getvalue()[:8] + b"\xff" * 40 + buffer.getvalue()[48:]


def tiff_of_2048_samples() -> bytes:
    fields = [(256, 1), (257, 1), (258, 8), (259, 1), (262, 1), (273, 8), (277, 2048), (278, 1), (279, 1)]
    return b"II*\0\x08\0\0\0\x09\0" + b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in fields)


@pytest.mark.parametrize("damaged", [unpackable_tiff(), tiff_of_2048_samples()], ids=["libtiff", "Pillow"])
def test_decoders_say_nothing_on_stderr(damaged, capfd) -> None:
    configure_logging("INFO")
    with pytest.raises(ItemError, match="damaged TIFF"):
        decode_pixels(damaged, max_pixels=10**6)
    assert capfd.readouterr().err == ""


@pytest.fixture
def libtiff_unheard(monkeypatch) -> None:
    """Nothing of libtiff's has been said in this process."""
    monkeypatch.setattr(libtiff, "_said", Once())


def broken_tiff(compression: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64), "red").save(buffer, "TIFF", compression=compression)
    return buffer.getvalue()[:8] + b"\x12" * 20 + buffer.getvalue()[28:]


def test_who_looks_for_the_cause_finds_libtiff_s_words_once_a_kind(libtiff_unheard, capfd) -> None:
    configure_logging("DEBUG")
    for _ in range(3):
        for compression in ("tiff_lzw", "tiff_adobe_deflate"):
            with pytest.raises(ItemError, match="damaged TIFF"):
                decode_pixels(broken_tiff(compression), max_pixels=10**6)
    said = [line.partition("libtiff error: ")[2] for line in capfd.readouterr().err.splitlines()]
    said = [line for line in said if line]
    assert len(said) == 2
    assert "code not yet in table" in said[0]
    assert said[1].startswith("ZIPDecode: Decoding error at scanline %")


def test_many_threads_of_broken_tiffs_are_heard_without_harm(libtiff_unheard, capfd) -> None:
    configure_logging("DEBUG", "json")

    def decode_some() -> None:
        for _ in range(50):
            with pytest.raises(ItemError):
                decode_pixels(unpackable_tiff(), max_pixels=10**6)

    threads = [threading.Thread(target=decode_some) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    said = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    assert len([line for line in said if line["logger"].endswith("libtiff")]) == 1


def test_a_log_that_cannot_be_written_does_not_reach_the_decoder(libtiff_unheard, monkeypatch, capfd) -> None:
    configure_logging("DEBUG")
    monkeypatch.setattr(libtiff.log, "debug", lambda *_: 1 / 0)
    with pytest.raises(ItemError, match="damaged TIFF"):
        decode_pixels(unpackable_tiff(), max_pixels=10**6)
    assert capfd.readouterr().err == ""
