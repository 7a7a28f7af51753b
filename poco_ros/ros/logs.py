"""What the libraries below the nodes log, on ``/rosout`` with the rest."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from typing import Any

LIBRARIES = ("poco_ros", "sim_bridge")
"""Python loggers whose records go to ROS."""


class RosHandler(logging.Handler):
    """Hands records to the logger of a node, which prints and publishes them."""

    def __init__(self, logger: Any) -> None:
        """Hand on what is INFO or worse; ``logger`` is a node's."""
        super().__init__(logging.INFO)
        self._logger = logger

    def emit(self, record: logging.LogRecord) -> None:
        """Log the record; any thread may come."""
        text = self.format(record)
        # A line of code logs with one severity only, or rclpy raises.
        if record.levelno >= logging.ERROR:
            self._logger.error(text)
        elif record.levelno >= logging.WARNING:
            self._logger.warning(text)
        else:
            self._logger.info(text)


@contextlib.contextmanager
def forwarded(logger: Any) -> Iterator[None]:
    """Hand what the libraries log in the block to a node's ``logger``."""
    handler = RosHandler(logger)
    loggers = [logging.getLogger(name) for name in LIBRARIES]
    before = [(one.level, one.propagate) for one in loggers]
    for one in loggers:
        one.addHandler(handler)
        one.setLevel(logging.INFO)
        one.propagate = False
    try:
        yield
    finally:
        for one, (level, propagate) in zip(loggers, before, strict=True):
            one.removeHandler(handler)
            one.setLevel(level)
            one.propagate = propagate
