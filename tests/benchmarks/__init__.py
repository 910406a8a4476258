"""Benchmarks: `python -m tests.benchmarks [NAME ...] [--json FILE]`.

Each figure is a ratio between things measured in the same run, in turn, because machines are shared and noisy.
"""
