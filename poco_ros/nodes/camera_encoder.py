"""The node that turns what the cameras see into features.

The newest frames of all cameras are encoded in one batch and published in one message, as soon as
every camera has a new one. Its stamp is the capture of the oldest of them, so nothing in it is
older than it says. While a camera is closed, silent or frozen nothing is published, and who joins
features to a tick sees by their age that there are none, in place of a policy that acts on an old
picture. A camera that drops frames is told of, and its age says how much they are missed.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from poco_msgs.msg import EpisodeStatus, Features
from sensor_msgs.msg import CompressedImage, Image, JointState
from std_msgs.msg import String

from poco_ros.core import config
from poco_ros.core.config import setting
from poco_ros.core.errors import ConfigError, DataError
from poco_ros.core.observation import ObservationLayout
from poco_ros.preset import load_preset
from poco_ros.robot.camera import Camera, Frame
from poco_ros.robot.camera_watch import CameraFault
from poco_ros.robot.encoder import Encoder, identity_of
from poco_ros.robot.picture_log import BETWEEN, PictureLog, PictureRecorder
from poco_ros.robot.vision_config import CameraConfig, VisionConfig
from poco_ros.ros import convert, names
from poco_ros.ros.lifecycle import HardwareNode
from poco_ros.ros.node import POLL, run
from poco_ros.ros.parameters import declare_settings

WEIGHTS = "weights of the encoder"
RECORD = "record"
BLIND = ("opening", "closed", "silent", "frozen")
"""Faults of a camera without whose end there are no features. One that drops frames sees: whether
often enough, the age of its features tells."""
STALE = 0.1
"""A camera without a new frame is waited for so long, then its last one is taken again [s]."""


@dataclass(frozen=True)
class CameraEncoderSettings:
    """Parameters of the node."""

    preset: str = setting("", "preset of the task; its features must be those of the cameras;"
                          " empty: not checked")
    config: str = setting("", "YAML file of cameras and encoder, such as"
                          " config/robot/cameras.yaml; empty: the defaults")
    autostart: bool = setting(True, "configure and activate by itself")
    weights: str = setting("", "file of encoder weights in place of the one in config; empty: that"
                           " one")
    picture_rate: float = setting(5.0, "pictures a second of each camera for people; made only"
                                  " while somebody looks", unit="1/s", minimum=0.0, maximum=60.0)
    record: str = setting("", "folder to keep pictures and joints in, for poco encoder fit; empty:"
                          " none")
    record_rate: float = setting(5.0, "pictures a second of each camera that are kept", unit="1/s",
                                 minimum=0.1, maximum=60.0)


class CameraEncoder(HardwareNode):
    """Publishes ``features``, and for people ``camera/<name>/image/compressed``."""

    def __init__(self) -> None:
        super().__init__("camera_encoder")
        self.settings = declare_settings(self, CameraEncoderSettings, self.given)
        vision = config.load(VisionConfig, self.settings.config) if self.settings.config \
            else VisionConfig()
        encoder = vision.encoder
        if self.settings.weights:
            encoder = replace(encoder, weights=self.settings.weights)
        self.encoder = Encoder(encoder)
        self.layout = feature_layout(vision.cameras, self.encoder)
        if self.settings.preset:
            check_task(self.settings.preset, self.layout)
        self.cameras = [Camera(camera) for camera in vision.cameras]
        self.encoder.encode([np.zeros((64, 64, 3), np.uint8) for _ in self.cameras])  # slow once
        self._used = dict.fromkeys(self.layout.names, 0)
        self._published = 0
        self._encode_times: deque[float] = deque(maxlen=200)
        self._ages: deque[float] = deque(maxlen=200)
        self._moments: deque[float] = deque(maxlen=60)
        self._reported: set[str] = set()
        self._features = self.create_publisher(Features, names.FEATURES, names.TICK_QOS)
        self._identity = self.create_publisher(String, names.ENCODER, names.STATUS_QOS)
        identity = identity_of(self.encoder, vision.cameras)
        self._identity.publish(String(data=identity))
        self._pictures = {
            name: (self.create_publisher(CompressedImage, f"camera/{name}/image/compressed",
                                         names.SENSOR_QOS),
                   self.create_publisher(Image, f"camera/{name}/image_raw", names.SENSOR_QOS))
            for name in self.layout.names}
        self._show = Pace(self.settings.picture_rate)
        self._recorder: PictureRecorder | None = None
        if self.settings.record:
            self._begin_recording()
        if not self.encoder.trained:
            self.health.wait_for(WEIGHTS, "it runs on RANDOM ones, its features see little; set"
                                 " encoder.weights in config ('poco encoder fit' makes them)")
        self.health.figures = self._figures
        self.get_logger().info(
            f"cameras {', '.join(self.layout.names)}, {self.encoder.feature_dim} features each,"
            f" {self.encoder.description} (encoder {identity})")
        if self.settings.autostart:
            self.autostart()

    # -- lifecycle ----------------------------------------------------------------------------

    def connect(self) -> None:
        """Begin to read the cameras; those that are not there yet are waited for."""
        for camera in self.cameras:
            self.health.wait_for(first_picture(camera.name))
            camera.start()

    def disconnect(self) -> None:
        """Release the cameras."""
        for camera in self.cameras:
            camera.stop()
            self.health.give_up(first_picture(camera.name))

    def close(self) -> None:
        """Release the cameras, and keep the last pictures."""
        super().close()
        if self._recorder is not None:
            self._recorder.stop()

    # -- work ---------------------------------------------------------------------------------

    def work(self) -> None:
        """Wait for pictures, encode and publish, until stopped."""
        while not self.stopping.is_set():
            self.bring_up()
            while self.loop.poll():
                pass
            if self.state != "active":
                self._report({})
                self.stopping.wait(POLL)
                continue
            self._wait_for_news(STALE)
            frames = [camera.newest() for camera in self.cameras]
            seeing = self._report_faults()
            here = [frame for frame in frames if frame is not None]
            if all(seeing.values()) and len(here) == len(frames):
                self._publish(here)
            self._hand_on({name: frame for name, frame in zip(self._used, frames, strict=True)
                           if frame is not None and seeing[name]})

    def _wait_for_news(self, timeout: float) -> None:
        """Wait until every camera has a frame that was not used yet, ``timeout`` [s] at most."""
        end = time.monotonic() + timeout
        for camera in self.cameras:
            camera.wait_newer(self._used[camera.name], max(0.0, end - time.monotonic()))

    def _publish(self, frames: Sequence[Frame]) -> None:
        """Encode the frames, one a camera, when one of them is new."""
        used = dict(zip(self._used, (frame.number for frame in frames), strict=True))
        if used == self._used:
            return
        self._used = used
        oldest = min(frames, key=lambda frame: frame.monotonic_ns)
        begun = time.perf_counter()
        features = self.encoder.encode([frame.picture for frame in frames])
        self._encode_times.append(time.perf_counter() - begun)
        if not np.isfinite(features).all():
            self.health.event("bad features", "the encoder gave values that are not finite; fit"
                              " its weights anew")
            return
        self._features.publish(convert.features_to_msg(oldest.wall_ns, self.layout,
                                                       features.reshape(-1)))
        self._ages.append((time.monotonic_ns() - oldest.monotonic_ns) * 1e-9)
        self._moments.append(time.monotonic())
        self._published += 1

    def _report_faults(self) -> dict[str, bool]:
        """Report what is wrong with the cameras; return for each whether it sees."""
        now: dict[str, CameraFault] = {}
        seeing = {}
        for camera in self.cameras:
            faults = camera.faults()
            seeing[camera.name] = not any(fault.code in BLIND for fault in faults)
            if seeing[camera.name]:
                self.health.got(first_picture(camera.name))
            now |= {f"camera {camera.name} is {fault.code}": fault for fault in faults
                    if fault.code != "opening"}
        self._report(now)
        return seeing

    def _report(self, faults: dict[str, CameraFault]) -> None:
        """Let these faults, and no others, be on ``/diagnostics``, in the words they began with.
        """
        for key in self._reported - faults.keys():
            self.health.healed(key)
        for key in faults.keys() - self._reported:
            report = self.health.fault if faults[key].code in BLIND else self.health.warn
            report(key, f"{key}: {faults[key].detail}")
        self._reported = set(faults)

    # -- pictures for people and for fitting --------------------------------------------------

    def _hand_on(self, frames: dict[str, Frame]) -> None:
        """Show pictures to whoever looks, and keep some."""
        for name in self._show.due(frames):
            frame, (compressed, raw) = frames[name], self._pictures[name]
            if compressed.get_subscription_count():
                _, jpeg = cv2.imencode(".jpg", cv2.cvtColor(frame.picture, cv2.COLOR_RGB2BGR))
                compressed.publish(convert.compressed_to_msg(frame.wall_ns, jpeg.tobytes()))
            if raw.get_subscription_count():
                raw.publish(convert.image_to_msg(frame.wall_ns, frame.picture))
        if self._recorder is None:
            return
        for name in self._keep.due(frames):
            self._recorder.add_picture(name, self._episode or BETWEEN, frames[name])
        if self._recorder.trouble:
            self.health.fault(RECORD, self._recorder.trouble)
        else:
            self.health.healed(RECORD)

    def _begin_recording(self) -> None:
        """Open the folder, and listen for what belongs beside the pictures."""
        self._recorder = PictureRecorder(PictureLog(self.settings.record, self.layout.names))
        self._keep = Pace(self.settings.record_rate)
        self._episode = ""
        self.loop.subscribe(EpisodeStatus, names.EPISODE, self._on_episode, names.STATUS_QOS)
        self.loop.subscribe(JointState, names.JOINT_STATES, self._on_joints, names.TICK_QOS)

    def _on_episode(self, status: EpisodeStatus) -> None:
        if status.phase == EpisodeStatus.RUNNING:
            self._episode = status.episode_id
        elif status.phase != EpisodeStatus.STORED or status.episode_id == self._episode:
            self._episode = ""  # an earlier one may be stored while another runs

    def _on_joints(self, message: JointState) -> None:
        assert self._recorder is not None
        try:
            stamp, positions = convert.joints_of(message, message.name)
        except DataError as error:
            self.health.event("refused joints", str(error))
            return
        self._recorder.add_joints(stamp, dict(zip(message.name, positions.tolist(), strict=True)))

    def _figures(self) -> dict[str, object]:
        figures: dict[str, object] = {
            "state": self.state, "weights": self.encoder.description,
            "published": self._published, "rate_hz": _rate(self._moments),
            **_spread("encode_ms", self._encode_times), **_spread("age_ms", self._ages)}
        for camera in self.cameras:
            frame = camera.newest()
            age = "" if frame is None else \
                f"{(time.monotonic_ns() - frame.monotonic_ns) * 1e-6:.0f}"
            figures |= {f"{camera.name}: rate_hz": f"{camera.rate:.1f}",
                        f"{camera.name}: age_ms": age,
                        f"{camera.name}: dropped": camera.dropped,
                        f"{camera.name}: reconnections": camera.reconnections}
        if self._recorder is not None:
            figures |= {"pictures_kept": self._recorder.kept, "pictures_lost": self._recorder.lost}
        return figures


class Pace:
    """Lets frames through at a rate, each at most once."""

    def __init__(self, rate: float) -> None:
        """``rate`` a second and camera; 0 = none."""
        self._rate = rate
        self._next: dict[str, float] = {}
        self._last: dict[str, int] = {}

    def due(self, frames: dict[str, Frame]) -> list[str]:
        """Return the cameras whose frame is new and due."""
        if not self._rate:
            return []
        now, due = time.monotonic(), []
        for name, frame in frames.items():
            if now < self._next.get(name, 0.0) or frame.number == self._last.get(name):
                continue
            # From the moment that was due, not from now: frames that come late cost no rate.
            period = 1.0 / self._rate
            self._next[name] = max(self._next.get(name, 0.0) + period, now)
            self._last[name] = frame.number
            due.append(name)
        return due


def first_picture(camera: str) -> str:
    """Return what the node waits for when it has opened a camera."""
    return f"the first picture of camera {camera}"


def feature_layout(cameras: Sequence[CameraConfig], encoder: Encoder) -> ObservationLayout:
    """Return the parts of the observation that the cameras give: name and length of each."""
    return ObservationLayout(tuple((camera.name, encoder.feature_dim) for camera in cameras))


def check_task(preset: str, layout: ObservationLayout) -> None:
    """Refuse cameras that are not those of the task; ConfigError says how they differ."""
    task = load_preset(preset).task
    if task.simulated:
        raise ConfigError(f"preset {preset} is for the simulated task {task.name}, which needs no"
                          " cameras; give that of a task on the robot")
    if dict(layout.parts) != task.features:
        raise ConfigError(
            f"the cameras give the features {dict(layout.parts)}, preset {preset} is for"
            f" {task.features}; make the names and the encoder's head in config, or task.features"
            " of the preset, what the policy was made for")


def _rate(moments: Sequence[float]) -> str:
    moments = list(moments)
    if len(moments) < 2 or time.monotonic() - moments[-1] > 1.0:
        return "0.0"
    return f"{(len(moments) - 1) / (moments[-1] - moments[0]):.1f}"


def _spread(name: str, times: Sequence[float]) -> dict[str, str]:
    values = 1e3 * np.array(list(times))
    if not values.size:
        return {}
    return {f"{name} (median)": f"{np.median(values):.1f}",
            f"{name} (p99)": f"{np.percentile(values, 99):.1f}"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the node; return its exit code."""
    return run(CameraEncoder, arguments)


if __name__ == "__main__":
    raise SystemExit(main())
