"""Benchmarks: ``python -m benchmarks [name ...]`` prints lines ``RESULT name=value``."""
