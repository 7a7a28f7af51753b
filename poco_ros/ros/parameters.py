"""ROS parameters from settings dataclasses: declared, described, checked at start.

A parameter is a setting (:func:`poco_ros.core.config.setting`) of the node's dataclass, so type,
range and documentation are written once, and ``ros2 param describe`` tells them. A node reads its
parameters when it starts; afterwards they are read-only.
"""

from __future__ import annotations

import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.node import Node

from poco_ros.core import config
from poco_ros.core.config import SettingInfo

T = TypeVar("T")

OF_ROS = ("use_sim_time", "start_type_description_service", "qos_overrides")
"""Parameters that rclpy itself declares."""
LIMITLESS = 2**53
"""Bound of a descriptor's range on the side where the setting has none: exact as a double."""


def given_parameters(node: Node) -> dict[str, Any]:
    """Return the parameters that were given to ``node`` from outside, by name.

    The node must have been made with ``automatically_declare_parameters_from_overrides``.
    """
    return {name: parameter.value for name, parameter in
            node.get_parameters_by_prefix("").items()
            if name.partition(".")[0] not in OF_ROS}


def declare_settings(node: Node, cls: type[T], given: Mapping[str, Any],
                     defaults: Mapping[str, Any] | None = None) -> T:
    """Declare the settings ``cls`` as parameters of ``node`` and return them.

    Args:
        node: the node that has the parameters.
        cls: dataclass of settings; one parameter a field.
        given: what was given from outside, see :func:`given_parameters`.
        defaults: values where nothing was given, before those of ``cls``.

    Raises:
        ConfigError: unknown parameter, wrong type or out of range; name and remedy are told.
    """
    values = {**(defaults or {}), **given}
    settings = config.from_dict(cls, values, f"parameters of {node.get_fully_qualified_name()}")
    for name in given:
        node.undeclare_parameter(name)
    for name, (field, expected) in config.settings_of(cls).items():
        value = getattr(settings, name)
        node.declare_parameter(
            name, str(value) if isinstance(value, Path) else value,
            describe(config.info_of(field), expected), ignore_override=True)
    return settings


def describe(info: SettingInfo, expected: Any) -> ParameterDescriptor:
    """Return the descriptor of a setting of type ``expected``: read-only, with its range."""
    descriptor = ParameterDescriptor(description=info.describe(), read_only=True)
    if info.choices:
        descriptor.additional_constraints = f"one of {', '.join(map(str, info.choices))}"
    if info.minimum is None and info.maximum is None:
        return descriptor
    low = -LIMITLESS if info.minimum is None else info.minimum
    high = LIMITLESS if info.maximum is None else info.maximum
    if expected is float or float in typing.get_args(expected):
        descriptor.floating_point_range = [
            FloatingPointRange(from_value=float(low), to_value=float(high), step=0.0)]
    else:
        descriptor.integer_range = [
            IntegerRange(from_value=int(low), to_value=int(high), step=1)]
    return descriptor
