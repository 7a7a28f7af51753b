"""The way of an ended episode to the learner: our disk first, then until it is acknowledged."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from graph_support import ros
from poco_msgs.srv import StoreEpisode

from poco_ros.core.episode import Episode
from poco_ros.core.spool import Spool
from poco_ros.ros import convert, names
from poco_ros.ros.delivery import Delivery, to_learner
from poco_ros.ros.fast_loop import Reply
from poco_ros.ros.node import PocoNode

pytestmark = pytest.mark.graph


def episode(number: int) -> Episode:
    return Episode(id=f"ep-0-{number:06d}", observations=np.ones((3, 2)),
                   actions=np.zeros((2, 1)), rewards=np.zeros(2), terminated=False,
                   truncated=True)


class Learner:
    """Takes what is handed over, in a way that a test chooses."""

    def __init__(self, node: PocoNode) -> None:
        self.came: list[str] = []
        self.answer: Callable[[StoreEpisode.Request], StoreEpisode.Response | None] = self.take
        node.loop.serve(StoreEpisode, names.STORE_EPISODE, self._serve)

    def take(self, request: StoreEpisode.Request) -> StoreEpisode.Response:
        name = convert.episode_of(request.episode).id
        self.came.append(name)
        return StoreEpisode.Response(success=True, episodes_stored=len(set(self.came)))

    def _serve(self, request: StoreEpisode.Request, reply: Reply) -> None:
        response = self.answer(request)
        if response is not None:
            reply(response)


@pytest.fixture(scope="module")
def node() -> Iterator[PocoNode]:
    with ros():
        made = PocoNode("hand_over")
        yield made
        made.destroy_node()


@pytest.fixture(scope="module")
def learner(node: PocoNode) -> Learner:
    return Learner(node)


def until(node: PocoNode, delivery: Delivery, condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 30.0
    while not condition():
        node.loop.wait(0.02)
        delivery.update()
        assert time.monotonic() < end


def deliver(node: PocoNode, folder: Path, stored: list[tuple[str, int]]) -> Delivery:
    return Delivery(Spool(folder), node.health, to_learner(node.loop), 0.2,
                    lambda name, count: stored.append((name, count)))


def test_it_is_handed_over_again_until_it_is_acknowledged(node: PocoNode, learner: Learner,
                                                          tmp_path: Path) -> None:
    stored: list[tuple[str, int]] = []
    learner.came.clear()
    asked: list[str] = []

    def dies_twice(request: StoreEpisode.Request) -> StoreEpisode.Response | None:
        asked.append(request.episode.id)
        return None if len(asked) < 3 else learner.take(request)

    learner.answer = dies_twice
    delivery = deliver(node, tmp_path, stored)
    delivery.put(episode(0))
    assert Spool(tmp_path).ids == ("ep-0-000000",), "on our disk before it is handed over"
    until(node, delivery, lambda: bool(stored))
    assert asked == ["ep-0-000000"] * 3 and stored == [("ep-0-000000", 1)]
    assert delivery.empty and not Spool(tmp_path).ids
    learner.answer = learner.take


def test_a_refusal_keeps_the_episode_and_tells_why(node: PocoNode, learner: Learner,
                                                   tmp_path: Path) -> None:
    stored: list[tuple[str, int]] = []
    learner.answer = lambda request: StoreEpisode.Response(message="no space left on device")
    delivery = deliver(node, tmp_path, stored)
    delivery.put(episode(1))
    until(node, delivery, lambda: "no space left" in node.health.summary()[1]
          or "no space left" in str(node.health._waiting))
    assert Spool(tmp_path).ids == ("ep-0-000001",) and not stored
    learner.answer = learner.take
    until(node, delivery, lambda: bool(stored))


def test_what_an_earlier_process_left_goes_first_and_in_order(node: PocoNode, learner: Learner,
                                                              tmp_path: Path) -> None:
    before = Spool(tmp_path)
    for number in (2, 3):
        before.put(episode(number))
    stored: list[tuple[str, int]] = []
    learner.came.clear()
    delivery = deliver(node, tmp_path, stored)
    delivery.put(episode(4))
    until(node, delivery, lambda: len(stored) == 3)
    assert learner.came == ["ep-0-000002", "ep-0-000003", "ep-0-000004"]


def test_without_room_for_the_spool_the_episode_waits_in_memory(
        node: PocoNode, learner: Learner, tmp_path: Path) -> None:
    stored: list[tuple[str, int]] = []
    folder = tmp_path / "spool"
    delivery = deliver(node, folder, stored)
    folder.rmdir()
    folder.write_text("in the way")
    delivery.put(episode(5))
    assert delivery.blocked and "free some space" in node.health.summary()[1]
    folder.unlink()
    until(node, delivery, lambda: bool(stored))
    assert not delivery.blocked and "free some space" not in node.health.summary()[1]
