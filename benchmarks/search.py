"""Finding the nearest vectors, and near duplicates; `python -m benchmarks.search --help`.

The rows are made as SigLIP's lie: pictures in one cone (mean cosine .39) and in crowds within it (.75), texts outside
of it (below 0). They are fp16 in a mapped file. Each index looks for the 50 nearest to one text; in a tenth of the
rows; and for eight texts at once. Beside them stand their peers: numpy's product with the same rows in float32, in
memory, and `argpartition` (nothing is converted, nothing is ordered, twice the bytes), and faiss' own flat index of
fp16 codes. Duplicates stand beside the blocked product that they need, conversion to float32 included. All with one
thread, in turn, CPU milliseconds; a ratio is the median of the rounds' own. Recall is held against float64.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.progress import track
from rich.table import Table

from prelabel.worker.arrays import Vectors
from prelabel.worker.machine.host import single_threaded_blas
from prelabel.worker.retrieval.codes import encode
from prelabel.worker.retrieval.duplicates import BLOCK, duplicate_groups
from prelabel.worker.retrieval.exact import cosines_of
from prelabel.worker.retrieval.index import NumpyIndex, VectorIndex
from prelabel.worker.vectors.records import Halves, floats

from .common import add_json, console, in_own_session, median, shown_machine, write

K = 50
TEXTS = 8
CROWD = 100
SOME = 8192
PEER, BARE = "float32 in memory + argpartition", "faiss' own flat fp16 index"
Found = NDArray[np.int64]
Search = Callable[[Vectors, NDArray[np.bool_] | None], Found]
CASES = ("one text", "in a tenth of the rows", f"{TEXTS} texts at once")


def _unit(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    lengths: NDArray[np.float64] = np.linalg.norm(rows, axis=-1, keepdims=True)
    return rows / lengths


def draw(path: Path, count: int, dim: int) -> tuple[Halves, Vectors]:
    """Pictures' vectors in a mapped file, a twentieth of them near duplicates; and texts' vectors."""
    rng = np.random.default_rng(0)
    cone = _unit(rng.normal(size=dim))
    crowds = _unit(rng.normal(size=(max(1, count // CROWD), dim)))
    rows = np.memmap(path, dtype="<f2", mode="w+", shape=(count, dim))
    for start in track(range(0, count, SOME), description="drawing vectors"):
        size = min(SOME, count - start)
        theirs = crowds[rng.integers(0, len(crowds), size)]
        own = rng.normal(size=(size, dim)) / np.sqrt(dim)
        pictures = _unit(np.sqrt(0.39) * cone + np.sqrt(0.36) * theirs + np.sqrt(0.25) * own)
        again = rng.integers(0, size, size // 20)
        pictures[rng.integers(0, size, len(again))] = _unit(
            pictures[again] + 0.1 * rng.normal(size=(len(again), dim)) / np.sqrt(dim)
        )
        rows[start : start + size] = pictures
    rows.flush()
    about = crowds[rng.integers(0, len(crowds), TEXTS)]
    texts = _unit(_unit(rng.normal(size=(TEXTS, dim))) + 0.2 * about - 0.13 * cone)
    return np.memmap(path, dtype="<f2", mode="r", shape=(count, dim)), texts.astype(np.float32)


def ours(index: VectorIndex) -> Search:
    """An index' own search."""
    return lambda texts, within: index.search(texts, K, within).rows


def peer(rows: Halves) -> Search:
    """Numpy's product with all rows in float32."""
    whole = np.concatenate([floats(np.asarray(rows[start : start + SOME])) for start in range(0, len(rows), SOME)])

    def search(texts: Vectors, within: NDArray[np.bool_] | None) -> Found:
        numbers = None if within is None else np.flatnonzero(within)
        cosines = texts @ (whole if numbers is None else whole[numbers]).T
        best = np.argpartition(cosines, -K, axis=1)[:, -K:]
        return best if numbers is None else numbers[best]

    return search


def bare(rows: Halves) -> Search:
    """What faiss has for it, over its own copy of the rows."""
    import faiss

    theirs: Any = faiss
    theirs.omp_set_num_threads(1)
    index = theirs.IndexScalarQuantizer(rows.shape[1], theirs.ScalarQuantizer.QT_fp16, theirs.METRIC_INNER_PRODUCT)
    index.add_sa_codes(np.asarray(rows).view(np.uint8))

    def search(texts: Vectors, within: NDArray[np.bool_] | None) -> Found:
        bits = np.packbits(np.zeros(0, dtype=np.bool_) if within is None else within, bitorder="little")
        selector = None if within is None else theirs.IDSelectorBitmap(len(bits), theirs.swig_ptr(bits))
        found: Found = index.search(texts, K, params=selector and theirs.SearchParameters(sel=selector))[1]
        return found

    return search


