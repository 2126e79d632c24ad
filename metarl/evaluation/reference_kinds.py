"""What results call the agents that a learner stands beside."""

from __future__ import annotations

from typing import Literal

TrainedKind = Literal["oracle", "multitask"]
PerTaskKind = Literal["from_scratch", "fine_tuned"]
AnewKind = Literal["reinforce", "td3", "ddpg", "ppo"]

TRAINED: tuple[TrainedKind, ...] = ("oracle", "multitask")
"""Trained once on all tasks: told the task, and not."""
PER_TASK: tuple[PerTaskKind, ...] = ("from_scratch", "fine_tuned")
"""Trained on each task, with as many episodes there as the agent has."""
ANEW: tuple[AnewKind, ...] = ("reinforce", "td3", "ddpg", "ppo")
"""Trained on each task from random weights, beside agents that are measured against env steps."""
ORACLE, FLOOR = TRAINED
"""The references between which scores are normalised."""
FROM_SCRATCH, FINE_TUNED = PER_TASK
EXPECTED = (ORACLE, FLOOR, "random")
"""Those that a report names where they are missing."""
