"""Whether weights files are whole, told without reading a weight; and errors of reading files in one line."""

from __future__ import annotations

import json
from pathlib import Path


def weights_problem_in(folder: Path, *, but: str) -> str:
    """What is wrong with a folder's *.safetensors: one is damaged, cut short or missing; empty where nothing is.

    Args:
        folder: the checkpoint's.
        but: name of a file that is not looked at.
    """
    for path in sorted(folder.glob("*.safetensors")):
        if path.name != but and (problem := weights_problem(path)):
            return f"{path.name} is damaged or cut short, copy it again: {problem}"
    for path in sorted(folder.glob("*.safetensors.index.json")):
        try:
            wanted = sorted(set(json.loads(path.read_text(encoding="utf-8"))["weight_map"].values()))
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            return f"{path.name} cannot be read, copy it again: {first_line(error)}"
        missing = [name for name in wanted if not (folder / str(name)).is_file()]
        if missing:
            return f"{path.name} names {missing[0]}, which is not there: copy it"
    return ""


def weights_problem(path: Path) -> str:
    """What is wrong with a weights file, by its head and its length alone; empty where nothing is.

    A file is the length of its head (u64, little-endian), that head (JSON), and tensors at places that it names
    (https://huggingface.co/docs/safetensors).
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 2 <= length <= size - 8:
                return "its head is longer than the file"
            head = json.loads(file.read(length))
        ends = [entry["data_offsets"][1] for name, entry in head.items() if name != "__metadata__"]
        whole = 8 + length + max(ends, default=0)
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        return first_line(error)
    return "" if size == whole else f"it has {size:,} bytes and says {whole:,}"


def brief(error: Exception) -> str:
    """What an error says, in one line that is not too long."""
    return " ".join(str(error).split())[:200] or type(error).__name__


def first_line(error: Exception) -> str:
    """Of what an error says; with the next one where it only leads up to that."""
    lines = [line.strip() for line in str(error).strip().splitlines()] or [type(error).__name__]
    return " ".join(lines[:2]) if lines[0].endswith(":") else lines[0]
