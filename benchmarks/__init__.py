"""Benchmarks: ratios against named peers, measured interleaved in one run. `make bench`."""
