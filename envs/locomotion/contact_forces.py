"""Contact forces on each body, within the time steps of a batch.

MuJoCo computes `cfrc_ext` for sensors only, so Gymnasium's environments call
`mj_rnePostConstraint` after the last time step of each env step. A batch takes all of them in one
call, and what that function needs is gone when it returns. As the `advance` of a MuJoCo plugin
the same function runs at the end of every time step, as native code on the batch's threads; it
writes accelerations and forces, which the simulation does not read.
"""

from __future__ import annotations

import ctypes
import functools
from ctypes import CFUNCTYPE, POINTER, c_char_p, c_int, c_void_p
from pathlib import Path
from typing import Any

import mujoco

_NAME = "metarl.contact_forces"

_NState = CFUNCTYPE(c_int, c_void_p, c_int)
_Init = CFUNCTYPE(c_int, c_void_p, c_void_p, c_int)
_Reset = CFUNCTYPE(None, c_void_p, c_void_p, c_void_p, c_int)
_Compute = CFUNCTYPE(None, c_void_p, c_void_p, c_int, c_int)


class _Plugin(ctypes.Structure):
    """`mjpPlugin` of MuJoCo 4's header mjplugin.h."""

    _fields_ = (
        ("name", c_char_p),
        ("nattribute", c_int),
        ("attributes", POINTER(c_char_p)),
        ("capabilityflags", c_int),
        ("needstage", c_int),
        ("nstate", _NState),
        ("nsensordata", c_void_p),
        ("init", _Init),
        ("destroy", c_void_p),
        ("copy", c_void_p),
        ("reset", _Reset),
        ("compute", _Compute),
        ("advance", c_void_p),
        ("visualize", c_void_p),
        ("actuator_act_dot", c_void_p),
        ("sdf_distance", c_void_p),
        ("sdf_gradient", c_void_p),
        ("sdf_staticdistance", c_void_p),
        ("sdf_attribute", c_void_p),
        ("sdf_aabb", c_void_p),
    )


def plugin_name() -> str:
    """The plugin's name, by which models ask for it; MuJoCo knows it from now on.

    Raises:
        ImportError: MuJoCo's plugins may be laid out in another way in the version installed.
    """
    _register()
    return _NAME


@functools.cache
def _register() -> tuple[Any, ...]:
    """Make the plugin known to MuJoCo, once; what is returned must live as long as the process."""
    if mujoco.__version__.split(".")[0] != "4":
        raise ImportError(
            f"Contact forces need MuJoCo 4, whose plugins they are written for; MuJoCo "
            f"{mujoco.__version__} is installed: python -m pip install 'mujoco>=4,<5'."
        )
    library = ctypes.CDLL(str(_library()))
    # It has no state. With no capability its `compute`, which is obligatory, is never called.
    callbacks = (
        _NState(lambda model, instance: 0),
        _Init(lambda model, data, instance: 0),
        _Reset(lambda model, state, data, instance: None),
        _Compute(lambda model, data, instance, capability: None),
    )
    plugin = _Plugin(name=_NAME.encode())
    plugin.nstate, plugin.init, plugin.reset, plugin.compute = callbacks
    # The first two arguments of `advance` are all that the function takes.
    plugin.advance = ctypes.cast(library.mj_rnePostConstraint, c_void_p)
    library.mjp_registerPlugin(ctypes.byref(plugin))
    return library, callbacks, plugin


def _library() -> Path:
    """The file of MuJoCo's library, which its Python package has loaded."""
    folder = Path(mujoco.__file__).parent
    files = [file for name in ("libmujoco*", "mujoco.dll") for file in sorted(folder.glob(name))]
    return files[0]
