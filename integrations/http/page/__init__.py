"""The page a labeling lead looks at: what is connected, queued, running and failed, and the last predictions."""
