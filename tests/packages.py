"""Packages that extend prelabel, as if somebody had installed them."""

from __future__ import annotations

import re
import sys
from pathlib import Path

DOCS = Path(__file__).parent.parent / "docs" / "extending.md"


class Site:
    """A folder of installed packages.

    Args:
        folder: it; must be there, and on the import path.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._modules: set[str] = set()

    def install(self, module: str, source: str, group: str, *announced: str) -> None:
        """Put a package of one module there, version 1.2, that announces entry points: lines `name = module:object`."""
        (self.folder / f"{module}.py").write_text(source)
        info = self.folder / f"{module}-1.2.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.2\n")
        (info / "entry_points.txt").write_text("\n".join([f"[{group}]", *announced, ""]))
        self._modules.add(module)

    def forget(self) -> None:
        """Let no test after this one find the modules imported."""
        for module in self._modules:
            sys.modules.pop(module, None)


def marked(file: Path, name: str) -> str:
    """The part of a file between its marks for the documentation."""
    return file.read_text().partition(f"[start:{name}]\n")[2].partition(f"# --8<-- [end:{name}]")[0]


def announced_in_docs(group: str) -> list[str]:
    """The entry points of a group as docs/extending.md shows them, as `entry_points.txt` has them."""
    (lines,) = re.findall(rf'entry-points\."{re.escape(group)}"\]\n(.*?)```', DOCS.read_text(), flags=re.DOTALL)
    return [line.replace('"', "") for line in lines.strip().splitlines()]
