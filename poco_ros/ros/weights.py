"""Weights on their way from the learner to whoever acts, by bytes or by the URI of a file."""

from __future__ import annotations

import hashlib
from array import array
from pathlib import Path
from urllib.parse import unquote, urlsplit

from poco_msgs.msg import PolicyWeights
from std_msgs.msg import Header

from poco_ros.core.errors import CheckpointError
from poco_ros.learning.policies import Policy, policy_from_bytes
from poco_ros.ros.convert import stamp_to_msg


def weights_to_msg(stamp: int, content: bytes, version: int, episodes_trained: int,
                   file: Path | None = None) -> PolicyWeights:
    """Return weights for publishing.

    Args:
        stamp: time of publishing [ns].
        content: the safetensors bytes.
        version: updates done when they were taken.
        episodes_trained: online episodes that they have learned from.
        file: a file with the same content; then its URI travels in place of the bytes.
    """
    return PolicyWeights(
        header=Header(stamp=stamp_to_msg(stamp)), version=version,
        episodes_trained=episodes_trained, sha256=hashlib.sha256(content).hexdigest(),
        uri="" if file is None else file.resolve().as_uri(),
        data=array("B", content if file is None else b""))


def policy_of(message: PolicyWeights) -> Policy:
    """Return the policy of published weights.

    Raises:
        CheckpointError: the file of the URI cannot be read, the checksum or the version differs
            from what was announced, or the weights are truncated, foreign or not finite.
    """
    source = f"policy_weights version {message.version}"
    content = message.data.tobytes()
    if message.uri:
        parts = urlsplit(message.uri)
        if parts.scheme != "file" or parts.netloc not in ("", "localhost"):
            raise CheckpointError(f"{source}: cannot read {message.uri!r}; expected file:///...")
        try:
            content = Path(unquote(parts.path)).read_bytes()
        except OSError as error:
            raise CheckpointError(f"{source}: {error}; learner and policy server must see the"
                                  " same file, or raise learner.inline_limit") from error
    found = hashlib.sha256(content).hexdigest()
    if found != message.sha256:
        raise CheckpointError(f"{source}: sha256 is {found[:12]}..., announced was"
                              f" {message.sha256[:12]}...; truncated or changed on the way")
    policy = policy_from_bytes(content, source)
    if policy.version != message.version:
        raise CheckpointError(f"{source}: the file says version {policy.version}")
    return policy
