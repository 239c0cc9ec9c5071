"""The dual encoder: its families, its towers, and the engine that forms batches. Torch lives here alone."""
