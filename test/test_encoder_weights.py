"""Encoder weights: the published pickle without running it, safetensors, and what is refused."""

from __future__ import annotations

import os
import pickle
import sys
import types
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_encoder_resnet10 import published_tree

from poco_ros.core.errors import CheckpointError
from poco_ros.robot.array_pickle import read_arrays
from poco_ros.robot.encoder import Encoder
from poco_ros.robot.encoder_weights import load_weights, save_weights
from poco_ros.robot.vision_config import EncoderConfig, HeadConfig


def dump(path: Path, value: Any, protocol: int = 4) -> Path:
    path.write_bytes(pickle.dumps(value, protocol))
    return path


@pytest.mark.parametrize("protocol", range(2, 6))
def test_numpy_arrays_of_every_pickle_protocol_are_read(tmp_path: Path, protocol: int) -> None:
    tree = {"a": {"b": np.arange(12, dtype=np.float32).reshape(3, 4)},
            "turned": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
            "whole": np.array([1, 2], np.int64), "one": np.array(2.5, np.float16)}
    result = read_arrays(dump(tmp_path / "arrays.pkl", tree, protocol))
    np.testing.assert_array_equal(result["a"]["b"], tree["a"]["b"])
    np.testing.assert_array_equal(result["turned"], tree["turned"])
    np.testing.assert_array_equal(result["whole"], [1, 2])
    assert result["one"] == 2.5 and result["a"]["b"].dtype == np.float32


