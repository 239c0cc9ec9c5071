"""What to answer with, read from the files people have."""

from __future__ import annotations

import codecs
import json
from pathlib import Path

import pytest

from prelabel.schemas import ConfigError, Taxonomy
from prelabel.worker.cli.options import build_taxonomy

XML = (
    '<View><Image name="i" value="$image"/><Choices name="c" toName="i">'
    '<Choice value="cat"/><Choice value="dog"/></Choices></View>'
)
CAT_AND_DOG = Taxonomy.flat(["cat", "dog"])


def read(path: Path) -> Taxonomy:
    return build_taxonomy(None, path, False, None, None)


@pytest.mark.parametrize("bom", [(b"", "utf-8"), (codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le")])
@pytest.mark.parametrize(("name", "text"), [("a.json", '["cat", "dog"]'), ("a.xml", XML)])
def test_a_file_with_a_byte_order_mark_is_read(tmp_path: Path, bom: tuple[bytes, str], name: str, text: str) -> None:
    mark, encoding = bom
    (tmp_path / name).write_bytes(mark + text.encode(encoding))
    assert [path for path, _ in read(tmp_path / name).leaves()] == [path for path, _ in CAT_AND_DOG.leaves()]


@pytest.mark.parametrize(
    ("encoding", "declared"),
    [
        ("latin-1", "ISO-8859-1"),
        ("cp1252", "windows-1252"),
        ("utf-8", "UTF-8"),
        ("utf-8-sig", "utf-8"),
        ("utf-16", "UTF-16"),
        ("utf-16-be", "utf-16"),
        ("utf-8", "utf-16"),  # as programs write that declare what they hold in memory
        ("shift_jis", "Shift_JIS"),
    ],
)
def test_a_label_config_is_read_in_the_encoding_it_declares(tmp_path: Path, encoding: str, declared: str) -> None:
    label = "\u732b" if encoding == "shift_jis" else "K\u00e4tzchen"
    text = f"<?xml version='1.0' encoding=\"{declared}\"?>\n" + XML.replace("cat", label)
    (tmp_path / "a.xml").write_bytes(text.encode(encoding))
    assert [path for path, _ in read(tmp_path / "a.xml").leaves()] == [(label,), ("dog",)]


@pytest.mark.parametrize(
    ("declared", "why"), [("no-such", "unknown encoding"), ("hex", "save it as UTF-8"), ("ascii", "can't decode")]
)
def test_an_encoding_that_does_not_fit_is_one_line(tmp_path: Path, declared: str, why: str) -> None:
    text = f'<?xml version="1.0" encoding="{declared}"?>' + XML.replace("cat", "K\u00e4tzchen")
    (tmp_path / "a.xml").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=why) as refused:
        read(tmp_path / "a.xml")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "text", ['{"cat": null, "cat": null}', '{"animal": {"cat": ["a"], "dog": null, "cat": ["b"]}}']
)
def test_a_name_that_stands_twice_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(ConfigError, match=r"a\.json: 'cat' stands twice in one object"):
        read(tmp_path / "a.json")


@pytest.mark.parametrize("levels", [300, 200_000])
def test_hundreds_of_levels_are_refused_in_words(tmp_path: Path, levels: int) -> None:
    (tmp_path / "a.json").write_text('{"a":' * levels + "null" + "}" * levels)
    with pytest.raises(ConfigError, match=r"more than 64 levels"):
        read(tmp_path / "a.json")


@pytest.mark.parametrize("content", [b"\xe9", b"{", b'"cat"', b"[NaN]"])
def test_what_is_no_taxonomy_is_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(ConfigError) as refused:
        read(tmp_path / "a.json")
    assert "\n" not in str(refused.value)


def test_a_tree_is_read_as_before(tmp_path: Path) -> None:
    tree = {"animal": ["cat", "dog"], "vehicle": None}
    (tmp_path / "a.json").write_text(json.dumps(tree))
    assert read(tmp_path / "a.json") == Taxonomy.tree(tree)
