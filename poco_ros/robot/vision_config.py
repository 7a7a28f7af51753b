"""Settings of cameras and encoder; ``config/robot/cameras.yaml`` fills them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from poco_ros.core.config import setting
from poco_ros.core.errors import ConfigError

IMAGE_SIZE = 128
"""Edge of the pictures that the published ResNet-10 was trained on [px]."""
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")


@dataclass(frozen=True)
class CameraConfig:
    """One camera."""

    name: str = setting("front", "name; its features become the observation part of this name")
    source: str = setting("0", "device number, device path, URL of a stream, or video file")
    width: int = setting(0, "width asked of a device; 0 = as it comes", unit="px", minimum=0)
    height: int = setting(0, "height asked of a device; 0 = as it comes", unit="px", minimum=0)
    rate: float = setting(0.0, "frames a second that are expected; 0 = learn it", unit="1/s",
                          minimum=0.0, maximum=240.0)
    fourcc: str = setting("", "pixel format asked of a device, such as MJPG; empty = as it comes")
    crop: tuple[float, float, float, float] = setting(
        (0.0, 0.0, 1.0, 1.0), "left, top, right, bottom of what is used, as shares of the picture;"
        " the largest square in its middle goes to the encoder", minimum=0.0, maximum=1.0)
    loop: bool = setting(True, "play a video file again when it ends")
    silent_after: float = setting(0.5, "fault when no frame came for so long", unit="s",
                                  minimum=0.05)
    frozen_after: float = setting(0.3, "fault when the picture is identical for so long; before "
                                  "that a repeated picture counts for nothing. 0 = repeated ones "
                                  "are as good as new ones", unit="s", minimum=0.0)
    drop_share: float = setting(0.25, "fault when this share of the frames is missing",
                                minimum=0.0, maximum=1.0)
    read_timeout: float = setting(2.0, "open the stream again when reading hangs for so long",
                                  unit="s", minimum=0.1)
    reconnect_period: float = setting(1.0, "pause between attempts to open it again", unit="s",
                                      minimum=0.05)

    def __post_init__(self) -> None:
        left, top, right, bottom = self.crop
        if left >= right or top >= bottom:
            raise ConfigError(f"camera {self.name}: crop {self.crop} is empty; expected left,"
                              " top, right, bottom with left < right and top < bottom")
        if len(self.fourcc) not in (0, 4):
            raise ConfigError(f"camera {self.name}: fourcc {self.fourcc!r} has not 4 characters")


@dataclass(frozen=True)
class HeadConfig:
    """The way from the feature map to the features.

    The default is what a linear probe of the cube's place chose: on 1,600 pictures of the emulated
    cell's front camera, arm and cube anywhere, its median error is 5.5 mm on random weights, where
    the mean of the last block leaves 10.1 mm; after 450 updates of ``poco encoder fit`` on 150
    demonstrations without any label it is 2.8 mm against 6.0 mm.
    """

    kind: str = setting("grid", "mean: of each channel; grid: a coarse grid of the map; "
                        "spatial_softmax: the expected place of each channel",
                        choices=("mean", "grid", "spatial_softmax"))
    block: int = setting(2, "block of the ResNet whose map is used: 3 is the last (4 × 4 of 512 "
                         "channels for 128 px), 2 is finer (8 × 8 of 256) and quicker", minimum=0,
                         maximum=3)
    channels: int = setting(32, "channels that the map is reduced to first; 0 = all. A mixing "
                            "that was not fitted is a fixed random rotation", minimum=0,
                            maximum=512)
    grid: int = setting(4, "edge of the grid; the map is averaged down to it", minimum=1,
                        maximum=32)
    temperature: float = setting(1.0, "of the spatial softmax", minimum=1e-3)


@dataclass(frozen=True)
class EncoderConfig:
    """The encoder of pictures."""

    weights: str = setting("", "file of weights: .safetensors of 'poco encoder fit', or SERL's "
                           "resnet10_params.pkl; empty = random ones")
    image_size: int = setting(0, "edge of the pictures that it sees, a multiple of 32; 0 = as the "
                              f"weights were fitted, else {IMAGE_SIZE}", unit="px", minimum=0,
                              maximum=512)
    head: HeadConfig | None = setting(None, "the way from the feature map to the features; absent "
                                      "= as the weights were fitted")
    threads: int = setting(1, "processor threads", minimum=1, maximum=64)

    def __post_init__(self) -> None:
        if self.image_size % 32:
            raise ConfigError(f"image_size {self.image_size} is not a multiple of 32")


@dataclass(frozen=True)
class VisionConfig:
    """All cameras, in the order of their features, and the encoder that they share."""

    cameras: tuple[CameraConfig, ...] = setting(lambda: (CameraConfig(),), "the cameras")
    encoder: EncoderConfig = setting(EncoderConfig, "the encoder of pictures")

    def __post_init__(self) -> None:
        names = [camera.name for camera in self.cameras]
        if not names or len(set(names)) != len(names) or "" in names:
            raise ConfigError(f"cameras {names}: names must be unique and not empty, one at least")
        odd = [name for name in names if not _NAME.fullmatch(name)]
        if odd:  # they become topics, folders and parts of the observation
            raise ConfigError(f"camera {odd[0]!r}: a name begins with a letter and goes on with"
                              " letters, digits and _")
