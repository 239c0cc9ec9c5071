"""Vectors of images and texts that were embedded before."""
