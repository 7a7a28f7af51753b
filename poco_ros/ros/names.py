"""Names and qualities of service of the graph. All names are relative: launch sets a namespace.

======================  ===============================  ========================================
name                    type                             quality of service
======================  ===============================  ========================================
``joint_states``        ``sensor_msgs/JointState``       reliable, last 50
``features``            ``poco_msgs/Features``           reliable, last 50
``camera/image_raw``    ``sensor_msgs/Image``            sensor data; on the robot, of each
                                                         camera, ``camera/<name>/image_raw`` and
                                                         ``camera/<name>/image/compressed``
``encoder``             ``std_msgs/String``              reliable, latched; which encoder (digest)
                                                         makes the robot's features
``action_chunk``        ``poco_msgs/ActionChunk``        reliable, last 1
``executed_action``     ``poco_msgs/ExecutedAction``     reliable, last 50
``reward``              ``poco_msgs/Reward``             reliable, last 50
``episode``             ``poco_msgs/EpisodeStatus``      reliable, latched
``policy_weights``      ``poco_msgs/PolicyWeights``      reliable, latched, last few
``learner_status``      ``poco_msgs/LearnerStatus``      reliable, latched
``operator_ready``      ``std_msgs/Header``              reliable, last 1; stamp: the key press
``operator_heartbeat``  ``std_msgs/Header``              reliable, last 1; while the keypad works
======================  ===============================  ========================================

Services: ``infer_chunk``, ``store_episode``, ``reset``, ``label`` (``poco_msgs/srv``), ``stop``
(``std_srvs/SetBool``; True latches the stop, False releases it) and, of the arm, ``home``
(``std_srvs/Trigger``).
"""

from __future__ import annotations

from rclpy.qos import (
    DurabilityPolicy,
    HistoryPolicy,
    QoSProfile,
    ReliabilityPolicy,
    qos_profile_sensor_data,
)

JOINT_STATES = "joint_states"
FEATURES = "features"
CAMERA = "camera/image_raw"
ENCODER = "encoder"
ACTION_CHUNK = "action_chunk"
EXECUTED_ACTION = "executed_action"
REWARD = "reward"
EPISODE = "episode"
POLICY_WEIGHTS = "policy_weights"
LEARNER_STATUS = "learner_status"
OPERATOR_READY = "operator_ready"
OPERATOR_HEARTBEAT = "operator_heartbeat"
DIAGNOSTICS = "/diagnostics"
CLOCK = "/clock"

INFER_CHUNK = "infer_chunk"
STORE_EPISODE = "store_episode"
RESET = "reset"
STOP = "stop"
LABEL = "label"
HOME = "home"

TICK_DEPTH = 50
"""Queue of the topics that carry one message a tick. In lock-step the environment side is never
more than one chunk ahead, so with chunks of up to this many actions nothing can be overwritten
before it is read, however late the reader runs."""


def _reliable(depth: int, latched: bool = False) -> QoSProfile:
    durability = DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE
    return QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=depth,
                      reliability=ReliabilityPolicy.RELIABLE, durability=durability)


TICK_QOS = _reliable(TICK_DEPTH)
CHUNK_QOS = _reliable(1)
STATUS_QOS = _reliable(1, latched=True)
OPERATOR_QOS = _reliable(1)
DIAGNOSTICS_QOS = _reliable(10)
SENSOR_QOS = qos_profile_sensor_data


def weights_qos(rounds: int) -> QoSProfile:
    """Return the quality of service of ``policy_weights`` when the last ``rounds`` are kept."""
    return _reliable(rounds, latched=True)
