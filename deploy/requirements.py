"""Print what an image needs beside prelabel itself: its base dependencies and those of some extras, one a line.

python deploy/requirements.py worker label-studio
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path


def requirements(extras: list[str]) -> list[str]:
    """The requirements of prelabel with `extras`, and with the extras those name, from pyproject.toml."""
    project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())["project"]
    found = set(project["dependencies"])
    to_do = list(extras)
    while to_do:
        for requirement in project["optional-dependencies"][to_do.pop()]:
            if ours := re.fullmatch(r"prelabel\[(.+)\]", requirement):
                to_do += ours[1].split(",")
            else:
                found.add(requirement)
    return sorted(found)


if __name__ == "__main__":
    sys.stdout.write("\n".join(requirements(sys.argv[1:])) + "\n")
