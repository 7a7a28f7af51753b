"""The picture encoder: cameras' pictures to feature vectors, frozen."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence

import cv2
import numpy as np
import torch

from poco_ros.core.errors import CheckpointError, DataError
from poco_ros.robot.encoder_weights import EncoderWeights, load_weights
from poco_ros.robot.feature_head import FeatureHead
from poco_ros.robot.resnet10 import ResNet10
from poco_ros.robot.vision_config import (
    IMAGE_SIZE,
    CameraConfig,
    EncoderConfig,
    HeadConfig,
)

logger = logging.getLogger(__name__)


def prepare(picture: np.ndarray, size: int) -> np.ndarray:
    """Return the largest square in the middle of ``picture``, scaled, (size, size, 3) uint8.

    Raises:
        DataError: it is not an RGB picture (H, W, 3) of bytes.
    """
    if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8:
        raise DataError(f"picture has shape {picture.shape} and type {picture.dtype}, expected"
                        " (H, W, 3) uint8")
    height, width = picture.shape[:2]
    edge = min(height, width)
    top, left = (height - edge) // 2, (width - edge) // 2
    square = picture[top:top + edge, left:left + edge]
    if edge == size:
        return square
    shrinks = edge > size
    return cv2.resize(square, (size, size),
                      interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


class Encoder:
    """Pictures in, features out; it does not learn. One thread at a time."""

    def __init__(self, config: EncoderConfig) -> None:
        """Build, and load the weights.

        Raises:
            CheckpointError: the weights cannot be used; the message says why.
        """
        torch.set_num_threads(config.threads)
        weights = load_weights(config.weights) if config.weights else None
        fitted = weights.head_config if weights is not None else None
        self.head_config = config.head or fitted or HeadConfig()
        self.image_size = config.image_size or (weights and weights.image_size) or IMAGE_SIZE
        if weights is None:
            torch.manual_seed(0)  # random, but the same in every run
        self._backbone = ResNet10(self.head_config.block)
        self._head = FeatureHead(self.head_config, *self._backbone.map_shape(self.image_size))
        self.trained = weights is not None
        """False: the weights are random, and features are only good for trying things out."""
        self.description = "random weights" if weights is None else weights.description
        """Where the weights come from, in words."""
        if weights is None:
            logger.warning("the encoder runs on RANDOM weights: its features see little. Set"
                           " encoder weights ('poco encoder fit' makes them from your pictures)")
        else:
            self._load(weights, fitted)
            logger.info("encoder weights: %s", weights.description)
        model = torch.nn.Sequential(self._backbone, self._head).eval().requires_grad_(False)
        self._model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @property
    def feature_dim(self) -> int:
        """F, length of a picture's features."""
        return self._head.feature_dim

    @property
    def digest(self) -> str:
        """A checksum of all that makes features of a picture: weights, head, image size."""
        found = hashlib.sha256(f"{self.image_size} {self.head_config}".encode())
        for name, tensor in sorted(self._model.state_dict().items()):
            found.update(name.encode())
            found.update(tensor.contiguous().numpy().tobytes())
        return found.hexdigest()

    def encode(self, pictures: Sequence[np.ndarray]) -> np.ndarray:
        """Return the features (N, F) float32 of N pictures (H, W, 3) uint8, RGB.

        Raises:
            DataError: one of them is not such a picture.
        """
        batch = np.stack([prepare(picture, self.image_size) for picture in pictures])
        with torch.inference_mode():
            # (N, H, W, 3) seen as (N, 3, H, W) is channels-last already.
            return self._model(torch.from_numpy(batch).permute(0, 3, 1, 2)).numpy()

    def _load(self, weights: EncoderWeights, fitted: HeadConfig | None) -> None:
        self._backbone.load_state_dict(weights.backbone)
        if not weights.head:
            return
        if self.head_config != fitted:
            logger.warning("the head of these weights is %s, the settings ask for %s: that one"
                           " is not fitted, and a mixing of its channels is random. Leave"
                           " encoder.head out, or fit anew with --cameras", fitted,
                           self.head_config)
            return
        try:
            self._head.load_state_dict(weights.head)
        except RuntimeError as error:
            raise CheckpointError(f"the fitted head does not fit pictures of {self.image_size} px:"
                                  f" {error}") from error


def identity_of(encoder: Encoder, cameras: Sequence[CameraConfig]) -> str:
    """Return a name (12 letters) of what makes features: the encoder, and what it is shown."""
    shown = ", ".join(f"{camera.name}: {camera.crop}" for camera in cameras)
    return hashlib.sha256(f"{encoder.digest} {shown}".encode()).hexdigest()[:12]
