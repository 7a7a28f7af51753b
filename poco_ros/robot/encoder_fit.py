"""Fits the ResNet-10 to a user's own pictures, when the published weights are not at hand.

Two objectives, alone or together. *Pictures* (self-supervised): from the features a small decoder
must draw the picture again; what differs from the camera's mean picture (the arm, the object)
counts most, so that the features hold where things are. *States*: a linear readout of the features
must give the states that were logged beside the pictures.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from poco_ros.core.config import setting
from poco_ros.core.errors import ConfigError, DataError
from poco_ros.robot.encoder_weights import EncoderWeights, load_weights
from poco_ros.robot.feature_head import FeatureHead
from poco_ros.robot.picture_set import PictureSet
from poco_ros.robot.resnet10 import ResNet10
from poco_ros.robot.vision_config import IMAGE_SIZE, HeadConfig


@dataclass(frozen=True)
class FitConfig:
    """How the encoder is fitted."""

    objective: str = setting("auto", "pictures: draw them again (self-supervised); states: tell "
                             "the logged states; both; auto: both where states are logged",
                             choices=("auto", "pictures", "states", "both"))
    steps: int = setting(1500, "gradient updates", minimum=1)
    batch_size: int = setting(32, "pictures an update", minimum=2)
    learning_rate: float = setting(1e-3, "peak learning rate of AdamW", minimum=1e-6)
    weight_decay: float = setting(1e-4, "weight decay", minimum=0.0)
    image_size: int = setting(IMAGE_SIZE, "edge of the pictures that the encoder sees, a multiple "
                              "of 32; smaller is quicker", unit="px", minimum=32, maximum=512)
    head: HeadConfig = setting(HeadConfig, "the head that is fitted and that the encoder will use")
    start_from: str = setting("", "weights to start from; empty = random ones")
    shift: int = setting(2, "pictures are shifted at random by up to so much", unit="px",
                         minimum=0)
    brightness: float = setting(0.15, "and made brighter or darker by up to this share",
                                minimum=0.0, maximum=1.0)
    held_out: float = setting(0.1, "share of the episodes that is held out to measure on",
                              minimum=0.0, maximum=0.5)
    seed: int = setting(0, "of everything random", minimum=0)
    threads: int = setting(1, "processor threads", minimum=1, maximum=64)

    def __post_init__(self) -> None:
        if self.image_size % 32:
            raise ConfigError(f"image_size {self.image_size} is not a multiple of 32")


@dataclass(frozen=True)
class FitProgress:
    """How a fit does."""

    step: int
    steps: int
    loss: float
    """Smoothed over some fifty updates."""
    seconds_left: float


class _Decoder(nn.Module):
    """Features to a picture of half the size, as the difference from its camera's mean picture."""

    _CHANNELS = (64, 48, 32, 24, 16, 12)

    def __init__(self, feature_dim: int, image_size: int) -> None:
        super().__init__()
        doublings = max(int(math.log2(image_size)) - 3, 1)  # from 4 px to about half the size
        self.drawn = 4 << doublings
        """Edge of the picture that is drawn [px]."""
        self.spread = nn.Linear(feature_dim, self._CHANNELS[0] * 4 * 4)
        layers: list[nn.Module] = []
        channels = [self._CHANNELS[min(index, 5)] for index in range(doublings + 1)]
        for inputs, outputs in itertools.pairwise(channels):
            layers += [nn.Upsample(scale_factor=2), nn.Conv2d(inputs, outputs, 3, padding=1),
                       nn.ReLU()]
        self.draw = nn.Sequential(*layers, nn.Conv2d(channels[-1], 3, 3, padding=1))

    def forward(self, features: Tensor) -> Tensor:
        start = functional.relu(self.spread(features)).view(-1, self._CHANNELS[0], 4, 4)
        return self.draw(start)


