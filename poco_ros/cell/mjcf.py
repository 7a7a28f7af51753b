"""The MuJoCo model of the cell: a six-joint arm with a gripper on a table, a cube, two cameras.

Masses, shapes and gains are plausible, not measured; the kinematics and the limits are Piper's.
"""

from __future__ import annotations

import numpy as np

from poco_ros.cell import kinematics as piper
from poco_ros.cell.config import SceneConfig

ARM_COLOUR = "0.86 0.87 0.89 1"
JOINT_COLOUR = "0.25 0.27 0.31 1"
FINGER_COLOUR = "0.13 0.14 0.16 1"
CUBE_COLOUR = "0.82 0.13 0.10 1"

_LINKS: tuple[str, ...] = (
    # geoms of links 1 to 6, each in its link's frame (z is the joint's axis)
    '<geom class="shell" type="cylinder" fromto="0 0 -0.035 0 0 0.03" size="0.048" mass="0.7"'
    f' rgba="{ARM_COLOUR}"/>',
    '<geom class="shell" type="cylinder" fromto="0 0 -0.048 0 0 0.048" size="0.042" mass="0.4"'
    f' rgba="{JOINT_COLOUR}"/>'
    '<geom class="shell" type="capsule" fromto="0.035 0 0 0.25 0 0" size="0.029" mass="0.7"'
    f' rgba="{ARM_COLOUR}"/>',
    '<geom class="shell" type="cylinder" fromto="0 0 -0.042 0 0 0.042" size="0.036" mass="0.4"'
    f' rgba="{JOINT_COLOUR}"/>'
    '<geom class="shell" type="capsule" fromto="-0.012 -0.035 0 -0.022 -0.14 0" size="0.027"'
    f' mass="0.3" rgba="{ARM_COLOUR}"/>',
    '<geom class="shell" type="cylinder" fromto="0 0 -0.11 0 0 -0.03" size="0.027" mass="0.4"'
    f' rgba="{ARM_COLOUR}"/>',
    '<geom class="shell" type="cylinder" fromto="0 0 -0.032 0 0 0.032" size="0.03" mass="0.3"'
    f' rgba="{JOINT_COLOUR}"/>',
    '<geom class="body" type="cylinder" fromto="0 0 -0.055 0 0 0" size="0.027" mass="0.15"'
    f' rgba="{ARM_COLOUR}"/>'
    '<geom class="body" type="box" pos="0 0 0.027" size="0.024 0.056 0.027" mass="0.35"'
    f' rgba="{JOINT_COLOUR}"/>',
)


def _text(values: np.ndarray | tuple[float, ...]) -> str:
    return " ".join(f"{value:.8g}" for value in values)


def _link_pose(index: int) -> str:
    """Return pos and quat of link ``index`` in its parent, at joint angle 0."""
    twist, offset = piper.LINK_TWIST[index], piper.JOINT_OFFSET[index]
    length = piper.LINK_OFFSET[index]
    position = (piper.LINK_LENGTH[index], -np.sin(twist) * length, np.cos(twist) * length)
    half_x, half_z = twist / 2, offset / 2
    quaternion = (np.cos(half_x) * np.cos(half_z), np.sin(half_x) * np.cos(half_z),
                  -np.sin(half_x) * np.sin(half_z), np.cos(half_x) * np.sin(half_z))
    return f'pos="{_text(position)}" quat="{_text(quaternion)}"'


def _finger(side: str, sign: int) -> str:
    return f"""
      <body name="finger_{side}" pos="0 0 0.054" gravcomp="1">
        <joint name="finger_{side}" class="finger" axis="0 {sign} 0"/>
        <geom class="body" type="box" pos="0 {sign * 0.0105:g} 0.010" size="0.013 0.0095 0.010"
          mass="0.03" rgba="{JOINT_COLOUR}"/>
        <geom name="pad_{side}" class="shell" type="box" pos="0 {sign * 0.006:g} 0.048"
          size="0.012 0.006 0.034" mass="0.04" rgba="{FINGER_COLOUR}"/>
      </body>"""


def _arm() -> str:
    """Return the nested bodies of the arm; gravity is compensated, as the arm's drives do."""
    opening, closing = "", ""
    for index in range(piper.JOINTS):
        lower, upper = piper.JOINT_LOWER[index], piper.JOINT_UPPER[index]
        opening += f"""
    <body name="link{index + 1}" {_link_pose(index)} gravcomp="1">
      <joint name="joint{index + 1}" class="arm" range="{_text((lower, upper))}"/>
      {_LINKS[index]}"""
        closing += "</body>"
    hand = f"""
      <camera name="wrist" pos="-0.085 0 0.026" xyaxes="0 -1 0 -0.906 0 0.423" fovy="75"/>
      <geom class="visual" type="box" pos="-0.085 0 0.012" size="0.011 0.018 0.012"
        rgba="{FINGER_COLOUR}"/>
      <geom class="visual" type="box" pos="-0.05 0 0.008" size="0.026 0.007 0.004"
        rgba="{FINGER_COLOUR}"/>
      <site name="tool" group="4" pos="0 0 {piper.TOOL_LENGTH:g}"/>{_finger("left", 1)}
      {_finger("right", -1)}"""
    return opening + hand + closing


