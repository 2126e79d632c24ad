"""Gymnasium's MuJoCo models, with contact forces where an environment needs them."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import gymnasium
import mujoco

from metarl.envs.locomotion.contact_forces import plugin_name


@contextmanager
def silence() -> Iterator[None]:
    """Keep MuJoCo's warnings off the console and out of MUJOCO_LOG.TXT in the working folder.

    Warnings about a simulation lose nothing: their counters are checked after every step.
    """
    before, quiet = mujoco.MjLogConfig.get(), mujoco.MjLogConfig.get()
    quiet.logto_console = quiet.logto_file = False
    quiet.set()
    try:
        yield
    finally:
        before.set()


@functools.cache
def load_model(file: str, contact_forces: bool = False) -> mujoco.MjModel:
    """The model of a file among Gymnasium's, shared by all who ask for it; nobody changes it.

    Args:
        file: Its name.
        contact_forces: Whether every step leaves the external forces on each body in `cfrc_ext`.
            MuJoCo computes them for sensors only, so that without this they stay 0.
    """
    folder = Path(gymnasium.__file__).parent / "envs" / "mujoco" / "assets"
    with silence(), warnings.catch_warnings():
        # HalfCheetah's file has `settotalmass`, which is deprecated.
        warnings.simplefilter("ignore", UserWarning)
        spec = mujoco.MjSpec.from_file(str(folder / file))
        if contact_forces:
            spec.activate_plugin(plugin_name())
            spec.add_plugin(plugin_name=plugin_name(), name="contact_forces", active=True)
        return spec.compile()
