"""Weights of the picture encoder: the published pickle, or this project's safetensors."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from poco_ros.core.config import from_dict, to_dict
from poco_ros.core.errors import CheckpointError, ConfigError
from poco_ros.core.files import write_atomic
from poco_ros.robot.array_pickle import read_arrays
from poco_ros.robot.resnet10 import ResNet10
from poco_ros.robot.vision_config import HeadConfig

FORMAT = "poco-encoder-1"
_HEAD = "head."


@dataclass(frozen=True)
class EncoderWeights:
    """What a file of weights holds."""

    backbone: dict[str, Tensor]
    """Parameters of :class:`~poco_ros.robot.resnet10.ResNet10`, by name."""
    head: dict[str, Tensor]
    """Parameters of the feature head, when it was fitted; else empty."""
    head_config: HeadConfig | None
    """The head that was fitted; None when the file has none."""
    image_size: int | None
    """Edge of the pictures that it was fitted on [px]; None when the file does not say."""
    description: str
    """Where the weights come from, in words."""


def load_weights(path: str | Path) -> EncoderWeights:
    """Read weights.

    Args:
        path: ``.safetensors`` of ``poco encoder fit``, or the ``resnet10_params.pkl`` that SERL
            and HIL-SERL publish.

    Raises:
        CheckpointError: no such file, foreign, truncated, of another architecture, or not finite.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file of encoder weights; give a .safetensors of"
                              " 'poco encoder fit' or SERL's resnet10_params.pkl")
    weights = _load_pickle(path) if path.suffix in (".pkl", ".pickle") else _load_safetensors(path)
    _check(weights.backbone, path)
    return weights


def save_weights(path: str | Path, weights: EncoderWeights) -> None:
    """Write weights as safetensors, whole or not at all."""
    tensors = {**weights.backbone,
               **{f"{_HEAD}{name}": tensor for name, tensor in weights.head.items()}}
    words = {"description": weights.description, "image_size": weights.image_size,
             "head": to_dict(weights.head_config) if weights.head_config else None}
    content = save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()},
                   {"format": FORMAT, "encoder": json.dumps(words)})
    write_atomic(path, content)


def from_published(tree: dict[str, Any]) -> dict[str, Tensor]:
    """Return the parameters by this project's names from the published nested dictionary.

    A classifier on top (``output_head``) is left out.

    Raises:
        CheckpointError: a leaf is no parameter that this project knows.
    """
    for wrapper in ("params", "pretrained_encoder"):
        if set(tree) == {wrapper}:
            tree = tree[wrapper]
    tensors: dict[str, Tensor] = {}
    for names, array in _leaves({key: tree[key] for key in tree if key != "output_head"}, ()):
        kind = {"kernel": "weight", "scale": "weight", "bias": "bias"}.get(names[-1])
        if kind is None:
            raise CheckpointError(f"parameter {'/'.join(names)} is not part of ResNet-10")
        values = np.asarray(array, np.float32)
        if names[-1] == "kernel" and values.ndim == 4:
            values = values.transpose(3, 2, 0, 1)  # (height, width, in, out) to (out, in, h, w)
        tensors[".".join((*names[:-1], kind))] = torch.from_numpy(values.copy())
    return tensors


def _leaves(tree: dict[str, Any], above: tuple[str, ...]) -> list[tuple[tuple[str, ...], Any]]:
    leaves: list[tuple[tuple[str, ...], Any]] = []
    for key, value in tree.items():
        names = (*above, key)
        leaves += _leaves(value, names) if isinstance(value, dict) else [(names, value)]
    return leaves


def _load_pickle(path: Path) -> EncoderWeights:
    try:
        backbone = from_published(read_arrays(path))
    except CheckpointError as error:
        message = str(error)
        named = message if message.startswith(str(path)) else f"{path}: {message}"
        raise CheckpointError(named) from error
    return EncoderWeights(backbone, {}, None, None, f"published parameters, {path.name}")


def _load_safetensors(path: Path) -> EncoderWeights:
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{path}: not a whole safetensors file ({error})") from error
    if metadata.get("format") != FORMAT:
        raise CheckpointError(f"{path}: not encoder weights of format {FORMAT}")
    try:
        words = json.loads(metadata["encoder"])
        head_config = from_dict(HeadConfig, words["head"], "head") if words["head"] else None
        description, image_size = str(words["description"]), words["image_size"]
    except (KeyError, TypeError, ValueError, ConfigError) as error:
        raise CheckpointError(f"{path}: its description is damaged ({error})") from error
    head = {name.removeprefix(_HEAD): tensor for name, tensor in tensors.items()
            if name.startswith(_HEAD)}
    backbone = {name: tensor for name, tensor in tensors.items() if not name.startswith(_HEAD)}
    return EncoderWeights(backbone, head, head_config, image_size, description)


def _check(backbone: dict[str, Tensor], path: Path) -> None:
    expected = {name: tensor.shape for name, tensor in ResNet10().state_dict().items()}
    missing, unknown = sorted(expected.keys() - backbone), sorted(backbone.keys() - expected)
    if missing or unknown:
        raise CheckpointError(f"{path}: not a ResNet-10 in the published layout; missing"
                              f" {missing[:3]}, unknown {unknown[:3]}")
    for name, tensor in backbone.items():
        if tensor.shape != expected[name]:
            raise CheckpointError(f"{path}: {name} has shape {tuple(tensor.shape)}, expected"
                                  f" {tuple(expected[name])}")
        if not torch.isfinite(tensor).all():
            raise CheckpointError(f"{path}: {name} is not finite")