def build_mjcf(config: SceneConfig) -> str:
    """Return the model as MJCF text."""
    half = config.cube_size / 2
    # stiffness [N m/rad], damping [N m s/rad] and torque [N m] of the motors
    gains = ((900, 45, 20), (900, 45, 20), (700, 35, 20), (200, 8, 7), (200, 8, 7), (120, 4, 7))
    servos = "".join(f"""
    <position name="joint{i + 1}" joint="joint{i + 1}" kp="{kp}" kv="{kv}"
      forcerange="-{torque} {torque}"/>""" for i, (kp, kv, torque) in enumerate(gains))
    # rubber grips the cube; a finger tip that touches the table slides on it
    pads = "".join(f"""
    <pair geom1="pad_{side}" geom2="cube" condim="4" friction="1.5 1.5 0.02 0.0001 0.0001"
      solref="0.008 1" solimp="0.95 0.99 0.001"/>
    <pair geom1="pad_{side}" geom2="table" condim="3" friction="0.1 0.1 0.005 0.0001 0.0001"/>"""
                   for side in ("left", "right"))
    return f"""
<mujoco model="poco cell">
  <compiler angle="radian" autolimits="true"/>
  <option timestep="{config.timestep:g}" integrator="implicitfast" cone="elliptic" impratio="10"
    iterations="20" ls_iterations="10" noslip_iterations="2">
    <flag multiccd="disable"/>
  </option>
  <visual>
    <headlight ambient="0.35 0.35 0.35"/>
    <global offwidth="640" offheight="640"/>
    <quality shadowsize="1024"/>
  </visual>
  <default>
    <default class="arm"><joint axis="0 0 1" armature="0.08" damping="1.0" frictionloss="0.2"/>
    </default>
    <default class="finger">
      <joint type="slide" range="0 {piper.GRIPPER_STROKE / 2:g}" armature="0.05" damping="4"/>
    </default>
    <default class="shell"><geom contype="0" conaffinity="0"/></default>
    <default class="visual"><geom contype="0" conaffinity="0" mass="0"/></default>
    <default class="body">
      <geom contype="2" conaffinity="1" condim="3" friction="0.4 0.005 0.0001"/>
    </default>
  </default>
  <worldbody>
    <light pos="0.5 -0.6 1.6" dir="-0.2 0.4 -1" diffuse="0.7 0.7 0.7" castshadow="true"/>
    <camera name="front" pos="0.74 -0.34 0.42" fovy="46"
      xyaxes="{_text(_look_at((0.74, -0.34, 0.42), (0.27, 0.0, 0.07)))}"/>
    <geom name="floor" type="plane" pos="0 0 -0.72" size="0 0 0.1" contype="1" conaffinity="2"
      rgba="0.42 0.44 0.46 1"/>
    <geom name="table" type="box" pos="0.22 0 -0.02" size="0.40 0.45 0.02" contype="1"
      conaffinity="2" friction="0.8 0.01 0.0001" rgba="0.72 0.62 0.48 1"/>
    <geom name="mat" type="box" pos="0.31 0 0.0003" size="0.13 0.17 0.0003" contype="0"
      conaffinity="0" rgba="0.36 0.47 0.52 1"/>
    <geom name="base" type="cylinder" fromto="0 0 0 0 0 0.09" size="0.056" contype="0"
      conaffinity="0" rgba="{JOINT_COLOUR}"/>{_arm()}
    <body name="cube" pos="0.3 0 {half:g}">
      <freejoint name="cube"/>
      <geom name="cube" type="box" size="{half:g} {half:g} {half:g}" mass="0.05" contype="3"
        conaffinity="3" condim="4" friction="0.9 0.01 0.0001" rgba="{CUBE_COLOUR}"/>
    </body>
  </worldbody>
  <contact>{pads}
  </contact>
  <equality>
    <joint joint1="finger_left" joint2="finger_right" solref="0.01 1"/>
  </equality>
  <actuator>{servos}
    <position name="gripper" joint="finger_left" kp="2500" kv="80" forcerange="-30 30"/>
  </actuator>
</mujoco>"""


def _look_at(position: tuple[float, ...], target: tuple[float, ...]) -> np.ndarray:
    """Return x and y axes of a camera at ``position`` that looks at ``target``, (6,)."""
    back = np.subtract(position, target)
    back = back / np.linalg.norm(back)
    right = np.cross((0.0, 0.0, 1.0), back)
    right /= np.linalg.norm(right)
    return np.concatenate([right, np.cross(back, right)])
