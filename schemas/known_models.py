"""Checkpoints that others have measured: what they reach, what they cost, and where that is written."""

from __future__ import annotations

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
        images_of_text: COCO, text to image, recall at 1, percent.
        texts_of_image: COCO, image to text, recall at 1, percent.
        languages: of the texts it was trained with.
        licence: of the weights.
        source: where the figures are from.
    """

    name: str
    family: str
    parameters: int | None
    gflop: int | None
    imagenet: float
    images_of_text: float | None
    texts_of_image: float | None
    languages: str
    licence: str
    source: str = OPEN_CLIP


_APACHE: Final = "Apache-2.0"

KNOWN_MODELS: Final = (
    KnownModel("google/siglip-base-patch16-512", "siglip", 204, 227, 79.1, 50.6, 68.7, "English", _APACHE),
    KnownModel("google/siglip-base-patch16-224", "siglip", 203, 46, 76.0, 47.8, None, "English", _APACHE),
    KnownModel("google/siglip-base-patch16-256", "siglip", 203, 58, 76.5, 48.3, None, "English", _APACHE),
    KnownModel("google/siglip-base-patch16-384", "siglip", 203, 123, 78.5, 49.9, None, "English", _APACHE),
    KnownModel("google/siglip-base-patch16-256-multilingual", "siglip", 371, 58, 75.1, 44.9, 64.5, "many", _APACHE),
    KnownModel("google/siglip-large-patch16-256", "siglip", 652, 202, 80.5, 52.3, None, "English", _APACHE),
    KnownModel("google/siglip-large-patch16-384", "siglip", 652, 423, 82.1, 53.9, None, "English", _APACHE),
    KnownModel("google/siglip-so400m-patch14-384", "siglip", 878, 723, 83.1, 54.2, 72.4, "English", _APACHE),
    KnownModel("google/siglip2-base-patch16-512", "siglip", None, 227, 81.2, 55.2, 71.2, "many", _APACHE, BIG_VISION),
    KnownModel("google/siglip2-base-patch16-256", "siglip", None, 58, 79.1, 53.2, None, "many", _APACHE, BIG_VISION),
    KnownModel(
        "google/siglip2-so400m-patch16-384", "siglip", None, None, 84.1, 56.0, None, "many", _APACHE, BIG_VISION
    ),
    KnownModel(
        "google/siglip2-giant-opt-patch16-384", "siglip", None, None, 85.0, 56.1, None, "many", _APACHE, BIG_VISION
    ),
    KnownModel(
        "google/siglip2-base-patch16-naflex", "siglip2", None, None, 78.5, 51.1, None, "many", _APACHE, BIG_VISION
    ),
    KnownModel(
        "google/siglip2-so400m-patch16-naflex", "siglip2", None, None, 83.5, 55.1, None, "many", _APACHE, BIG_VISION
    ),
    KnownModel("openai/clip-vit-base-patch32", "clip", 151, 15, 63.3, 30.4, None, "English", "MIT"),
    KnownModel("openai/clip-vit-base-patch16", "clip", None, None, 68.3, 33.1, None, "English", "MIT"),
    KnownModel("openai/clip-vit-large-patch14", "clip", None, None, 75.5, 36.5, None, "English", "MIT"),
    KnownModel("openai/clip-vit-large-patch14-336", "clip", 428, 395, 76.6, 37.1, None, "English", "MIT"),
    KnownModel("laion/CLIP-ViT-B-16-laion2B-s34B-b88K", "clip", None, None, 70.2, 42.3, None, "English", "MIT"),
    KnownModel("laion/CLIP-ViT-L-14-laion2B-s32B-b82K", "clip", None, None, 75.3, 46.5, None, "English", "MIT"),
    KnownModel("laion/CLIP-ViT-H-14-laion2B-s32B-b79K", "clip", 986, 382, 78.0, 49.5, None, "English", "MIT"),
    KnownModel("apple/DFN2B-CLIP-ViT-B-16", "open_clip", None, None, 76.2, 43.4, None, "English", "apple-amlr"),
    KnownModel("apple/DFN2B-CLIP-ViT-L-14", "open_clip", None, None, 81.4, 48.6, None, "English", "apple-amlr"),
    KnownModel(
        "timm/eva02_base_patch16_clip_224.merged2b_s8b_b131k",
        *("open_clip", None, None, 74.7, 42.2, None, "English", "MIT"),
    ),
    KnownModel(
        "timm/eva02_large_patch14_clip_336.merged2b_s6b_b61k",
        *("open_clip", None, None, 80.4, 47.9, None, "English", "MIT"),
    ),
)
"""The default first, then by family and size. Whether a hub repository holds safetensors, and its licence's terms, are
to be looked up there before it is used."""
