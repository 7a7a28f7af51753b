"""Pictures of a MuJoCo scene without OpenGL: rays, on the processor, in a fraction of a second.

A fresh machine has neither a GPU nor a software OpenGL. MuJoCo itself can cast rays
(``mj_multiRay``, with bounding-volume trees over the meshes), and that is enough for a picture
that people recognise: a ray a pixel for shape and colour, a ray from the lamp for shadows, and
four more where an edge would be jagged. Slopes come from neighbouring pixels. Nothing here
changes the simulation.
"""

from __future__ import annotations

import copy

import numpy as np

from sim_bridge.quiet import mujoco
from sim_bridge.render import Painter, View

FAR = 20.0
"""Rays end here [m]; what lies farther is background."""
SKY_TOP, SKY_BOTTOM = np.array([0.60, 0.70, 0.82]), np.array([0.93, 0.94, 0.96])
SKY_LIGHT, LAMP_LIGHT, SHINE = 0.46, 0.66, 0.10
GAMMA = 2.2
OPAQUE, GLASS, HIDDEN = 0, 1, 5
"""Geom groups in the caster's own copy of the model: opaque, see-through, not seen."""
CORNERS = np.array([[0.125, 0.375], [0.375, -0.125], [-0.125, -0.375], [-0.375, 0.125]])
"""Where a jagged pixel is looked at again [pixel from its middle]."""
PLANE, BOX = int(mujoco.mjtGeom.mjGEOM_PLANE), int(mujoco.mjtGeom.mjGEOM_BOX)
TEXELS = 64
"""Textures are averaged to so many points a side."""
CONTRAST = 0.06
"""Neighbouring pixels of different geoms that differ more than this are looked at again."""


