"""The pictures show the scene: the right shapes in front, the cube where it is, some noise."""

from __future__ import annotations

import mujoco
import numpy as np
import pytest

from poco_ros.cell import kinematics as piper
from poco_ros.cell import ray_cast
from poco_ros.cell.cameras import make_camera
from poco_ros.cell.config import CameraConfig, SceneConfig
from poco_ros.cell.renderer import Renderer
from poco_ros.cell.scene import Scene

POSES = ([0.0, 1.2, -1.0, 0.0, 0.9, 0.0], [0.3, 1.6, -0.9, 0.2, 0.6, -0.4],
         [-0.4, 1.8, -1.1, -0.3, 0.5, 0.8], [0.0, 0.0, 0.0, 0.0, 0.35, 0.0])


@pytest.fixture(scope="module")
def scene() -> Scene:
    return Scene(SceneConfig())


def nearest_geoms(scene: Scene, camera: str, size: int) -> np.ndarray:
    """Return, by MuJoCo's own ray casting, what each pixel of a square picture shows."""
    model, data = scene.model, scene.data
    number = model.camera(camera).id
    focal = size / 2 / np.tan(np.radians(model.cam_fovy[number]) / 2)
    offsets = (np.arange(size) + 0.5 - size / 2) / focal
    x, y = np.meshgrid(offsets, -offsets)
    directions = np.stack([x, y, -np.ones_like(x)], -1).reshape(-1, 3)
    directions = directions @ data.cam_xmat[number].reshape(3, 3).T
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    met = np.zeros(1, np.int32)
    geoms = np.zeros(len(directions), int)
    for index, direction in enumerate(directions):
        mujoco.mj_ray(model, data, data.cam_xpos[number], direction, None, 1, -1, met)
        geoms[index] = met[0]
    return geoms.reshape(size, size)


@pytest.mark.parametrize("camera", ["front", "wrist"])
@pytest.mark.parametrize("pose", POSES)
def test_each_pixel_shows_what_a_ray_through_it_meets_first(
        scene: Scene, camera: str, pose: list[float]) -> None:
    scene.place_arm(np.array(pose))
    scene.place_cube(np.array([0.3, -0.05]), 0.3)
    renderer = Renderer(scene.model, camera, 64, 64)
    shown = renderer.shapes(scene.snapshot())
    expected = nearest_geoms(scene, camera, 64)
    expected = np.where(expected < 0, scene.model.ngeom, expected)
    agreement = np.mean(shown == expected)
    assert agreement > 0.995, f"{agreement:.4f}"


def red(picture: np.ndarray) -> np.ndarray:
    channels = picture.astype(int)
    return (channels[..., 0] > 90) & (channels[..., 1] < 60) & (channels[..., 2] < 60)


def test_the_cube_is_seen_where_it_is(scene: Scene) -> None:
    scene.place_arm(np.asarray(scene.config.home))
    camera = make_camera(scene.model, CameraConfig("front"), "fast", 0)
    number = scene.model.camera("front").id
    for place in ([0.26, -0.09], [0.30, 0.0], [0.36, 0.08]):
        scene.place_cube(np.array(place), 0.2)
        rows, columns = np.nonzero(red(camera.take(scene.snapshot())))
        local = (scene.cube.position - scene.data.cam_xpos[number]) @ scene.data.cam_xmat[
            number].reshape(3, 3)
        focal = 64 / np.tan(np.radians(scene.model.cam_fovy[number]) / 2)
        expected = 64 + focal * local[:2] * (1, -1) / -local[2]
        assert len(rows) > 60
        assert np.hypot(columns.mean() + 0.5 - expected[0], rows.mean() + 0.5 - expected[1]) < 3


def test_a_gripper_in_front_of_the_cube_hides_it(scene: Scene) -> None:
    scene.place_cube(np.array([0.3, 0.0]), 0.0)
    renderer = Renderer(scene.model, "front", 64, 64)
    cube = scene.model.geom("cube").id
    scene.place_arm(np.asarray(scene.config.home))
    free = (renderer.shapes(scene.snapshot()) == cube).sum()
    eye = scene.data.camera("front").xpos
    between = np.array([0.3, 0.0, 0.02]) + 0.22 * (eye - [0.3, 0.0, 0.02])
    joints, _ = piper.solve_tool(piper.down_frame(between, 0.0, 0.3),
                                 np.asarray(scene.config.home))
    scene.place_arm(joints, 0.02)
    assert (renderer.shapes(scene.snapshot()) == cube).sum() < 0.7 * free


def test_the_arm_casts_a_shadow_on_the_table(scene: Scene) -> None:
    scene.place_cube(np.array([0.3, 0.0]), 0.0)
    camera = make_camera(scene.model, CameraConfig("front", noise=0.0), "fast", 0)
    table = scene.model.geom("table").id
    scene.place_arm(np.asarray(scene.config.home))
    snapshot = scene.snapshot()
    shapes = Renderer(scene.model, "front", 128, 128).shapes(snapshot)
    brightness = camera.take(snapshot).sum(axis=-1)[shapes == table]
    assert brightness.min() < 0.75 * brightness.max()


def test_two_pictures_of_one_scene_differ_like_those_of_a_sensor(scene: Scene) -> None:
    camera = make_camera(scene.model, CameraConfig("front", noise=2.0), "fast", 0)
    snapshot = scene.snapshot()
    first, second = camera.take(snapshot).astype(int), camera.take(snapshot).astype(int)
    assert 2.0 < (first - second).std() < 4.0  # noise of 2 in each, after rounding
    camera.seed(0)
    np.testing.assert_array_equal(camera.take(snapshot), first)


def test_shapes_are_met_where_geometry_says() -> None:
    """A ray straight down onto unit shapes from a height of 5; a ray that passes by misses."""
    origin = np.array([0.0, 0.0, 5.0], np.float32)
    down = tuple(np.full((1, 1), value, np.float32) for value in (0.0, 0.0, -1.0))
    aside = tuple(np.full((1, 1), value, np.float32) for value in (0.5, 0.0, -1.0))
    up = np.array([0.0, 0.0, 1.0], np.float32)
    for meet, depth in (
            (lambda rays: ray_cast.box(origin, rays, np.ones(3, np.float32), up), 4.0),
            (lambda rays: ray_cast.cylinder(origin, rays, 1.0, 2.0, up), 3.0),
            (lambda rays: ray_cast.capsule(origin, rays, 1.0, 1.0, up), 3.0),
            (lambda rays: ray_cast.sphere(origin, rays, 1.0, up), 4.0),
            (lambda rays: ray_cast.plane(origin, rays, up), 5.0)):
        met, shade = meet(down)
        assert met[0, 0] == pytest.approx(depth, abs=1e-4)
        assert shade[0, 0] == pytest.approx(1.0, abs=1e-4)
    assert not np.isfinite(ray_cast.box(origin, aside, np.ones(3, np.float32), up)[0])
    assert not np.isfinite(ray_cast.sphere(origin, aside, 1.0, up)[0])
