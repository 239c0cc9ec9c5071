"""The arrays that images and vectors are."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
"""An image: `(height, width, 3)`, RGB; once prepared, at the model's input size."""

Vectors = NDArray[np.float32]
"""Embeddings, un-normalised: `(n, dim)`."""
