"""The returns of the references that learn each task, kept beside the others.

``references/<environment>-<8 hex>/<kind>/<split>-<axis>-<K>x<B>-seed_<S>.json``. They are results
and no policies: K+1 returns on every task. What they were made with stands in the file, and one
that no longer fits (other tasks, or a multitask policy trained anew) counts as missing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from metarl.envs.vector import TaskVectorEnv
from metarl.errors import UserError
from metarl.evaluation.measurements import Evaluation
from metarl.evaluation.plan import EvaluationPlan
from metarl.evaluation.protocol import evaluate
from metarl.evaluation.reference_kinds import AnewKind, PerTaskKind
from metarl.random import Key
from metarl.references import storage
from metarl.references.settings import per_task_settings
from metarl.references.storage import Definition
from metarl.storage.files import replace_file, writing
from metarl.types import ActionMode, AdaptationAxis, Agent


@dataclass(frozen=True)
class PerTaskReference:
    """PPO on each task of an evaluation.

    Attributes:
        kind: "from_scratch", or "fine_tuned" from the multitask policy.
        definition: Of the environment.
        plan: The evaluation, which says how much it may learn from.
        axis: Of the agent beside: "gradient_step" gives K rounds of B episodes a task, "episode" K
            episodes a lane.
        tasks: [n, d].
        multitask: The policy to fine-tune; None from scratch.
    """

    kind: PerTaskKind | AnewKind
    definition: Definition
    plan: EvaluationPlan
    axis: AdaptationAxis
    tasks: np.ndarray
    multitask: storage.StoredReference | None
    mode: ClassVar[ActionMode] = "stochastic"

    @property
    def name(self) -> str:
        """What it is called in lines of progress."""
        return self.kind

    @property
    def settings(self) -> dict[str, Any]:
        """How it learns."""
        return asdict(per_task_settings(self.definition.name))

    @property
    def file(self) -> str:
        """Of the results, below the environment's folder."""
        size = f"{self.plan.adaptation_steps}x{self.plan.episodes}"
        return f"{self.kind}/{self.plan.split}-{self.axis}-{size}-seed_{self.plan.seed}.json"

    @property
    def made_with(self) -> dict[str, Any]:
        """What decides the results, beside the environment: they are stale where it differs."""
        return {
            "format": storage.FORMAT,
            "kind": self.kind,
            "split": self.plan.split,
            "axis": self.axis,
            "adaptation_steps": self.plan.adaptation_steps,
            "episodes": self.plan.episodes,
            "seed": self.plan.seed,
            "action_mode": self.mode,
            "tasks": np.asarray(self.tasks, dtype=np.float64).tolist(),
            "settings": storage.as_json(self.settings),
            "multitask_sha256": None if self.multitask is None else self.multitask.sha256,
        }

    def measure(
        self, env: TaskVectorEnv, progress: Callable[[int, int], None] | None = None
    ) -> Evaluation:
        """Let it learn every task by the protocol of an evaluation, in its mode.

        Args:
            env: n·B lanes.
            progress: Called with (rounds measured, rounds in all).

        Raises:
            FloatingPointError: it diverged.
        """
        return evaluate(self.agent(env), env, self.tasks, self.plan, progress)

    def agent(self, env: TaskVectorEnv) -> Agent:
        """Who learns."""
        from metarl.references.per_task import PerTaskAgent  # needs stable-baselines3

        return PerTaskAgent(
            per_task_settings(self.definition.name),
            env.single_observation_space,  # type: ignore[arg-type]
            env.single_action_space,
            self.axis,
            Key(self.plan.seed, evaluation=True),
            None if self.multitask is None else self.multitask.state,
        )

    def write(self, folder: Path, evaluation: Evaluation, record: Mapping[str, Any]) -> Path:
        """Keep results, whole or not at all.

        Args:
            folder: Of all references.
            evaluation: From :meth:`measure`.
            record: Versions and command.

        Raises:
            EnvironmentFailure: the file cannot be written.
        """
        path = folder / self.definition.key / self.file
        data = {
            **self.made_with,
            "env": self.definition.fields,
            "episodes_used": evaluation.episodes_used,
            "env_steps_used": evaluation.env_steps_used.tolist(),
            "returns": evaluation.task_returns.tolist(),
            **record,
        }
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            replace_file(path, (json.dumps(data, indent=1, allow_nan=False) + "\n").encode())
        return path

    def read(self, folders: Sequence[Path]) -> np.ndarray | None:
        """Returns float64 [K+1, n] that were made with the very same.

        None where there are none, or only stale ones.

        Raises:
            UserError: the file is no such file.
        """
        wanted = self.made_with
        for path, data in storage.stored(self.file, self.definition, folders):
            if any(data.get(name) != value for name, value in wanted.items()):
                continue
            try:
                returns = np.array(data["returns"], dtype=np.float64)
            except (KeyError, ValueError, TypeError):
                returns = np.array(np.nan)
            shape = (self.plan.adaptation_steps + 1, len(self.tasks))
            if returns.shape != shape or not np.isfinite(returns).all():
                raise UserError(
                    f"{path}: 'returns' must hold {shape[0]} × {shape[1]} finite numbers."
                )
            return returns
        return None
