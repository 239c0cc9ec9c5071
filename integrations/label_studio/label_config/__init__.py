"""What a label config asks: its controls, their images, choices and conditions."""

from .config import LabelConfig

__all__ = ["LabelConfig"]
