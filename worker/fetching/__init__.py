"""From an image's reference to its bytes."""
