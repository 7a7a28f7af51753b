"""Pictures made on the processor show what is there, where it is, and nothing else."""

from __future__ import annotations

import mujoco
import numpy as np
import pytest

from poco_ros.core.task import TaskConfig
from sim_bridge.ogbench_env import OGBenchEnvironment
from sim_bridge.painters import make_painter
from sim_bridge.render import Camera, View
from sim_bridge.render_rays import RayCaster

WIDTH, HEIGHT = 96, 72
ROOM = """
<mujoco><worldbody>
  <geom name="floor" type="plane" size="2 2 0.1" rgba="0.8 0.8 0.8 1"/>
  <geom name="ball" type="sphere" size="0.1" pos="0 0 0.3" rgba="0.9 0.1 0.1 1"/>
  <geom name="box" type="box" size="0.1 0.1 0.1" pos="0.4 0.4 0.1" rgba="0.1 0.1 0.9 1"/>
  <geom name="ghost" type="box" size="0.5 0.5 0.5" pos="0 0 0.5" rgba="0 1 0 1" group="3"/>
</worldbody></mujoco>"""
CAMERA = Camera((1.2, -1.0, 0.9), (0.0, 0.0, 0.2), 45.0)
LAMP = (0.0, 0.0, 3.0)


@pytest.fixture(scope="module")
def room() -> tuple[mujoco.MjModel, mujoco.MjData]:
    model = mujoco.MjModel.from_xml_string(ROOM)
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    return model, data


def pixel(camera: Camera, point: tuple[float, float, float]) -> tuple[int, int]:
    """Return the row and column in which a point [m] is seen."""
    right, up, forward = camera.axes()
    way = np.subtract(point, camera.position)
    scale = HEIGHT / (2 * np.tan(np.radians(camera.fovy) / 2) * (way @ forward))
    return int(HEIGHT / 2 - way @ up * scale), int(WIDTH / 2 + way @ right * scale)


def paint(room: tuple[mujoco.MjModel, mujoco.MjData], groups: tuple[int, ...] = (0,)
          ) -> np.ndarray:
    model, data = room
    return RayCaster(model, View(CAMERA, groups, LAMP)).picture(data, WIDTH, HEIGHT).astype(int)


def test_things_are_seen_where_the_camera_projects_them(
        room: tuple[mujoco.MjModel, mujoco.MjData]) -> None:
    picture = paint(room)
    assert picture[pixel(CAMERA, (0.0, 0.0, 0.3))].argmax() == 0, "the ball is red"
    assert picture[pixel(CAMERA, (0.4, 0.4, 0.2))].argmax() == 2, "the box is blue"
    rows, columns = np.nonzero((picture[..., 0] > 2 * picture[..., 1]) & (picture[..., 0] > 60))
    assert (round(rows.mean()), round(columns.mean())) == pytest.approx(
        pixel(CAMERA, (0.0, 0.0, 0.3)), abs=1.5), "the middle of all red is the ball's"


def test_only_the_groups_of_the_view_are_drawn(
        room: tuple[mujoco.MjModel, mujoco.MjData]) -> None:
    where = pixel(CAMERA, (0.3, -0.5, 0.2))  # on the ghost's near side
    assert paint(room)[where].argmax() != 1
    assert paint(room, (0, 3))[where].argmax() == 1, "the ghost is green"


def test_the_lamp_throws_shadows(room: tuple[mujoco.MjModel, mujoco.MjData]) -> None:
    picture = paint(room)
    under, beside = pixel(CAMERA, (0.05, -0.06, 0.0)), pixel(CAMERA, (0.4, -0.3, 0.0))
    assert picture[under].sum() < 0.8 * picture[beside].sum()


def test_a_see_through_thing_tints_what_is_behind_it(
        room: tuple[mujoco.MjModel, mujoco.MjData]) -> None:
    model, _ = room
    before = paint(room)
    model.geom_rgba[model.geom("ghost").id, 3] = 0.2
    try:
        tinted = paint(room, (0, 3))
    finally:
        model.geom_rgba[model.geom("ghost").id, 3] = 1.0
    where = pixel(CAMERA, (0.0, 0.0, 0.3))
    assert tinted[where][1] > before[where][1] and tinted[where][0] > 40, "still the ball"


def test_the_simulation_is_only_read(room: tuple[mujoco.MjModel, mujoco.MjData]) -> None:
    model, data = room
    size = mujoco.mj_stateSize(model, mujoco.mjtState.mjSTATE_INTEGRATION)
    states = np.zeros((2, size))
    colors, groups = model.geom_rgba.copy(), model.geom_group.copy()
    mujoco.mj_getState(model, data, states[0], mujoco.mjtState.mjSTATE_INTEGRATION)
    paint(room)
    mujoco.mj_getState(model, data, states[1], mujoco.mjtState.mjSTATE_INTEGRATION)
    np.testing.assert_array_equal(states[0], states[1])
    np.testing.assert_array_equal(model.geom_rgba, colors)
    np.testing.assert_array_equal(model.geom_group, groups)


def test_a_picture_is_a_function_of_the_state(
        room: tuple[mujoco.MjModel, mujoco.MjData]) -> None:
    np.testing.assert_array_equal(paint(room), paint(room))


@pytest.mark.parametrize("wants_normals", [False, True])
def test_rays_are_cast_by_older_and_newer_releases(
        wants_normals: bool, room: tuple[mujoco.MjModel, mujoco.MjData],
        monkeypatch: pytest.MonkeyPatch) -> None:
    """Newer ones have an argument more, in the middle and without a default."""
    expected, real = paint(room), mujoco.mj_multiRay
    names = ["m", "d", "pnt", "vec", "geomgroup", "flg_static", "bodyexclude", "geomid", "dist",
             *["normal"] * wants_normals, "nray", "cutoff"]
    unasked = {"normal": None} if "normal: " in real.__doc__ else {}

    def cast(*given: object, **named: object) -> None:
        named = {**dict(zip(names, given, strict=False)), **named}
        if set(named) != set(names):
            raise TypeError("mj_multiRay(): incompatible function arguments")
        if named.pop("normal", None) is not None:
            raise TypeError("nobody asked for normals")
        real(**named, **unasked)

    cast.__doc__ = ", ".join(f"{name}: object" for name in names)
    monkeypatch.setattr(mujoco, "mj_multiRay", cast)
    np.testing.assert_array_equal(paint(room), expected)


def test_cube_and_target_are_seen_on_the_bench() -> None:
    """cube-single's red cube lies where its pose says; the faint target is drawn as well."""
    environment = OGBenchEnvironment(TaskConfig())
    environment.reset(1)
    picture = environment.render(WIDTH, HEIGHT).astype(int)
    camera, data = environment.view.camera, environment.simulator.data
    row, column = pixel(camera, tuple(data.joint("object_joint_0").qpos[:3]))
    assert picture[row, column, 0] > 2 * picture[row, column, 1], "red, not floor"
    row, column = pixel(camera, tuple(data.mocap_pos[0]))
    red, green, _ = picture[row, column]
    assert red > 1.15 * green, "a tint of red on grey"
    environment.close()


def test_without_opengl_asked_for_rays_are_cast(
        monkeypatch: pytest.MonkeyPatch, room: tuple[mujoco.MjModel, mujoco.MjData]) -> None:
    for value in ("", "disable"):
        monkeypatch.setenv("MUJOCO_GL", value)
        assert isinstance(make_painter(room[0], View(CAMERA, (0,))), RayCaster)
