"""Trying a label config on some of a project's own tasks: what would change, before anything does."""
