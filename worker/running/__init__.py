"""Processes: the supervised worker, the embedded broker, everything on one machine."""
