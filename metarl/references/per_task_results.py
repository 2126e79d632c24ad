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
from typing import Any

import numpy as np

from metarl.envs.vector import TaskVectorEnv
from metarl.errors import UserError
from metarl.evaluation.protocol import Evaluation
from metarl.evaluation.reference_kinds import PerTaskKind
from metarl.references import storage
from metarl.references.settings import per_task_settings
from metarl.storage.files import replace_file, writing
from metarl.types import AdaptationAxis


@dataclass(frozen=True)
class Experience:
    """What a algorithm adapts on in an evaluation, which these references get too.

    Attributes:
        split: Name of the set of tasks.
        axis: "gradient_step": K rounds of B episodes a task; "episode": K episodes a lane.
        adaptation_steps: K.
        episodes: B, lanes of a task.
        seed: Of the evaluation.
    """

    split: str
    axis: AdaptationAxis
    adaptation_steps: int
    episodes: int
    seed: int

    @property
    def file_name(self) -> str:
        """Of the results."""
        split = self.split.replace(" ", "_")
        size = f"{self.adaptation_steps}x{self.episodes}"
        return f"{split}-{self.axis}-{size}-seed_{self.seed}.json"


def identity(
    kind: PerTaskKind,
    definition: storage.Definition,
    experience: Experience,
    tasks: np.ndarray,
    multitask: storage.StoredReference | None,
) -> dict[str, Any]:
    """What decides the results: they are stale where any of it differs."""
    return {
        "format": storage.FORMAT,
        "kind": kind,
        "env": dict(definition),
        **asdict(experience),
        "action_mode": "stochastic",
        "tasks": np.asarray(tasks, dtype=np.float64).tolist(),
        "settings": json.loads(json.dumps(asdict(per_task_settings(str(definition["name"]))))),
        "multitask_sha256": None if multitask is None else multitask.sha256,
    }


def measure(
    kind: PerTaskKind,
    env: TaskVectorEnv,
    tasks: np.ndarray,
    definition: storage.Definition,
    experience: Experience,
    multitask: storage.StoredReference | None,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Let PPO learn every task by the protocol of an evaluation, in stochastic mode.

    Args:
        kind: "from_scratch", or "fine_tuned" from the multitask policy.
        env: n·B lanes.
        tasks: [n, d].
        definition: Of the environment.
        experience: How much it may learn from.
        multitask: The policy to fine-tune; None from scratch.
        progress: Called with (rounds measured, rounds in all).

    Raises:
        FloatingPointError: it diverged.
    """
    from metarl.evaluation.protocol import evaluate
    from metarl.random import Key
    from metarl.references.per_task import PerTaskAgent

    agent = PerTaskAgent(
        per_task_settings(str(definition["name"])),
        env.single_observation_space,  # type: ignore[arg-type]
        env.single_action_space,  # type: ignore[arg-type]
        experience.axis,
        "stochastic",
        Key(experience.seed, evaluation=True),
        None if multitask is None else multitask.state,
    )
    return evaluate(
        agent,
        env,
        tasks,
        adaptation_steps=experience.adaptation_steps,
        episodes=experience.episodes,
        seed=experience.seed,
        split=experience.split,
        progress=progress,
    )


def write(
    folder: Path, made_with: Mapping[str, Any], evaluation: Evaluation, record: Mapping[str, Any]
) -> Path:
    """Keep results, whole or not at all.

    Args:
        folder: Of all references.
        made_with: From :func:`identity`.
        evaluation: From :func:`measure`.
        record: Versions and command.

    Raises:
        EnvironmentFailure: the file cannot be written.
    """
    experience = Experience(**{name: made_with[name] for name in Experience.__annotations__})
    place = folder / storage.folder_name(made_with["env"]) / str(made_with["kind"])
    path = place / experience.file_name
    data = {
        **made_with,
        "episodes_used": evaluation.episodes_used,
        "env_steps_used": evaluation.env_steps_used.tolist(),
        "returns": evaluation.task_returns.tolist(),
        **record,
    }
    with writing(path):
        place.mkdir(parents=True, exist_ok=True)
        replace_file(path, (json.dumps(data, indent=1, allow_nan=False) + "\n").encode())
    return path


def read(
    made_with: Mapping[str, Any], folders: Sequence[Path]
) -> tuple[np.ndarray, dict[str, Any]] | None:
    """Results that were made with the very same: returns float64 [K+1, n], and the whole file.

    None where there are none, or only stale ones.

    Raises:
        UserError: the file is no such file.
    """
    experience = Experience(**{name: made_with[name] for name in Experience.__annotations__})
    for folder in folders:
        place = folder / storage.folder_name(made_with["env"]) / str(made_with["kind"])
        path = place / experience.file_name
        if not path.is_file():
            continue
        data = storage.read_json(path, "reference")
        if any(data.get(name) != value for name, value in made_with.items()):
            continue
        try:
            returns = np.array(data["returns"], dtype=np.float64)
        except (KeyError, ValueError, TypeError):
            returns = np.array(np.nan)
        shape = (experience.adaptation_steps + 1, len(made_with["tasks"]))
        if returns.shape != shape or not np.isfinite(returns).all():
            raise UserError(f"{path}: 'returns' must hold {shape[0]} × {shape[1]} finite numbers.")
        return returns, data
    return None
