"""Errors that a user can act on: each message names the thing, the value and the remedy."""

from __future__ import annotations


class PocoError(Exception):
    """Base of every error that poco_ros raises on purpose."""


class ConfigError(PocoError):
    """A setting is unknown, of the wrong type or out of its range."""


class DataError(PocoError):
    """An episode, a data set, an observation or a chunk breaks its contract."""


class CheckpointError(PocoError):
    """A checkpoint or a set of weights is missing, truncated, foreign or not finite."""
