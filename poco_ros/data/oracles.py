"""OGBench's plan oracles, by what they act on."""

from __future__ import annotations

from typing import Any

from sim_bridge.ogbench_models import Puzzle, Repeatable, Scene
from sim_bridge.quiet import quiet_import

with quiet_import():
    from ogbench.manipspace.oracles.plan.button_plan import ButtonPlanOracle
    from ogbench.manipspace.oracles.plan.cube_plan import CubePlanOracle
    from ogbench.manipspace.oracles.plan.drawer_plan import DrawerPlanOracle
    from ogbench.manipspace.oracles.plan.plan_oracle import PlanOracle
    from ogbench.manipspace.oracles.plan.window_plan import WindowPlanOracle

__all__ = ["PlanOracle", "make_oracles"]


def make_oracles(simulator: Repeatable, noise: float, noise_smoothing: float
                 ) -> dict[str, PlanOracle]:
    """Return target -> oracle for what ``simulator`` has, as OGBench's data generation does.

    ``noise`` is relative to one action, smoothed over ``noise_smoothing`` steps.
    """
    settings: dict[str, Any] = {"env": simulator, "noise": noise,
                                "noise_smoothing": noise_smoothing}
    if isinstance(simulator, Puzzle):
        return {"button": ButtonPlanOracle(gripper_always_closed=True, **settings)}
    oracles: dict[str, PlanOracle] = {"cube": CubePlanOracle(**settings)}
    if isinstance(simulator, Scene):
        oracles.update(button=ButtonPlanOracle(**settings), drawer=DrawerPlanOracle(**settings),
                       window=WindowPlanOracle(**settings))
    return oracles
