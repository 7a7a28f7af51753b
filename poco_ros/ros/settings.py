"""How the ROS graph runs: the section ``graph`` of a preset, one part a node.

Each node declares its part as ROS parameters of the same names, so a preset gives the values and
``-p name:=value`` overrides one of them. What differs from run to run (folders, seed, checkpoint)
is an argument of the node and not in here.
"""

from __future__ import annotations

from dataclasses import dataclass

from poco_ros.core.config import setting


@dataclass(frozen=True)
class SimBridgeConfig:
    """The environment side in simulation."""

    rate: float = setting(
        0.0, "actions a second in real time; 0 = the environment's own control rate", unit="Hz",
        minimum=0.0, maximum=200.0)
    max_chunk_age: float = setting(
        1.0, "in real time, chunks that answer an older observation are refused", unit="s",
        minimum=0.01, maximum=60.0)
    publish_clock: bool = setting(
        False, "publish the simulated time on /clock; done anyway with use_sim_time")
    camera_rate: float = setting(
        0.0, "pictures a second of simulated time on camera/image_raw; 0 = none (rendering is slow"
        " without a GPU)", unit="Hz", minimum=0.0, maximum=60.0)
    camera_width: int = setting(128, "width of a picture", unit="px", minimum=16, maximum=1920)
    camera_height: int = setting(128, "height of a picture", unit="px", minimum=16, maximum=1080)


@dataclass(frozen=True)
class EpisodeConfig:
    """How an episode is made from what the environment side says."""

    max_steps: int = setting(
        0, "episodes are truncated after so many steps; 0 = the task's own limit",
        minimum=0, maximum=1_000_000)
    success_window: int = setting(50, "episodes over which the success rate is taken", minimum=1,
                                  maximum=10_000)
    operator: bool = setting(
        False, "a person labels episodes: each ended one is held for correction_window; always so"
        " on the robot")
    correction_window: float = setting(
        3.0, "how long an episode that a person ended can still be labelled otherwise; it is held"
        " back until then", unit="s", minimum=0.0, maximum=600.0)
    environment_timeout: float = setting(
        0.0, "end the episode when the environment side has been silent for so long, on the robot"
        " also when a chunk has been awaited for so long: in simulation it is dropped and begun"
        " anew, on the robot kept and marked; 0 = 5 s in simulation, 1 s on the robot", unit="s",
        minimum=0.0, maximum=600.0)
    reset_timeout: float = setting(
        0.0, "how long a reset may take: in simulation it is asked for again then; on the robot,"
        " where it is the way home, never: the operator must be ready again; 0 = 5 s in"
        " simulation, 60 s on the robot", unit="s", minimum=0.0, maximum=600.0)
    features_max_age: float = setting(
        0.25, "on the robot, features that are older than this at a tick are a hole: the episode"
        " ends and is not trained on", unit="s", minimum=0.02, maximum=10.0)
    home_at_end: bool = setting(
        True, "on the robot, go home with an open gripper when an episode has ended by a label or"
        " by its step limit, if the arm was at work in it until then; after a fault or a stop"
        " nothing moves until the operator is ready")


@dataclass(frozen=True)
class RolloutConfig(EpisodeConfig):
    """The node that owns the episode."""

    max_episodes: int = setting(
        0, "begin no more episodes when the run has so many; 0 = no limit", minimum=0)
    infer_timeout: float = setting(
        1.0, "ask the policy server again when it has not answered for so long", unit="s",
        minimum=0.05, maximum=600.0)
    store_timeout: float = setting(
        10.0, "hand an episode over again when the learner has not answered for so long",
        unit="s", minimum=0.2, maximum=600.0)


@dataclass(frozen=True)
class PolicyServerConfig:
    """The node that answers observations with chunks."""

    kept_versions: int = setting(
        12, "newest versions of the weights that can be asked for; lock-step asks for older ones"
        " than the newest", minimum=10, maximum=64)


@dataclass(frozen=True)
class LearnerConfig:
    """The node that learns."""

    inline_limit: int = setting(
        32_000_000, "weights of more bytes travel as the file:// URI of a file in the run folder",
        unit="B", minimum=0)
    status_period: float = setting(1.0, "time between two learner_status", unit="s",
                                   minimum=0.05, maximum=60.0)


@dataclass(frozen=True)
class GraphConfig:
    """Everything that the nodes of the simulated graph take from a preset besides the task."""

    sim_bridge: SimBridgeConfig = setting(SimBridgeConfig, "environment side")
    rollout: RolloutConfig = setting(RolloutConfig, "episodes")
    policy_server: PolicyServerConfig = setting(PolicyServerConfig, "inference")
    learner: LearnerConfig = setting(LearnerConfig, "learning")
