"""metarl: meta-reinforcement learning on torch, gymnasium and mujoco."""

from pathlib import Path as _Path

__version__ = "0.2.0"

if not (_Path(__file__).parent / "envs").is_dir():  # not the wheel: metarl.envs is envs/ beside us
    __path__.append(str(_Path(__file__).parents[1]))

from metarl import envs as envs  # its ids are known to Gymnasium from here on
