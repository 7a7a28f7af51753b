"""ResNet-10 equals an independent implementation of the published layout."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch
from numpy.lib.stride_tricks import sliding_window_view

from poco_ros.robot.encoder import Encoder, identity_of, prepare
from poco_ros.robot.encoder_weights import from_published
from poco_ros.robot.feature_head import FeatureHead
from poco_ros.robot.resnet10 import ResNet10
from poco_ros.robot.vision_config import CameraConfig, EncoderConfig, HeadConfig

RANDOM = np.random.default_rng(0)


def published_tree(seed: int = 0) -> dict:
    """Random parameters in the published layout: nested names, kernels (h, w, in, out)."""
    random = np.random.default_rng(seed)

    def kernel(*shape: int) -> dict:
        deviation = np.sqrt(2.0 / np.prod(shape[:-1]))
        return {"kernel": random.normal(0.0, deviation, shape).astype(np.float32)}

    def norm(channels: int) -> dict:
        return {"scale": random.uniform(0.5, 1.5, channels).astype(np.float32),
                "bias": random.normal(0.0, 0.3, channels).astype(np.float32)}

    tree = {"conv_init": kernel(7, 7, 3, 64), "norm_init": norm(64)}
    inputs = 64
    for index, width in enumerate((64, 128, 256, 512)):
        block = {"Conv_0": kernel(3, 3, inputs, width), "MyGroupNorm_0": norm(width),
                 "Conv_1": kernel(3, 3, width, width), "MyGroupNorm_1": norm(width)}
        if index:
            block |= {"conv_proj": kernel(1, 1, inputs, width), "norm_proj": norm(width)}
        tree[f"ResNetBlock_{index}"] = block
        inputs = width
    return tree


# --- the published network once more, in numpy, on (H, W, C) ----------------------------------


def pad_same(x: np.ndarray, window: int, stride: int, value: float) -> np.ndarray:
    """"SAME": the output has ceil(size / stride) rows; an odd rest of padding goes behind."""
    pads = []
    for size in x.shape[:2]:
        total = max((-(-size // stride) - 1) * stride + window - size, 0)
        pads.append((total // 2, total - total // 2))
    return np.pad(x, (*pads, (0, 0)), constant_values=value)


def convolve(x: np.ndarray, kernel: np.ndarray, stride: int) -> np.ndarray:
    windows = sliding_window_view(x, kernel.shape[:2], axis=(0, 1))[::stride, ::stride]
    return np.einsum("hwcij,ijco->hwo", windows, kernel, optimize=True)


def group_norm(x: np.ndarray, parameters: dict) -> np.ndarray:
    grouped = x.reshape(-1, 4, x.shape[2] // 4)
    mean = grouped.mean(axis=(0, 2), keepdims=True)
    variance = grouped.var(axis=(0, 2), keepdims=True)
    normal = ((grouped - mean) / np.sqrt(variance + 1e-5)).reshape(x.shape)
    return normal * parameters["scale"] + parameters["bias"]


def reference(picture: np.ndarray, tree: dict, last_block: int = 3) -> np.ndarray:
    x = (picture / 255.0 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    x = convolve(np.pad(x, ((3, 3), (3, 3), (0, 0))), tree["conv_init"]["kernel"], 2)
    x = np.maximum(group_norm(x, tree["norm_init"]), 0.0)
    x = sliding_window_view(pad_same(x, 3, 2, -np.inf), (3, 3), (0, 1))[::2, ::2].max((3, 4))
    for index in range(last_block + 1):
        block, stride = tree[f"ResNetBlock_{index}"], 1 if index == 0 else 2
        y = convolve(pad_same(x, 3, stride, 0.0), block["Conv_0"]["kernel"], stride)
        y = np.maximum(group_norm(y, block["MyGroupNorm_0"]), 0.0)
        y = convolve(pad_same(y, 3, 1, 0.0), block["Conv_1"]["kernel"], 1)
        y = group_norm(y, block["MyGroupNorm_1"])
        if y.shape != x.shape:
            x = group_norm(convolve(x, block["conv_proj"]["kernel"], stride), block["norm_proj"])
        x = np.maximum(x + y, 0.0)
    return x


@pytest.mark.parametrize("size, block", [(128, 3), (96, 3), (128, 1)])
def test_the_feature_map_is_the_published_networks(size: int, block: int) -> None:
    tree = published_tree()
    network = ResNet10(block).eval()
    network.load_state_dict(from_published(tree))
    picture = RANDOM.integers(0, 256, (size, size, 3), np.uint8)
    with torch.inference_mode():
        result = network(torch.from_numpy(picture).permute(2, 0, 1)[None])[0]
    expected = reference(picture.astype(np.float64), tree, block)
    np.testing.assert_allclose(result.permute(1, 2, 0).numpy(), expected, atol=1e-4)


def test_it_has_the_published_number_of_parameters() -> None:
    assert sum(parameter.numel() for parameter in ResNet10().parameters()) == 4_905_792


@pytest.mark.parametrize("kind, block, channels, expected", [
    ("mean", 3, 0, 512), ("mean", 2, 0, 256), ("grid", 3, 32, 512), ("grid", 2, 16, 256),
    ("spatial_softmax", 2, 0, 512), ("spatial_softmax", 3, 64, 128)])
def test_heads_give_what_they_promise(kind: str, block: int, channels: int, expected: int) -> None:
    network = ResNet10(block)
    head = FeatureHead(HeadConfig(kind=kind, block=block, channels=channels),
                       *network.map_shape(128))
    assert head.feature_dim == expected
    with torch.inference_mode():
        assert head(network(torch.zeros(2, 3, 128, 128))).shape == (2, expected)


def test_spatial_softmax_tells_where_a_channel_looks() -> None:
    head = FeatureHead(HeadConfig(kind="spatial_softmax", channels=0), 2, 8)
    feature_map = torch.zeros(1, 2, 8, 8)
    feature_map[0, 0, 2, 7] = feature_map[0, 1, 7, 0] = 50.0
    with torch.inference_mode():
        x0, x1, y0, y1 = head(feature_map)[0].tolist()
    assert (x0, y0) == (pytest.approx(1.0), pytest.approx(2 * 2 / 7 - 1))
    assert (x1, y1) == (pytest.approx(-1.0), pytest.approx(1.0))


def test_a_grid_keeps_places_apart_that_a_mean_throws_together() -> None:
    left, right = torch.zeros(1, 8, 4, 4), torch.zeros(1, 8, 4, 4)
    left[0, :, 1, 0] = right[0, :, 1, 3] = 1.0
    grid = FeatureHead(HeadConfig(kind="grid", channels=8), 8, 4)
    mean = FeatureHead(HeadConfig(kind="mean", channels=8), 8, 4)
    with torch.inference_mode():
        assert torch.allclose(mean(left), mean(right))
        assert not torch.allclose(grid(left), grid(right))


def test_pictures_are_cut_square_from_the_middle_and_scaled() -> None:
    picture = np.zeros((48, 64, 3), np.uint8)
    picture[:, 8:56] = 200
    assert (prepare(picture, 32) == 200).all() and prepare(picture, 32).shape == (32, 32, 3)


def test_random_weights_are_said_plainly_and_are_the_same_every_time(
        caplog: pytest.LogCaptureFixture) -> None:
    picture = RANDOM.integers(0, 256, (64, 64, 3), np.uint8)
    config = EncoderConfig(image_size=64)
    first, second = Encoder(config), Encoder(config)
    assert not first.trained and "RANDOM weights" in caplog.text
    features = first.encode([picture])
    assert features.shape == (1, first.feature_dim) and features.dtype == np.float32
    np.testing.assert_array_equal(features, second.encode([picture]))


def test_an_encoder_has_a_name_that_follows_from_all_that_makes_its_features() -> None:
    cameras = [CameraConfig(name="front"), CameraConfig(name="wrist")]
    config = EncoderConfig(image_size=64)
    name = identity_of(Encoder(config), cameras)
    assert len(name) == 12 and name == identity_of(Encoder(config), cameras)
    other = Encoder(config)
    next(iter(other._model.parameters())).data[0] += 1e-3
    others = [
        identity_of(Encoder(EncoderConfig(image_size=96)), cameras),
        identity_of(Encoder(EncoderConfig(image_size=64, head=HeadConfig(grid=2))), cameras),
        identity_of(other, cameras),
        identity_of(Encoder(config), [CameraConfig(name="front", crop=(0, 0, 0.9, 1)),
                                      cameras[1]]),
        identity_of(Encoder(config), cameras[::-1])]
    assert len({name, *others}) == 6


def test_a_batch_gives_what_single_pictures_give() -> None:
    encoder = Encoder(EncoderConfig(image_size=64))
    pictures = list(RANDOM.integers(0, 256, (3, 70, 90, 3), np.uint8))
    single = np.concatenate([encoder.encode([picture]) for picture in pictures])
    np.testing.assert_allclose(encoder.encode(pictures), single, atol=1e-4)


def test_a_frame_takes_less_than_40_ms_on_one_thread() -> None:
    encoder = Encoder(EncoderConfig(head=HeadConfig(kind="grid", block=3)))
    picture = RANDOM.integers(0, 256, (480, 640, 3), np.uint8)
    times = []
    for _ in range(12):
        began = time.thread_time()  # of this thread: a loaded machine changes nothing
        encoder.encode([picture])
        times.append(time.thread_time() - began)
    assert np.median(times) < 0.040
