"""Pictures of MuJoCo models, drawn off screen.

MuJoCo draws with OpenGL, for which a machine without a screen needs EGL or OSMesa. Which of them
works is tried out in a child process: a driver can end the process that asks it, and PyOpenGL
stays with the first library that it was pointed at.
"""

from __future__ import annotations

import copy
import functools
import importlib
import os
import subprocess
import sys
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from metarl.envs.locomotion.models import silence

_PROBE = "import mujoco.{0} as gl; c = gl.GLContext(16, 16); c.make_current(); c.free()"
_PROBE_TIMEOUT_S = 60.0
_BACKENDS = {"linux": ("egl", "osmesa"), "darwin": ("cgl",), "win32": ("glfw",)}
_MISSING = {
    "linux": "neither EGL nor OSMesa works; install one of them, on Debian and Ubuntu by "
    "`apt-get install libegl1 libgl1-mesa-dri` or `apt-get install libosmesa6`.",
    "darwin": "CGL, which comes with macOS, does not work in this session.",
    "win32": "GLFW, which comes with mujoco, gets no OpenGL context in this session.",
}
_DISTANCE = 2.8  # of the camera, in radii of the moving bodies
_ELEVATION = -14.0  # degrees
_FADE = (0.95, 2.2)  # begin and end, in distances of the camera


class RendererMissing(RuntimeError):
    """This machine cannot draw off screen; one sentence says what to install."""


class Renderer:
    """Draws one state of a model after another, seen from the side by a camera that goes along.

    Args:
        model: The model; a copy of it is drawn.
        width: Of the pictures, in pixels.
        height: Of the pictures, in pixels.

    Raises:
        RendererMissing: this machine cannot draw off screen.
    """

    def __init__(self, model: mujoco.MjModel, width: int, height: int) -> None:
        gl: Any = importlib.import_module(f"mujoco.{backend()}")
        with silence():
            self._model = copy.copy(model)
            self._model.vis.global_.offwidth = width
            self._model.vis.global_.offheight = height
            _soften_floor(self._model)
            self._data = mujoco.MjData(self._model)
            mujoco.mj_fwdPosition(self._model, self._data)
        self._camera = mujoco.MjvCamera()
        self._camera.type = mujoco.mjtCamera.mjCAMERA_FREE
        self._camera.azimuth, self._camera.elevation = 90.0, _ELEVATION
        # Of the bodies, not of the whole scene: a floor may be far wider.
        center = self._data.xpos[1:].mean(axis=0)
        self._height = float(center[2])
        moving = self._model.geom_bodyid > 0
        from_center = np.linalg.norm(self._data.geom_xpos[moving] - center, axis=1)
        radius = (from_center + self._model.geom_rbound[moving]).max(initial=0.1)
        self._camera.distance = _DISTANCE * float(radius)
        # Far tiles flicker, so they fade. The context below takes this over when it is made.
        visible = self._model.vis.map
        visible.fogstart = _FADE[0] * self._camera.distance / self._model.stat.extent
        visible.fogend = _FADE[1] * self._camera.distance / self._model.stat.extent
        self._context: Any = None
        self._gl = gl.GLContext(width, height)
        self._gl.make_current()
        self._context = mujoco.MjrContext(self._model, mujoco.mjtFontScale.mjFONTSCALE_100.value)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN.value, self._context)
        self._scene = mujoco.MjvScene(self._model, maxgeom=2000)
        # Slow where there is no GPU, and clutter in a small picture.
        for flag in (mujoco.mjtRndFlag.mjRND_REFLECTION, mujoco.mjtRndFlag.mjRND_SHADOW):
            self._scene.flags[flag] = 0
        self._scene.flags[mujoco.mjtRndFlag.mjRND_FOG] = 1
        self._rectangle = mujoco.MjrRect(0, 0, width, height)

    def draw(self, state: NDArray[np.floating]) -> NDArray[np.uint8]:
        """The picture of a state qpos [nq]: uint8 [height, width, RGB]."""
        self._data.qpos[:] = state
        with silence():
            mujoco.mj_fwdPosition(self._model, self._data)
        # The camera follows on the ground, so that a jump is seen as one.
        x, y, _ = self._data.subtree_com[min(1, self._model.nbody - 1)]
        self._camera.lookat[:] = (x, y, self._height)
        self._gl.make_current()
        drawn = mujoco.mjtCatBit.mjCAT_ALL.value
        options = mujoco.MjvOption()
        mujoco.mjv_updateScene(
            self._model, self._data, options, None, self._camera, drawn, self._scene
        )
        mujoco.mjr_render(self._rectangle, self._scene, self._context)
        pixels = np.empty((self._rectangle.height, self._rectangle.width, 3), dtype=np.uint8)
        mujoco.mjr_readPixels(pixels, None, self._rectangle, self._context)
        return pixels[::-1].copy()  # OpenGL counts rows from below

    def close(self) -> None:
        """Let go of the OpenGL context; a second call does nothing."""
        if self._gl is not None:
            if self._context is not None:
                self._gl.make_current()
                self._context.free()
            self._gl.free()
            self._gl = None


def _soften_floor(model: mujoco.MjModel) -> None:
    """Grey tiles for black and white ones, and the colour into which the distance fades."""
    model.vis.rgba.fog[:] = model.vis.rgba.haze[:] = (0.86, 0.88, 0.9, 1.0)
    sizes = model.tex_height * model.tex_width * model.tex_nchannel
    for texture in np.flatnonzero(model.tex_type == mujoco.mjtTexture.mjTEXTURE_2D.value):
        start = model.tex_adr[texture]
        pixels = model.tex_data[start : start + sizes[texture]]
        pixels[:] = 120 + pixels // 2


@functools.cache
def backend() -> str:
    """The OpenGL library that works here: egl, osmesa, cgl or glfw. MUJOCO_GL decides where set.

    Raises:
        RendererMissing: none does.
    """
    chosen = os.environ.get("MUJOCO_GL", "").strip().lower()
    candidates = (chosen,) if chosen else _BACKENDS.get(sys.platform, ("egl", "osmesa"))
    for name in candidates:
        if name in ("egl", "osmesa", "glfw", "cgl") and _works(name):
            return name
    raise RendererMissing(
        "MuJoCo cannot draw off screen here: "
        + (
            f"the environment variable MUJOCO_GL is {chosen!r}, which does not work on this "
            "machine; unset it to have those tried that this system may have."
            if chosen
            else _MISSING.get(sys.platform, _MISSING["linux"])
        )
    )


def _works(name: str) -> bool:
    """Whether a process gets an OpenGL context from this library."""
    variables = {k: v for k, v in os.environ.items() if k != "PYOPENGL_PLATFORM"}
    try:
        probe = subprocess.run(
            [sys.executable, "-c", _PROBE.format(name)],
            env=variables,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_PROBE_TIMEOUT_S,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return probe.returncode == 0
