"""One HTTP application for every front door."""