def test_arrays_of_jax_in_a_dictionary_of_flax_are_read(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Pickled as JAX and Flax do it: by naming functions of theirs that need not exist to be read.
    def _reconstruct_array(*_: Any) -> None: ...

    class FrozenDict(dict):
        def __reduce__(self) -> Any:
            return FrozenDict, (dict(self),)

    class JaxArray:
        def __init__(self, array: np.ndarray) -> None:
            self.array = array

        def __reduce__(self) -> Any:
            make, arguments, state = self.array.__reduce__()  # type: ignore[misc]
            return _reconstruct_array, (make, arguments, state, {"weak_type": False})

    for module, thing in (("jax._src.array", _reconstruct_array),
                          ("flax.core.frozen_dict", FrozenDict)):
        thing.__module__, thing.__qualname__ = module, thing.__name__
        parts = module.split(".")
        for depth in range(1, len(parts) + 1):
            name = ".".join(parts[:depth])
            monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
        setattr(sys.modules[module], thing.__name__, thing)
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    path = dump(tmp_path / "jax.pkl", FrozenDict({"layer": {"kernel": JaxArray(values)}}))
    monkeypatch.undo()
    np.testing.assert_array_equal(read_arrays(path)["layer"]["kernel"], values)


class Attack:
    """Runs a command when it is unpickled."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.reduced = (function, arguments)

    def __reduce__(self) -> Any:
        return self.reduced


@pytest.mark.parametrize("attack", [
    Attack(os.system, "touch pwned"), Attack(eval, "open('pwned', 'w')"),
    Attack(getattr, "text", "upper"), Attack(np.load, "x.npy"), Attack(print, "hello")],
    ids=["os.system", "eval", "getattr", "numpy.load", "print"])
def test_a_pickle_that_wants_to_run_something_is_refused(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, attack: Attack) -> None:
    monkeypatch.chdir(tmp_path)
    path = dump(tmp_path / "resnet10_params.pkl", {"conv_init": attack})
    with pytest.raises(CheckpointError, match=r"resnet10_params\.pkl.*only arrays are read"):
        load_weights(path)
    assert not (tmp_path / "pwned").exists()


def test_a_pickle_cannot_change_the_reader(tmp_path: Path) -> None:
    # GLOBAL _codecs.encode, then BUILD with a state of attributes.
    path = tmp_path / "build.pkl"
    path.write_bytes(b"\x80\x04c_codecs\nencode\n(N}\x8c\x05_make\x8c\x01xstb.")
    with pytest.raises(CheckpointError, match="change the reader"):
        read_arrays(path)


@pytest.mark.parametrize("content, words", [
    (pickle.dumps({"a": [1, 2]}), "of type list"), (pickle.dumps({1: np.zeros(2)}), "all text"),
    (pickle.dumps({"a": np.array([None])}), "only numbers"), (b"", "not a pickle"),
    (pickle.dumps({"a": np.zeros(100)})[:-60], "not a pickle"), (b"PK\x03\x04zip", "pickle")])
def test_what_is_no_pickle_of_arrays_is_refused(tmp_path: Path, content: bytes, words: str
                                                ) -> None:
    path = tmp_path / "file.pkl"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=words):
        read_arrays(path)


def test_the_published_file_is_loaded_classifier_left_out(tmp_path: Path) -> None:
    tree = published_tree()
    tree["output_head"] = {"kernel": np.zeros((512, 1000), np.float32)}
    weights = load_weights(dump(tmp_path / "resnet10_params.pkl", tree))
    kernel = weights.backbone["ResNetBlock_1.conv_proj.weight"]
    np.testing.assert_array_equal(kernel[5, 7, 0, 0],
                                  tree["ResNetBlock_1"]["conv_proj"]["kernel"][0, 0, 7, 5])
    encoder = Encoder(EncoderConfig(weights=str(tmp_path / "resnet10_params.pkl"), image_size=64))
    assert encoder.trained


@pytest.mark.parametrize("change, words", [
    (lambda tree: tree.pop("norm_init"), "missing.*norm_init"),
    (lambda tree: tree.update(extra={"kernel": np.zeros((1, 1, 2, 2))}), "unknown.*extra"),
    (lambda tree: tree["conv_init"].update(kernel=np.zeros((3, 3, 3, 64))), r"\(64, 3, 3, 3\)"),
    (lambda tree: tree["norm_init"].update(bias=np.full(64, np.nan)), "not finite"),
    (lambda tree: tree["norm_init"].update(mean=np.zeros(64)), "not part of ResNet-10")])
def test_parameters_of_another_network_are_refused(tmp_path: Path, change: Any, words: str
                                                   ) -> None:
    tree = published_tree()
    change(tree)
    with pytest.raises(CheckpointError, match=words):
        load_weights(dump(tmp_path / "other.pkl", tree))


def test_safetensors_round_trip_with_their_head(
        tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = load_weights(dump(tmp_path / "published.pkl", published_tree()))
    head = HeadConfig(kind="spatial_softmax", block=1, channels=16)
    mixing = torch.randn(16, 128)
    fitted = replace(source, head={"mixing": mixing}, head_config=head, image_size=64,
                     description="a test")
    path = tmp_path / "encoder.safetensors"
    save_weights(path, fitted)
    loaded = load_weights(path)
    assert loaded.head_config == head and loaded.image_size == 64
    assert torch.equal(loaded.head["mixing"], mixing)
    encoder = Encoder(EncoderConfig(weights=str(path)))
    assert encoder.image_size == 64 and encoder.feature_dim == 32 and not caplog.text
    other = Encoder(EncoderConfig(weights=str(path), head=HeadConfig(kind="mean", channels=0)))
    assert other.feature_dim == 256
    assert "the settings ask for HeadConfig(kind='mean'" in caplog.text, "its own is not used"


@pytest.mark.parametrize("spoil, words", [
    (lambda content: content[:5000], "not a whole safetensors file"),
    (lambda content: b"garbage" * 100, "not a whole safetensors file"),
    (lambda content: content.replace(b"poco-encoder-1", b"pico-encoder-1"), "format")])
def test_damaged_or_foreign_safetensors_are_refused(tmp_path: Path, spoil: Any, words: str
                                                    ) -> None:
    path = tmp_path / "encoder.safetensors"
    save_weights(path, load_weights(dump(tmp_path / "published.pkl", published_tree())))
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(CheckpointError, match=words):
        load_weights(path)


def test_weights_that_are_not_there_say_where_to_get_some(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="poco encoder fit"):
        Encoder(EncoderConfig(weights=str(tmp_path / "none.safetensors")))
