"""OGBench's oracles, directed at one task: subgoal after subgoal, each with a noisy plan."""

from __future__ import annotations

from typing import Any

import numpy as np

from poco_ros.data.directed.contract import Demonstrator
from poco_ros.data.directed.cube_plan import Move, next_move
from poco_ros.data.directed.puzzle_plan import presses
from poco_ros.data.directed.scene_plan import Press, SceneState, Slide, next_step
from poco_ros.data.oracles import PlanOracle, make_oracles
from sim_bridge.ogbench_env import ACTION_DIM, OGBenchEnvironment
from sim_bridge.ogbench_models import Puzzle, Scene

SLIDES = ("drawer", "window")
Target = Move | Press | Slide


class OGBenchDemonstrator(Demonstrator):
    """Asks how things stand, gives the next subgoal to its oracle, and follows the oracle's plan.

    A plan that ends without its subgoal is tried again, ``attempts`` times in all.
    """

    def __init__(self, environment: OGBenchEnvironment, noise: float, noise_smoothing: float,
                 attempts: int) -> None:
        self._environment = environment
        self._simulator = environment.simulator
        self._goal = self._simulator.task_infos[environment.task.number - 1]
        self._oracles = make_oracles(self._simulator, noise, noise_smoothing)
        self._attempts = attempts
        self._target: Target | None = None
        self._oracle: PlanOracle | None = None
        self._tried = 0

    def begin(self) -> None:
        """Make a plan for the first subgoal."""
        self._target, self._oracle, self._tried = None, None, 0

    def act(self) -> np.ndarray | None:
        """Return the next action (5,) in [-1, 1]; None when a plan ended without its subgoal."""
        if self._oracle is None or self._oracle.done:
            if self._environment.subgoals().all():
                return np.zeros(ACTION_DIM)  # solved: hold still
            target = self._next_target()
            if target is None:
                return None
            self._tried = self._tried + 1 if target == self._target else 1
            if self._tried > self._attempts:
                return None
            self._target, self._oracle = target, self._plan(target)
        return np.clip(self._oracle.select_action(None, self._simulator.compute_ob_info()),
                       -1.0, 1.0)

    def _next_target(self) -> Target | None:
        simulator, goal = self._simulator, self._goal
        info = simulator.compute_ob_info()
        if isinstance(simulator, Puzzle):
            buttons = presses(info["button_states"], goal["goal_button_states"])
            return Press(buttons[0]) if buttons else None
        if isinstance(simulator, Scene):
            wanted = goal["goal"]
            slides = np.concatenate([info[f"privileged/{name}_pos"] for name in SLIDES])
            return next_step(
                SceneState(info["privileged/block_0_pos"], info["button_states"], slides),
                SceneState(wanted["block_xyzs"][0], wanted["button_states"],
                           np.array([wanted["drawer_pos"], wanted["window_pos"]])))
        goals = goal["goal_xyzs"]
        cubes = np.stack([info[f"privileged/block_{i}_pos"] for i in range(len(goals))])
        return next_move(cubes, goals)

    def _plan(self, target: Target) -> PlanOracle:
        """Return the oracle for ``target``, with a fresh plan."""
        simulator = self._simulator
        info: dict[str, Any] = dict(simulator.compute_ob_info())
        if isinstance(target, Move):
            oracle = self._oracles["cube"]
            info["privileged/target_block"] = target.cube
            info["privileged/target_block_pos"] = np.array(target.position)
            info["privileged/target_block_yaw"] = np.zeros(1)
        elif isinstance(target, Press):
            oracle = self._oracles["button"]
            top = simulator.data.site(f"btntop_{target.button}").xpos
            info["privileged/target_button_top_pos"] = top.copy()
        else:
            name = SLIDES[target.slide]
            oracle = self._oracles[name]
            joint = simulator.data.joint(f"{name}_slide")
            way = joint.xaxis * (target.position - joint.qpos[0])
            handle = info[f"privileged/{name}_handle_pos"]
            info[f"privileged/target_{name}_handle_pos"] = handle + way
        oracle.reset(None, info)
        return oracle
