"""People label while a rollout runs in real time; the learner may be away meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from graph_support import Graph, Onlooker, ros, small_policy, write_preset
from poco_msgs.msg import EpisodeStatus as EpisodeStatusMsg
from poco_msgs.msg import LearnerStatus as LearnerStatusMsg
from poco_msgs.msg import PolicyWeights, Reward
from poco_msgs.srv import Label, StoreEpisode

from poco_ros.core.episode import Episode, Outcome
from poco_ros.core.joining import RewardSample
from poco_ros.ros import convert, names
from poco_ros.ros.fast_loop import Reply
from poco_ros.ros.weights import weights_to_msg

pytestmark = pytest.mark.graph
CHANGES = {
    "task": {"max_episode_steps": 30},
    "graph": {"sim_bridge": {"rate": 40.0},
              "rollout": {"correction_window": 1.5, "store_timeout": 0.5}},
}


class AwayLearner(Onlooker):
    """Has one policy, and takes episodes when it is there."""

    def __init__(self) -> None:
        super().__init__("learner")
        self.taken: list[Episode] = []
        self.here = True
        self.status = self.create_publisher(LearnerStatusMsg, names.LEARNER_STATUS,
                                            names.STATUS_QOS)
        weights = self.create_publisher(PolicyWeights, names.POLICY_WEIGHTS,
                                        names.weights_qos(2))
        weights.publish(weights_to_msg(1, small_policy(1).to_bytes(), 1, 0))
        self.loop.serve(StoreEpisode, names.STORE_EPISODE, self._on_episode)
        self.labels = self.loop.client(Label, names.LABEL)
        self.keypad = self.create_publisher(Reward, names.REWARD, names.TICK_QOS)
        self.tell()

    def tell(self) -> None:
        self.status.publish(convert.learner_status_to_msg(0, convert.LearnerStatus(
            stage="online", policy_version=1, episodes_stored=len(self.taken),
            round_versions=(1,))))

    def _on_episode(self, request: StoreEpisode.Request, reply: Reply) -> None:
        if not self.here:
            return  # dead: no answer
        episode = convert.episode_of(request.episode)
        known = episode.id in {e.id for e in self.taken}
        if not known:
            self.taken.append(episode)
        self.tell()
        reply(StoreEpisode.Response(success=True, duplicate=known,
                                    episodes_stored=len(self.taken)))

    @property
    def running(self) -> str:
        """Id of the episode that is open and has steps; empty when none."""
        newest = self.episodes[-1] if self.episodes else None
        return newest.episode_id if newest and newest.phase == EpisodeStatusMsg.RUNNING else ""

    def label(self, outcome: Outcome, episode: str = "") -> Label.Response:
        return self.ask(self.labels, Label.Request(episode_id=episode, outcome=outcome.value))

    def label_open(self, outcome: Outcome) -> str:
        """Label the open episode as soon as it has a step; return its id."""
        answers: list[Label.Response] = []

        def labelled() -> bool:
            if self.running:
                answers.append(self.label(outcome, self.running))
            return bool(answers and answers[-1].success)

        self.until(labelled, "an open episode is labelled")
        return str(answers[-1].episode_id)

    def episode(self, name: str) -> Episode:
        """Wait until an episode was handed over, and return it."""
        self.until(lambda: any(e.id == name for e in self.taken), f"{name} is handed over")
        return next(e for e in self.taken if e.id == name)


@pytest.fixture(scope="module")
def learner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AwayLearner]:
    folder: Path = tmp_path_factory.mktemp("free")
    preset = write_preset(folder / "tiny.yaml", CHANGES)
    with ros(), Graph(folder) as graph:
        graph.start("sim_bridge", preset=preset, pace="realtime")
        graph.start("policy_server", preset=preset)
        graph.start("rollout", preset=preset, pace="realtime", run_dir=folder / "run", seed=2)
        away = AwayLearner()
        away.until(lambda: len(away.taken) >= 1, "an episode", graph)
        yield away
        away.destroy_node()


def test_a_label_ends_the_open_episode_and_can_be_corrected(learner: AwayLearner) -> None:
    name = learner.label_open(Outcome.SUCCESS)
    assert not any(e.id == name for e in learner.taken), "held back while it can be corrected"
    corrected = learner.label(Outcome.FAILURE, name)
    assert corrected.success and corrected.episode_id == name
    episode = learner.episode(name)
    assert episode.outcome == Outcome.FAILURE and episode.terminated and episode.trainable
    assert len(episode) < 30 and episode.rewards[-1] == 0.0
    late = learner.label(Outcome.SUCCESS, name)
    assert not late.success and "handed over" in late.message


def test_success_by_a_person_terminates_with_the_reward_of_success(learner: AwayLearner) -> None:
    episode = learner.episode(learner.label_open(Outcome.SUCCESS))
    assert episode.success and episode.terminated and episode.rewards[-1] == 1.0
    assert not episode.rewards[:-1].any() and "label service" in episode.notes[-1]


def test_a_reward_message_labels_too_and_discard_is_kept_untrained(learner: AwayLearner) -> None:
    press = convert.reward_to_msg(RewardSample(0, "", 0.0, Outcome.DISCARD, source="keypad"))

    def discarded() -> list[Episode]:
        learner.keypad.publish(press)  # the open episode is meant, once it has a step
        return [e for e in learner.taken if e.outcome == Outcome.DISCARD]

    learner.until(lambda: bool(discarded()), "an episode that was discarded")
    episode = discarded()[0]
    assert not episode.trainable and not episode.terminated and not episode.truncated
    assert len(episode) and "keypad" in episode.notes[-1]


def test_episodes_go_on_without_a_learner_and_all_arrive_in_order_once(
        learner: AwayLearner) -> None:
    learner.here = False
    before = len(learner.taken)
    begun = {s.number for s in learner.episodes}
    learner.until(lambda: len({s.number for s in learner.episodes} - begun) >= 3,
                  "three more episodes begin without a learner")
    learner.until(lambda: learner.says("rollout", "waiting for store_episode (learner)"),
                  "the rollout says what it waits for")
    assert len(learner.taken) == before
    learner.here = True
    learner.until(lambda: len(learner.taken) >= before + 3, "the episodes arrive")
    numbers = [int(e.id.rpartition("-")[2]) for e in learner.taken]
    assert numbers == list(range(len(numbers))), "in order, none lost, none doubled"


def test_what_was_executed_is_what_is_stored(learner: AwayLearner) -> None:
    """In real time a tick may be held; a held tick is a step that no version asked for."""
    for episode in learner.taken:
        held = episode.policy_versions == 0
        assert not episode.actions[held].any()
        assert set(episode.policy_versions[~held]) <= {1}
        assert (np.diff(episode.stamps) > 0).all()
