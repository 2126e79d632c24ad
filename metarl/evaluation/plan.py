"""What an evaluation measures: which tasks, how long, in which modes, from which seeds."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from metarl.errors import UserError
from metarl.evaluation.task_sets import read_tasks

if TYPE_CHECKING:
    from metarl.envs.tasks import TaskDistribution
    from metarl.types import ActionMode

Split = Literal["validation", "held_out", "out_of_range"]
BOTH_MODES: tuple[ActionMode, ...] = ("stochastic", "deterministic")


@dataclass(frozen=True)
class EvaluationPlan:
    """One evaluation; by the same plan an agent is measured to the same numbers.

    Attributes:
        split: The set of tasks.
        episodes: B, of each task before and after every adaptation step.
        adaptation_steps: K.
        modes: Which action modes to measure; of both, the headline is chosen as in the papers.
        seed: Of the resets and of the agent's own randomness; of several, the first.
        num_seeds: N, how many evaluation seeds it is repeated with: seed, seed + 1, …
        task_file: A user's own tasks, in place of the split.
        forget: Let the agent begin anew where it would adapt: an ablation.
        default_steps: K is nobody's choice, so that an agent that adapts but once may do so.
    """

    split: Split
    episodes: int
    adaptation_steps: int
    modes: tuple[ActionMode, ...] = BOTH_MODES
    seed: int = 0
    num_seeds: int = 1
    task_file: Path | None = None
    forget: bool = False
    default_steps: bool = False

    @property
    def seeds(self) -> tuple[int, ...]:
        """The evaluation seeds."""
        return tuple(range(self.seed, self.seed + self.num_seeds))

    @property
    def folder(self) -> str:
        """The name of the folder that holds its results."""
        name: str = self.split
        if self.task_file is not None:
            name = "tasks_" + re.sub(r"[^\w.-]", "_", self.task_file.stem)
        return f"{name}_forget" if self.forget else name

    def split_name(self, distribution: TaskDistribution) -> str:
        """What results call the tasks; those of a finite distribution are never unseen."""
        if self.task_file is not None:
            return f"tasks of {self.task_file.name}"
        return "training tasks" if distribution.finite else self.split

    def tasks(self, distribution: TaskDistribution) -> np.ndarray:
        """The tasks, float64 [n, d].

        Raises:
            UserError: the distribution has no such split, or the file is wrong.
        """
        if self.task_file is not None:
            return read_tasks(self.task_file, distribution)
        try:
            return distribution.split(self.split)
        except ValueError as error:
            raise UserError(f"There is no split {self.split}: {error}") from error

    def arguments(self, without: Collection[str] = ()) -> list[str]:
        """The arguments of a command line that measures by it again, some fields left out."""
        tasks = ["--tasks", str(self.task_file)] if self.task_file else ["--split", self.split]
        by_field = {
            "split": tasks,
            "episodes": ["--episodes", str(self.episodes)],
            "adaptation_steps": ["--adaptation-steps", str(self.adaptation_steps)],
            "modes": ["--mode", self.modes[0] if len(self.modes) == 1 else "both"],
            "seed": ["--seed", str(self.seed)],
            "num_seeds": ["--evaluation-seeds", str(self.num_seeds)],
            "forget": ["--forget", "true"] if self.forget else [],
        }
        return [word for name, words in by_field.items() if name not in without for word in words]
