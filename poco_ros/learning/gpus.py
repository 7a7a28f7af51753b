"""The GPUs of this machine: whether those that are asked for are there."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from poco_ros.core.errors import ConfigError
from poco_ros.learning.config import TrainConfig

_NO_GPU = f"but torch {torch.__version__} finds no GPU here"
_DRIVER = "or install a torch that is built for CUDA and a driver for it"


def check_device(train: TrainConfig) -> None:
    """Make ``train.device`` the current one if it is a GPU.

    Raises:
        ConfigError: torch knows no such device, or finds no such GPU here.
    """
    try:
        device = torch.device(train.device)
    except RuntimeError as error:
        raise ConfigError(f"train.device is {train.device!r}, which torch does not know; cpu,"
                          " cuda, or cuda:1 for the second GPU") from error
    if device.type != "cuda":
        return
    if torch.cuda.is_available():
        if device.index is not None:
            if device.index >= (count := torch.cuda.device_count()):
                raise ConfigError(f"train.device is {train.device}, but GPUs here are cuda:0 to"
                                  f" cuda:{count - 1}")
            torch.cuda.set_device(device)  # graphs are captured on the current one
        return
    raise ConfigError(f"train.device is {train.device}, {_NO_GPU}; set train.device to cpu,"
                      f" {_DRIVER}")


def check_gpus(names: Sequence[str]) -> None:
    """Check ``names`` of GPUs that processes are to see, one each, as CUDA_VISIBLE_DEVICES.

    Raises:
        ConfigError: one is neither a number from 0 nor an identifier (GPU-..., MIG-...), or torch
            finds no GPU here, or none of that number.
    """
    for name in names:
        if not name.isdecimal() and not name.startswith(("GPU-", "MIG-")):
            raise ConfigError(f"GPU {name!r}: name it by its number, such as 0, or by what"
                              " nvidia-smi -L calls it, GPU-... or MIG-...")
    if names and not torch.cuda.is_available():
        raise ConfigError(f"GPUs {', '.join(names)} are asked for, {_NO_GPU}; leave them out,"
                          f" {_DRIVER}")
    count = torch.cuda.device_count()
    for name in names:
        if name.isdecimal() and int(name) >= count:
            raise ConfigError(f"GPU {name} is asked for, those here are 0 to {count - 1}")
