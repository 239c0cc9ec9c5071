"""Checkpoints that others have measured: what they reach, what they cost, and where that is written."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

OPEN_CLIP: Final = "https://github.com/mlfoundations/open_clip/blob/89fb801/docs/openclip_results.csv"
"""Zero-shot accuracy on 38 datasets, parameters and operations; retrieval in `openclip_retrieval_results.csv` beside
it."""

BIG_VISION: Final = (
    "https://github.com/google-research/big_vision/blob/main/big_vision/configs/proj/image_text/README_siglip2.md"
)
"""The authors' own figures of SigLIP 2."""


class KnownModel(NamedTuple):
    """A published checkpoint. None is: the source does not say.

    Attributes:
        name: hub id, what `PRELABEL_MODEL` takes.
        family: as `ModelCard.family`.
        parameters: of both towers, 10^6.
        gflop: 10^9 operations of an image and a text.
        imagenet: zero-shot accuracy on ImageNet-1k, percent.
        eurosat: zero-shot accuracy on EuroSAT, land use in satellite views, percent.
        images_of_text: COCO, text to image, recall at 1, percent.
        texts_of_image: COCO, image to text, recall at 1, percent.
        languages: of the texts it was trained with.
        licence: of the weights.
        source: where the figures are from.
    """

    name: str
    family: str
    parameters: float | None
    gflop: float | None
    imagenet: float | None
    eurosat: float | None
    images_of_text: float | None
    texts_of_image: float | None
    languages: str
    licence: str
    source: str


_MEASURED_BY_OPEN_CLIP: Final = """
google/siglip-base-patch16-512 | siglip | 204 | 227 | 79.1 | 40.1 | 50.6 | 68.7 | English | Apache-2.0
google/siglip-base-patch16-224 | siglip | 203 | 46 | 76 | 44.3 | 47.8 | - | English | Apache-2.0
google/siglip-base-patch16-256 | siglip | 203 | 58 | 76.5 | 46.1 | 48.3 | - | English | Apache-2.0
google/siglip-base-patch16-384 | siglip | 203 | 123 | 78.5 | 43.1 | 49.9 | - | English | Apache-2.0
google/siglip-base-patch16-256-multilingual | siglip | 371 | 58 | 75.1 | 38.3 | 44.9 | 64.5 | many | Apache-2.0
google/siglip-large-patch16-256 | siglip | 652 | 202 | 80.5 | 56 | 52.3 | - | English | Apache-2.0
google/siglip-large-patch16-384 | siglip | 652 | 423 | 82.1 | 58.2 | 53.9 | - | English | Apache-2.0
google/siglip-so400m-patch14-384 | siglip | 878 | 723 | 83.1 | 63.5 | 54.2 | 72.4 | English | Apache-2.0
openai/clip-vit-base-patch32 | clip | 151 | 15 | 63.3 | 50.4 | 30.4 | - | English | MIT
openai/clip-vit-base-patch16 | clip | - | - | 68.3 | 55.9 | 33.1 | - | English | MIT
openai/clip-vit-large-patch14 | clip | - | - | 75.5 | 62.6 | 36.5 | - | English | MIT
openai/clip-vit-large-patch14-336 | clip | 428 | 395 | 76.6 | 61.4 | 37.1 | - | English | MIT
laion/CLIP-ViT-B-16-laion2B-s34B-b88K | clip | - | - | 70.2 | 53.5 | 42.3 | - | English | MIT
laion/CLIP-ViT-L-14-laion2B-s32B-b82K | clip | - | - | 75.3 | 64.6 | 46.5 | - | English | MIT
laion/CLIP-ViT-H-14-laion2B-s32B-b79K | clip | 986 | 382 | 78 | 72.8 | 49.5 | - | English | MIT
apple/DFN2B-CLIP-ViT-B-16 | open_clip | - | - | 76.2 | 54 | 43.4 | - | English | apple-amlr
apple/DFN2B-CLIP-ViT-L-14 | open_clip | - | - | 81.4 | 65 | 48.6 | - | English | apple-amlr
timm/eva02_base_patch16_clip_224.merged2b_s8b_b131k | open_clip | - | - | 74.7 | 66.4 | 42.2 | - | English | MIT
timm/eva02_large_patch14_clip_336.merged2b_s6b_b61k | open_clip | - | - | 80.4 | 71.4 | 47.9 | - | English | MIT
"""

_MEASURED_BY_ITS_AUTHORS: Final = """
google/siglip2-base-patch16-512 | siglip | - | 227 | 81.2 | - | 55.2 | 71.2 | many | Apache-2.0
google/siglip2-base-patch16-256 | siglip | - | 58 | 79.1 | - | 53.2 | - | many | Apache-2.0
google/siglip2-so400m-patch16-384 | siglip | - | - | 84.1 | - | 56 | - | many | Apache-2.0
google/siglip2-giant-opt-patch16-384 | siglip | - | - | 85 | - | 56.1 | - | many | Apache-2.0
google/siglip2-base-patch16-naflex | siglip2 | - | - | 78.5 | - | 51.1 | - | many | Apache-2.0
google/siglip2-so400m-patch16-naflex | siglip2 | - | - | 83.5 | - | 55.1 | - | many | Apache-2.0
"""


def _read(table: str, source: str) -> Iterator[KnownModel]:
    for line in table.strip().splitlines():
        name, family, *figures, languages, licence = (cell.strip() for cell in line.split("|"))
        parameters, gflop, *percent = (None if figure == "-" else float(figure) for figure in figures)
        imagenet, eurosat, images_of_text, texts_of_image = percent
        yield KnownModel(
            *(name, family, parameters, gflop, imagenet, eurosat, images_of_text, texts_of_image),
            *(languages, licence, source),
        )


KNOWN_MODELS: Final = (
    *_read(_MEASURED_BY_OPEN_CLIP, OPEN_CLIP),
    *_read(_MEASURED_BY_ITS_AUTHORS, BIG_VISION),
)
"""The default first. Whether a hub repository holds safetensors, and its licence's terms, are to be looked up there
before it is used."""