class EncoderFit:
    """A fit that runs step by step; :func:`fit_encoder` runs it to its end."""

    def __init__(self, pictures: PictureSet, config: FitConfig) -> None:
        """Prepare; ``pictures`` are of ``config.image_size``.

        Raises:
            DataError: pictures of another size, or states wanted where none are logged.
        """
        if pictures.pictures.shape[1:3] != (config.image_size, config.image_size):
            raise DataError(f"pictures are {pictures.pictures.shape[1:3]} px, expected"
                            f" {config.image_size} px")
        wants_states = config.objective in ("states", "both")
        if wants_states and pictures.states is None:
            raise DataError(f"objective {config.objective!r} needs logged states beside the"
                            " pictures; give an .npz with 'states', or objective pictures")
        torch.set_num_threads(config.threads)
        torch.manual_seed(config.seed)
        self.config = config
        self._random = np.random.default_rng(config.seed)
        self._data = pictures
        self._train, self._held_out = self._split()
        self._backbone = ResNet10(config.head.block)
        if config.start_from:
            self._backbone.load_state_dict(load_weights(config.start_from).backbone)
        self._head = FeatureHead(config.head, *self._backbone.map_shape(config.image_size))
        width = self._head.feature_dim
        self._norm = nn.LayerNorm(width)  # of the readouts, not of the features
        self._draws = config.objective != "states"
        self._tells = wants_states or (config.objective == "auto" and pictures.states is not None)
        self._decoder = _Decoder(width, config.image_size) if self._draws else None
        self._means = self._mean_pictures(self._decoder.drawn) if self._decoder else None
        self._readout: nn.Linear | None = None
        if self._tells and pictures.states is not None:
            self._readout = nn.Linear(width, pictures.states.shape[1])
            trained = pictures.states[self._train]
            self._centre = torch.from_numpy(trained.mean(axis=0))
            self._scale = torch.from_numpy(trained.std(axis=0) + 1e-6)
        parts = [self._backbone, self._head, self._norm, self._decoder, self._readout]
        self._modules = nn.ModuleList(part for part in parts if part is not None)
        self._backbone.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        # The blocks behind the one that is used get no gradient and stay as they are.
        self._optimiser = torch.optim.AdamW(
            self._modules.parameters(), config.learning_rate, weight_decay=config.weight_decay)
        self._schedule = torch.optim.lr_scheduler.LambdaLR(self._optimiser, self._rate)
        self.step = 0

    def update(self) -> float:
        """Do one gradient update; return its loss."""
        chosen = self._random.choice(self._train, self.config.batch_size)
        self._modules.train()
        loss = self._loss(chosen, augment=True)
        self._optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self._modules.parameters(), 1.0)
        self._optimiser.step()
        self._schedule.step()
        self.step += 1
        return float(loss.detach())

    def held_out_loss(self) -> float:
        """Return the mean loss on the episodes held out; NaN when none are."""
        if len(self._held_out) == 0:
            return math.nan
        self._modules.eval()
        size = self.config.batch_size
        with torch.inference_mode():
            losses = [float(self._loss(self._held_out[first:first + size], augment=False))
                      for first in range(0, len(self._held_out), size)]
        return float(np.mean(losses))

    def weights(self, description: str) -> EncoderWeights:
        """Return what was fitted."""
        def copy(module: nn.Module) -> dict[str, Tensor]:
            return {name: tensor.detach().clone(memory_format=torch.contiguous_format)
                    for name, tensor in module.state_dict().items()}

        return EncoderWeights(copy(self._backbone), copy(self._head), self.config.head,
                              self.config.image_size, description)

    def _split(self) -> tuple[np.ndarray, np.ndarray]:
        groups = self._random.permutation(np.unique(self._data.groups))
        held = groups[:int(len(groups) * self.config.held_out)]
        inside = np.isin(self._data.groups, held)
        return np.flatnonzero(~inside), np.flatnonzero(inside)

    def _rate(self, step: int) -> float:
        warmup = max(1, self.config.steps // 20)
        if step < warmup:
            return (step + 1) / warmup
        return 0.5 * (1.0 + math.cos(math.pi * min(1.0, step / self.config.steps)))

    def _loss(self, chosen: np.ndarray, augment: bool) -> Tensor:
        pictures = torch.from_numpy(self._data.pictures[chosen]).permute(0, 3, 1, 2)
        if augment:
            pictures = self._shifted(pictures)
        seen = self._lit(pictures) if augment else pictures
        features = self._norm(self._head(self._backbone(seen)))
        loss = torch.zeros(())
        if self._decoder is not None and self._means is not None:
            small = functional.interpolate(pictures.float() / 255.0, size=self._means.shape[2:],
                                           mode="area")
            wanted = small - self._means[self._data.cameras[chosen]]
            # What moves is a small part of the picture; without a weight the decoder ignores it.
            worth = wanted.abs().mean(1, keepdim=True)
            worth = 0.1 + worth / (worth.mean((2, 3), keepdim=True) + 1e-3)
            error = (self._decoder(features) - wanted)**2 * worth
            loss = loss + error.mean() / (wanted.pow(2) * worth).mean().clamp_min(1e-4)
        if self._readout is not None and self._data.states is not None:
            states = torch.from_numpy(self._data.states[chosen])
            told = self._readout(features)
            loss = loss + functional.mse_loss(told, (states - self._centre) / self._scale)
        return loss

    def _shifted(self, pictures: Tensor) -> Tensor:
        reach = self.config.shift
        if reach == 0:
            return pictures
        padded = functional.pad(pictures.float(), (reach,) * 4, mode="replicate")
        size = pictures.shape[-1]
        places = self._random.integers(0, 2 * reach + 1, (len(pictures), 2))
        return torch.stack([picture[:, top:top + size, left:left + size]
                            for picture, (top, left) in zip(padded, places, strict=True)])

    def _lit(self, pictures: Tensor) -> Tensor:
        share = self.config.brightness
        factors = self._random.uniform(1.0 - share, 1.0 + share, (len(pictures), 1, 1, 1))
        lit = pictures * torch.from_numpy(factors.astype(np.float32))
        return lit.clamp(0, 255).contiguous(memory_format=torch.channels_last)

    def _mean_pictures(self, size: int) -> Tensor:
        """Return each camera's mean picture, (cameras, 3, size, size), 0 to 1."""
        data, means = self._data, []
        for camera in range(int(data.cameras.max()) + 1):
            members = self._train[data.cameras[self._train] == camera][:2000]
            if len(members) == 0:
                means.append(torch.zeros(3, size, size))
                continue
            mean = torch.from_numpy(data.pictures[members].mean(axis=0, dtype=np.float32) / 255.0)
            means.append(functional.interpolate(mean.permute(2, 0, 1)[None],
                                                size=(size, size), mode="area")[0])
        return torch.stack(means)


def fit_encoder(pictures: PictureSet, config: FitConfig, source: str | Path,
                on_progress: Callable[[FitProgress], None] = lambda progress: None
                ) -> tuple[EncoderWeights, float]:
    """Fit an encoder; return its weights and its loss on what was held out (NaN if nothing was).

    Args:
        pictures: the user's pictures, of ``config.image_size``.
        config: how.
        source: where the pictures come from; written into the description of the weights.
        on_progress: called after every update.
    """
    fit = EncoderFit(pictures, config)
    began, smooth = time.monotonic(), math.nan
    for step in range(1, config.steps + 1):
        loss = fit.update()
        smooth = loss if math.isnan(smooth) else 0.98 * smooth + 0.02 * loss
        left = (time.monotonic() - began) / step * (config.steps - step)
        on_progress(FitProgress(step, config.steps, smooth, left))
    held_out = fit.held_out_loss()
    description = (f"fitted to {len(pictures)} pictures of {source}, objective"
                   f" {config.objective}, {config.steps} updates, held-out loss {held_out:.4f}")
    return fit.weights(description), held_out
