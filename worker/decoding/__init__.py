"""From an image's bytes to its pixels."""
