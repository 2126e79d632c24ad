"""metarl: meta-reinforcement learning on torch, gymnasium and mujoco."""

__version__ = "0.1.0"