def searches(rows: Halves) -> tuple[dict[str, Search], dict[str, list[str]]]:
    """All there are, and of each of ours the peers it is held against."""
    found = {
        PEER: peer(rows),
        "NumpyIndex": ours(NumpyIndex(rows)),
        "NumpyIndex with codes": ours(NumpyIndex(rows, encode(rows))),
    }
    peers = {name: [PEER] for name in found if name != PEER}
    try:
        from prelabel.worker.retrieval.faiss_index import FaissIndex
    except ImportError:
        return found, peers
    found |= {BARE: bare(rows), "FaissIndex": ours(FaissIndex(rows))}
    return found, peers | {"FaissIndex": [PEER, BARE]}


def recall(rows: Halves, texts: Vectors, within: NDArray[np.bool_] | None, found: Found) -> float:
    """Share of the `K` nearest, by float64, that were found."""
    numbers = np.arange(len(rows)) if within is None else np.flatnonzero(within)
    hits = 0
    for text, theirs in zip(texts, found, strict=True):
        cosines = cosines_of(rows, text, numbers)
        hits += len(np.intersect1d(numbers[np.lexsort((numbers, -cosines))[:K]], theirs))
    return hits / (len(texts) * min(K, len(numbers)))


def measure(rows: Halves, texts: Vectors, rounds: int) -> dict[str, Any]:
    """Each case of each search in turn."""
    tenth = np.random.default_rng(1).random(len(rows)) < 0.1
    asked = dict(zip(CASES, ((texts[:1], None), (texts[:1], tenth), (texts, None)), strict=True))
    every, peers = searches(rows)
    cpu_ms: dict[str, dict[str, list[float]]] = {case: {name: [] for name in every} for case in asked}
    recalls = {
        case: {name: recall(rows, some, within, search(some, within)) for name, search in every.items()}
        for case, (some, within) in asked.items()
    }
    for _ in track(range(rounds), description="searching"):
        for case, (some, within) in asked.items():
            for name, search in every.items():
                used = time.process_time()
                search(some, within)
                cpu_ms[case][name].append(1e3 * (time.process_time() - used))
    ratios = {
        case: {
            name: {
                peer: median([a / b for a, b in zip(cpu_ms[case][name], cpu_ms[case][peer], strict=True)])
                for peer in theirs
            }
            for name, theirs in peers.items()
        }
        for case in asked
    }
    return {"rows": len(rows), "dim": rows.shape[1], "cpu_ms": cpu_ms, "ratio": ratios, "recall": recalls}


def product(rows: Halves) -> None:
    """Every row against every other once, and nothing looked at."""
    for top in range(0, len(rows), BLOCK):
        upper = floats(np.asarray(rows[top : top + BLOCK]))
        for left in range(top, len(rows), BLOCK):
            upper @ floats(np.asarray(rows[left : left + BLOCK])).T


def measure_duplicates(rows: Halves, threshold: float, rounds: int) -> dict[str, Any]:
    """The groups of the rows, and the product alone, in turn."""
    seconds: dict[str, list[float]] = {"the product alone": [], "duplicate_groups": []}
    groups = 0
    for _ in range(rounds):
        used = time.process_time()
        product(rows)
        seconds["the product alone"].append(time.process_time() - used)
        used = time.process_time()
        groups = len(duplicate_groups(rows, threshold))
        seconds["duplicate_groups"].append(time.process_time() - used)
    theirs, own = seconds.values()
    return {
        "rows": len(rows),
        "threshold": threshold,
        "groups": groups,
        "cpu_s": seconds,
        "ratio": median([a / b for a, b in zip(own, theirs, strict=True)]),
    }


def main() -> None:
    """Measure and print the tables; --json also writes the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--dim", type=int, default=768)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--duplicates", type=int, default=100_000, help="rows to look for duplicates in; 0 is none")
    parser.add_argument("--threshold", type=float, default=0.95)
    add_json(parser, "search")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory, single_threaded_blas():
        rows, texts = draw(Path(directory) / "rows", options.rows, options.dim)
        found = measure(rows, texts, options.rounds)
        some = rows[: options.duplicates]
        duplicates = measure_duplicates(some, options.threshold, 1) if options.duplicates else None
    out = console()
    table = Table(f"the {K} nearest", "", "CPU ms", "of float32", "of faiss'", "recall", title=f"{options.rows:,} rows")
    for case, theirs in found["cpu_ms"].items():
        for name, taken in theirs.items():
            ratio = found["ratio"][case].get(name, {})
            cells = [f"{ratio[peer]:.2f}" if peer in ratio else "" for peer in (PEER, BARE)]
            table.add_row(case, name, f"{median(taken):.1f}", *cells, f"{found['recall'][case][name]:.4f}")
    out.print(table)
    if duplicates:
        out.print(
            f"{duplicates['groups']:,} groups of near duplicates among {duplicates['rows']:,} rows take "
            f"{duplicates['ratio']:.2f} times the CPU time of the blocked product alone"
        )
    out.print(shown_machine())
    write(options.json, {"search": found, "duplicates": duplicates})


if __name__ == "__main__":
    in_own_session("benchmarks.search", main)