class RayCaster(Painter):
    """Draws one model. Colours are read anew at each picture, since simulators change them."""

    def __init__(self, model: mujoco.MjModel, view: View) -> None:
        self.view, self.model = view, model
        self._sorted = copy.copy(model)  # its groups say what a ray may hit
        self._textures = [_texture(model, index) for index in range(model.nmat)]
        # Newer releases of MuJoCo 3 can give normals, and must be told that none are wanted.
        described = mujoco.mj_multiRay.__doc__ or ""
        self._unasked = {"normal": None} if "normal: " in described else {}
        self._means = np.array([[*texture.mean(axis=(0, 1)), 1.0] for texture in self._textures]
                               ).reshape(-1, 4)

    def picture(self, data: mujoco.MjData, width: int, height: int) -> np.ndarray:
        """Return a picture of ``data``, (height, width, 3) uint8, RGB; ``data`` is only read."""
        colors = self._sort_geoms()
        shape = (height, width)
        y, x = (grid.ravel() + 0.5 for grid in np.mgrid[0:height, 0:width])
        eye = np.asarray(self.view.camera.position, float)
        rays = self.view.camera.rays(x, y, width, height)
        ids, distances = self._cast(data, eye, rays, OPAQUE)
        points = eye + rays * np.where(ids >= 0, distances, FAR)[:, None]
        normals = self._normals(data, ids.reshape(shape), points.reshape(*shape, 3), eye)
        picture = _sky(rays)
        hit = np.flatnonzero(ids >= 0)
        picture[hit] = self._light(data, points[hit], normals[hit], rays[hit],
                                   self._colors_at(data, ids[hit], points[hit], colors))
        image = picture.reshape(*shape, 3)
        self._smooth_edges(data, eye, ids.reshape(shape), image)
        self._add_glass(data, eye, rays, np.where(ids >= 0, distances, np.inf), colors, picture)
        return (255.0 * np.clip(image, 0.0, 1.0) ** (1.0 / GAMMA) + 0.5).astype(np.uint8)

    def close(self) -> None:
        """Nothing is held outside this object."""

    def _sort_geoms(self) -> np.ndarray:
        """Bring the copy's groups up to date; return the geoms' linear colours (G, 4)."""
        model = self.model
        colors = model.geom_rgba.astype(float)
        # As MuJoCo does: the material speaks where the geom's own colour is the default one.
        default = np.all(model.geom_rgba == np.array([0.5, 0.5, 0.5, 1.0], np.float32), axis=1)
        of_material = default & (model.geom_matid >= 0)
        material = model.geom_matid[of_material]
        colors[of_material] = model.mat_rgba[material] * self._means[material]
        seen = np.isin(model.geom_group, self.view.groups) & (colors[:, 3] > 0.0)
        self._sorted.geom_group[:] = np.where(
            seen, np.where(colors[:, 3] < 1.0, GLASS, OPAQUE), HIDDEN)
        self._sorted.geom_rgba[:, 3] = 1.0  # a ray passes through what is fully transparent
        self._sorted.mat_rgba[:, 3] = 1.0
        colors[:, :3] **= GAMMA
        return colors

    def _cast(self, data: mujoco.MjData, origin: np.ndarray, rays: np.ndarray,
              group: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the geoms (N,) that rays from one point hit first, -1 for none, and how far."""
        groups = np.zeros(mujoco.mjNGROUP, np.uint8)
        groups[group] = 1
        ids, distances = np.empty(len(rays), np.int32), np.empty(len(rays))
        mujoco.mj_multiRay(
            m=self._sorted, d=data, pnt=origin, vec=rays.ravel(), geomgroup=groups, flg_static=1,
            bodyexclude=-1, geomid=ids, dist=distances, nray=len(rays), cutoff=FAR,
            **self._unasked)
        return ids, distances

    def _normals(self, data: mujoco.MjData, ids: np.ndarray, points: np.ndarray,
                 eye: np.ndarray) -> np.ndarray:
        """Return unit normals (N, 3), towards the eye, of the points (H, W, 3) on geoms (H, W)."""
        down, right = _slope(points, ids, axis=0), _slope(points, ids, axis=1)
        ids, points = ids.ravel(), points.reshape(-1, 3)
        normals = np.zeros_like(points)
        kinds = self.model.geom_type[ids]
        plane = np.flatnonzero((ids >= 0) & (kinds == PLANE))
        normals[plane] = data.geom_xmat.reshape(-1, 3, 3)[ids[plane], :, 2]
        box = np.flatnonzero((ids >= 0) & (kinds == BOX))
        normals[box] = _box_normals(self.model, data, ids[box], points[box])
        rest = np.flatnonzero((ids >= 0) & (kinds != PLANE) & (kinds != BOX))
        toward = eye - points[rest]
        normal = np.cross(down.reshape(-1, 3)[rest], right.reshape(-1, 3)[rest])
        normal = np.where(np.abs(normal).sum(axis=1, keepdims=True) > 1e-15, normal, toward)
        normal *= np.sign((normal * toward).sum(axis=1, keepdims=True))
        normals[rest] = normal / np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-15)
        return normals

    def _colors_at(self, data: mujoco.MjData, ids: np.ndarray, points: np.ndarray,
                   colors: np.ndarray) -> np.ndarray:
        """Return linear colours (N, 3) of points on geoms; planes show their texture."""
        found = colors[ids, :3]
        model = self.model
        for geom in np.unique(ids[model.geom_type[ids] == PLANE]):
            material = int(model.geom_matid[geom])
            if material < 0:
                continue
            here = ids == geom
            local = (points[here] - data.geom_xpos[geom]) @ data.geom_xmat[geom].reshape(3, 3)
            repeat = model.mat_texrepeat[material].astype(float)
            if not model.mat_texuniform[material]:
                repeat = repeat / np.maximum(2.0 * model.geom_size[geom, :2], 1e-9)
            texture = self._textures[material]
            size = np.array(texture.shape[:2])
            texel = (((local[:, :2] * repeat) % 1.0) * size).astype(int) % size
            color = texture[texel[:, 0], texel[:, 1]] * model.mat_rgba[material, :3]
            found[here] = (color + self.view.ground * (1.0 - color)) ** GAMMA
        return found

    def _light(self, data: mujoco.MjData, points: np.ndarray, normals: np.ndarray,
               rays: np.ndarray, colors: np.ndarray) -> np.ndarray:
        """Return linear colours (N, 3): light of the sky, of the lamp where it reaches, shine."""
        lamp = np.asarray(self.view.lamp, float)
        beams = points - lamp
        lengths = np.linalg.norm(beams, axis=1)
        beams /= lengths[:, None]
        facing = np.maximum(-(normals * beams).sum(axis=1), 0.0)
        toward = np.flatnonzero(facing > 0.0)
        _, reach = self._cast(data, lamp, beams[toward], OPAQUE)
        facing[toward[(reach >= 0.0) & (reach < lengths[toward] - 3e-3)]] = 0.0
        sky = 0.65 + 0.35 * normals[:, 2]
        mirrored = beams - 2.0 * (beams * normals).sum(axis=1, keepdims=True) * normals
        shine = np.maximum(-(mirrored * rays).sum(axis=1), 0.0) ** 24 * (facing > 0.0)
        return (colors * (SKY_LIGHT * sky + LAMP_LIGHT * facing)[:, None]
                + SHINE * shine[:, None])

    def _smooth_edges(self, data: mujoco.MjData, eye: np.ndarray, ids: np.ndarray,
                      image: np.ndarray) -> None:
        """Look four times at pixels (H, W, 3) where a geom ends; take colours from neighbours."""
        rows, columns = np.nonzero(_edges(ids, image))
        if not rows.size:
            return
        height, width = ids.shape
        x = (columns[:, None] + 0.5 + CORNERS[:, 0]).ravel()
        y = (rows[:, None] + 0.5 + CORNERS[:, 1]).ravel()
        rays = self.view.camera.rays(x, y, width, height)
        found, _ = self._cast(data, eye, rays, OPAQUE)
        row, column = np.repeat(rows, len(CORNERS)), np.repeat(columns, len(CORNERS))
        colors = image[row, column]
        missing = found != ids[row, column]
        for dy, dx in ((0, 1), (0, -1), (1, 0), (-1, 0), (1, 1), (1, -1), (-1, 1), (-1, -1)):
            near_row = np.clip(row + dy, 0, height - 1)
            near_column = np.clip(column + dx, 0, width - 1)
            take = missing & (ids[near_row, near_column] == found)
            colors[take] = image[near_row[take], near_column[take]]
            missing &= ~take
        image[rows, columns] = colors.reshape(-1, len(CORNERS), 3).mean(axis=1)

    def _add_glass(self, data: mujoco.MjData, eye: np.ndarray, rays: np.ndarray,
                   behind: np.ndarray, colors: np.ndarray, picture: np.ndarray) -> None:
        """Lay see-through geoms over ``picture`` (N, 3) where they stand before ``behind``."""
        ids, distances = self._cast(data, eye, rays, GLASS)
        front = np.flatnonzero((ids >= 0) & (distances < behind))
        if not front.size:
            return
        geoms = ids[front]
        points = eye + rays[front] * distances[front, None]
        normals = -rays[front]
        box = self.model.geom_type[geoms] == BOX
        normals[box] = _box_normals(self.model, data, geoms[box], points[box])
        lit = self._light(data, points, normals, rays[front], colors[geoms, :3])
        alpha = np.sqrt(colors[geoms, 3:])  # the benchmarks' targets are faint: 0.2
        picture[front] += alpha * (lit - picture[front])


def _sky(rays: np.ndarray) -> np.ndarray:
    """Return linear colours (N, 3) of the background."""
    height = np.clip(rays[:, 2:3] * 1.5 + 0.5, 0.0, 1.0)
    return (SKY_BOTTOM + height * (SKY_TOP - SKY_BOTTOM)) ** GAMMA


def _slope(points: np.ndarray, ids: np.ndarray, axis: int) -> np.ndarray:
    """Return the step (H, W, 3) to the next point along ``axis`` on the same geom.

    Of the steps forwards and backwards the shorter one is on the same face; 0 when neither is.
    """
    step = np.diff(points, axis=axis)
    other = np.take(ids, range(1, ids.shape[axis]), axis) != np.take(
        ids, range(ids.shape[axis] - 1), axis)
    step[other] = np.inf
    edge = np.full_like(np.take(points, [0], axis), np.inf)
    forward = np.concatenate([step, edge], axis=axis)
    backward = np.concatenate([edge, step], axis=axis)
    shorter = (np.abs(forward).sum(axis=2) <= np.abs(backward).sum(axis=2))[..., None]
    slope = np.where(shorter, forward, backward)
    return np.where(np.isfinite(slope), slope, 0.0)


def _box_normals(model: mujoco.MjModel, data: mujoco.MjData, ids: np.ndarray,
                 points: np.ndarray) -> np.ndarray:
    """Return outward normals (N, 3) of points on the boxes ``ids`` (N,)."""
    frames = data.geom_xmat.reshape(-1, 3, 3)[ids]
    local = np.einsum("nij,ni->nj", frames, points - data.geom_xpos[ids]) / model.geom_size[ids]
    axis = np.abs(local).argmax(axis=1)
    rows = np.arange(len(ids))
    return frames[rows, :, axis] * np.sign(local[rows, axis])[:, None]


def _edges(ids: np.ndarray, image: np.ndarray) -> np.ndarray:
    """Return where (H, W) a pixel and a neighbour differ in geom and in brightness."""
    light = image.mean(axis=2) ** (1.0 / GAMMA)
    edge = np.zeros(ids.shape, bool)
    across = (ids[:, 1:] != ids[:, :-1]) & (np.abs(np.diff(light, axis=1)) > CONTRAST)
    down = (ids[1:] != ids[:-1]) & (np.abs(np.diff(light, axis=0)) > CONTRAST)
    edge[:, 1:] |= across
    edge[:, :-1] |= across
    edge[1:] |= down
    edge[:-1] |= down
    return edge


def _texture(model: mujoco.MjModel, material: int) -> np.ndarray:
    """Return the texture of a material, (h, w, 3) in [0, 1] and small; 1 x 1 white for none."""
    index = int(model.mat_texid[material].max())
    if index < 0:
        return np.ones((1, 1, 3))
    height, width = int(model.tex_height[index]), int(model.tex_width[index])
    channels, start = int(model.tex_nchannel[index]), int(model.tex_adr[index])
    pixels = model.tex_data[start:start + height * width * channels]
    pixels = pixels.reshape(height, width, channels)[..., :3] / 255.0
    # Averaged to TEXELS a side: finer lines would flicker, since a pixel takes one ray.
    rows, columns = min(TEXELS, height), min(TEXELS, width)
    pixels = pixels[:height // rows * rows, :width // columns * columns]
    return pixels.reshape(rows, height // rows, columns, width // columns, 3).mean(axis=(1, 3))
