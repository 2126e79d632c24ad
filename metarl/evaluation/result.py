"""`evaluation.json`, format 1: the result of an evaluation that other programs read.

Top-level keys hold the headline action mode; "other_mode" holds the same measurements in the other
one, under the same names. Both modes face the same tasks and reset seeds.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from metarl.evaluation.protocol import measurement_key
from metarl.evaluation.statistics import Interval, Verdict

FORMAT = 1


@dataclass(frozen=True)
class ModeResult:
    """One action mode's returns and what they say; lists run over adaptation steps 0..K.

    Attributes:
        action_mode: "stochastic" or "deterministic".
        env_steps_used: Env steps of experience before each measurement, mean over agents.
        returns: Mean return of each task, K+1 rows of n.
        mean: Mean over tasks.
        ci95: 95 % bootstrap interval of the mean over tasks.
        se95: 1.96 standard errors of the mean over tasks.
        iqm: Interquartile mean over tasks.
        iqm_ci95: Its 95 % bootstrap interval.
        normalised: (R − floor)/(oracle − floor) of the mean; None without both references.
        adaptation_helps: Step K against step 0, paired by task; None where K is 0.
        settling_step: Step of the episode from which the reward stays near its final one, see
            :func:`metarl.evaluation.settling.settling_step`; None for results of before it was
            measured.
    """

    action_mode: str
    env_steps_used: list[float]
    returns: list[list[float]]
    mean: list[float]
    ci95: list[Interval]
    se95: list[float]
    iqm: list[float]
    iqm_ci95: list[Interval]
    normalised: list[float] | None
    adaptation_helps: Verdict | None
    settling_step: list[int | None] | None = None


@dataclass(frozen=True)
class Reference:
    """An agent to stand beside: its return on each of the same tasks, their mean and interval."""

    returns: list[float]
    mean: float
    ci95: Interval


@dataclass(frozen=True)
class EvaluationResult:
    """An evaluation with its provenance: everything in `evaluation.json`.

    Attributes:
        algorithm: Name of the algorithm.
        env: Name of the environment.
        env_config: Its resolved settings.
        split: Set of tasks; "training tasks" for a finite distribution.
        seeds: Training seeds of the runs.
        evaluation_seed: Seed of the evaluation's resets.
        checkpoint: Meta-iteration of the checkpoint; None for an agent without one.
        x: What an adaptation step is, "gradient_step" or "episode".
        episodes_per_step: B, episodes of each task a measurement.
        step_sizes: Of the K adaptation steps; empty where they have none.
        episodes_used: Episodes of experience before each measurement.
        task_columns: Names of a task vector's entries.
        task_units: Their units.
        tasks: The n task vectors.
        headline: The mode that is quoted.
        other: The other mode, where it was measured.
        references: By name; per-task returns on the same tasks.
        missing_references: Name of each that is not there, and the command that makes it.
        forgets: The agent began anew before every measurement: an ablation.
    """

    algorithm: str
    env: str
    env_config: dict[str, Any]
    split: str
    seeds: list[int]
    evaluation_seed: int
    checkpoint: int | None
    x: str
    episodes_per_step: int
    step_sizes: list[float]
    episodes_used: list[int]
    task_columns: list[str]
    task_units: list[str]
    tasks: list[list[float]]
    headline: ModeResult
    other: ModeResult | None
    references: dict[str, Reference]
    missing_references: dict[str, str] = field(default_factory=dict)
    forgets: bool = False

    @property
    def adaptation_steps(self) -> int:
        """K."""
        return len(self.episodes_used) - 1

    @property
    def measurement_keys(self) -> list[str]:
        """Measurements as other programs call them: step_0, step_1, … or episode_1, episode_2, …"""
        return [measurement_key(self.x, k) for k in range(len(self.episodes_used))]

    def to_dict(self) -> dict[str, Any]:
        """The keys of `evaluation.json` in the order of its documentation."""
        fields = asdict(self)
        headline, other = fields.pop("headline"), fields.pop("other")
        references, missing = fields.pop("references"), fields.pop("missing_references")
        return {
            "format": FORMAT,
            **fields,
            **{k: v for k, v in headline.items() if k not in ("normalised", "adaptation_helps")},
            "references": references,
            "missing_references": missing,
            "normalised": headline["normalised"],
            "adaptation_helps": headline["adaptation_helps"],
            "other_mode": other,
        }

    def to_json(self) -> str:
        """`evaluation.json` as text; refuses numbers that JSON does not have."""
        return json.dumps(self.to_dict(), indent=1, allow_nan=False) + "\n"

    def write(self, path: Path) -> None:
        """Write the file whole or not at all."""
        temporary = path.with_name(path.name + ".tmp")
        temporary.write_text(self.to_json(), encoding="utf-8")
        os.replace(temporary, path)

    @classmethod
    def from_json(cls, text: str, source: str = "evaluation.json") -> EvaluationResult:
        """Read and check `evaluation.json`.

        Args:
            text: Its contents.
            source: Where they came from, for the error's sentence.

        Raises:
            ValueError: Not JSON, another format, a key missing, or lengths that do not agree.
        """
        try:
            data = json.loads(text)
        except json.JSONDecodeError as error:
            raise ValueError(f"{source} is not JSON: {error}.") from None
        return _Reader(source).result(data)

    @classmethod
    def read(cls, path: Path) -> EvaluationResult:
        """Read and check a file; ValueError as in :meth:`from_json`, OSError if unreadable."""
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            raise ValueError(f"{path} is not a text file in UTF-8.") from None
        return cls.from_json(text, str(path))


class _Reader:
    """Reads a result from parsed JSON; every complaint is one sentence that names the file."""

    def __init__(self, source: str) -> None:
        self.source = source

    def result(self, data: Any) -> EvaluationResult:
        if not isinstance(data, dict):
            raise ValueError(f"{self.source} must hold a JSON object.")
        version = self.get(data, "format")
        if version != FORMAT:
            raise ValueError(
                f"{self.source} has format {version!r}; this version of metarl reads format "
                f"{FORMAT}."
            )
        episodes_used = self.get(data, "episodes_used", list)
        tasks = self.get(data, "tasks", list)
        steps, n = len(episodes_used), len(tasks)
        columns = self.get(data, "task_columns", list)
        references = self.get(data, "references", dict)
        # Written since references are trained; absent before.
        missing = self.get({"missing_references": {}} | data, "missing_references", dict)
        other = self.get(data, "other_mode", dict, optional=True)
        return EvaluationResult(
            algorithm=self.get(data, "algorithm", str),
            env=self.get(data, "env", str),
            env_config=self.get(data, "env_config", dict),
            split=self.get(data, "split", str),
            seeds=[int(s) for s in self.numbers(data, "seeds", (None,))],
            evaluation_seed=self.get(data, "evaluation_seed", int),
            checkpoint=self.get(data, "checkpoint", int, optional=True),
            x=self.choice(data, "x", ("gradient_step", "episode")),
            episodes_per_step=self.get(data, "episodes_per_step", int),
            step_sizes=self.numbers(data, "step_sizes", (None,)),
            episodes_used=[int(e) for e in self.numbers(data, "episodes_used", (steps,))],
            task_columns=[str(c) for c in columns],
            task_units=[str(u) for u in self.get(data, "task_units", list)],
            tasks=self.numbers(data, "tasks", (n, len(columns))),
            headline=self.mode(data, steps, n),
            other=None if other is None else self.mode(other, steps, n),
            references={str(name): self.reference(ref, n) for name, ref in references.items()},
            missing_references={str(name): str(made_by) for name, made_by in missing.items()},
            forgets=bool(data.get("forgets", False)),
        )

    def mode(self, data: dict[str, Any], steps: int, n: int) -> ModeResult:
        normalised = self.get(data, "normalised", list, optional=True)
        helps = self.get(data, "adaptation_helps", dict, optional=True)
        return ModeResult(
            action_mode=self.choice(data, "action_mode", ("stochastic", "deterministic")),
            env_steps_used=self.numbers(data, "env_steps_used", (steps,)),
            returns=self.numbers(data, "returns", (steps, n)),
            mean=self.numbers(data, "mean", (steps,)),
            ci95=[(a, b) for a, b in self.numbers(data, "ci95", (steps, 2))],
            se95=self.numbers(data, "se95", (steps,)),
            iqm=self.numbers(data, "iqm", (steps,)),
            iqm_ci95=[(a, b) for a, b in self.numbers(data, "iqm_ci95", (steps, 2))],
            normalised=None if normalised is None else self.numbers(data, "normalised", (steps,)),
            adaptation_helps=None if helps is None else self.verdict(helps),
            settling_step=self.settling(data, steps),
        )

    def settling(self, data: dict[str, Any], steps: int) -> list[int | None] | None:
        found = data.get("settling_step")
        if found is None:  # written by a version that did not measure it
            return None
        whole = isinstance(found, list) and all(x is None or type(x) is int for x in found)
        if not whole or len(found) != steps:
            raise ValueError(f"{self.source}: 'settling_step' must hold {steps} steps or nulls.")
        return list(found)

    def reference(self, data: Any, n: int) -> Reference:
        if not isinstance(data, dict):
            raise ValueError(f"{self.source}: every entry of 'references' must be an object.")
        low, high = self.numbers(data, "ci95", (2,))
        value = float(self.get(data, "mean", (int, float)))
        return Reference(self.numbers(data, "returns", (n,)), value, (low, high))

    def verdict(self, data: dict[str, Any]) -> Verdict:
        low, high = self.numbers(data, "ci95", (2,))
        delta = float(self.get(data, "delta", (int, float)))
        return Verdict(delta, (low, high), self.get(data, "verdict", str))

    def get(
        self,
        data: dict[str, Any],
        key: str,
        kind: type | tuple[type, ...] = object,
        optional: bool = False,
    ) -> Any:
        if key not in data:
            raise ValueError(f"{self.source} lacks the key {key!r}.")
        value = data[key]
        if value is None and optional:
            return None
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not object):
            raise ValueError(f"{self.source}: {key!r} is {value!r}, which has the wrong type.")
        return value

    def choice(self, data: dict[str, Any], key: str, known: tuple[str, ...]) -> str:
        value = self.get(data, key, str)
        if value not in known:
            raise ValueError(
                f"{self.source}: {key!r} is {value!r}; it must be one of {', '.join(known)}."
            )
        return str(value)

    def numbers(self, data: dict[str, Any], key: str, shape: tuple[int | None, ...]) -> Any:
        """A nested list of finite numbers of the given shape (None: any length)."""
        value = self.get(data, key, list)
        try:
            array = np.array(value, dtype=np.float64)
        except (ValueError, TypeError):
            array = np.array(np.nan)
        fits = array.ndim == len(shape) and all(
            want is None or have == want for have, want in zip(array.shape, shape, strict=True)
        )
        if not fits or not np.isfinite(array).all():
            wanted = " × ".join("any" if want is None else str(want) for want in shape)
            raise ValueError(f"{self.source}: {key!r} must hold {wanted} finite numbers.")
        return array.tolist()
