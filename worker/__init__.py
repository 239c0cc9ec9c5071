"""Consuming, fetching and scoring. `siglip.py` alone imports torch."""
