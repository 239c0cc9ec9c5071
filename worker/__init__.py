"""Consuming, fetching and scoring. `model/` alone imports torch."""
