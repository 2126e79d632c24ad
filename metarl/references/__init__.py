"""Agents to stand beside: what knowing the task, and what not adapting, would earn.

Five references, each trained by stable-baselines3's PPO except the last:

- *oracle*: sees the task vector;
- *multitask*: one policy for all tasks that sees nothing and does not adapt, the floor;
- *from_scratch*: on every evaluated task, PPO from random weights on the very experience that an
  algorithm adapts on there;
- *fine_tuned*: the same from the multitask policy's weights;
- *random*: uniform actions.

``metarl references CONFIG`` trains those that are missing. They are kept by the definition of their
environment, so every run on it shares them, and an evaluation never trains one. Measuring a stored
one needs no stable-baselines3.
"""
