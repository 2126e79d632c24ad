"""`evaluation.json`, format 1: the result of an evaluation that other programs read.

Top-level keys hold the headline action mode; "other_mode" holds the same measurements in the other
one, under the same names. Both modes face the same tasks and reset seeds.
"""

from __future__ import annotations

import json
import reprlib
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from pydantic import TypeAdapter, ValidationError

from metarl.evaluation.calibration import BINS, Calibration
from metarl.evaluation.measurements import FewShot, measurement_key
from metarl.evaluation.measures import MEASURES, Measure, MeasureName
from metarl.evaluation.statistics import Interval, Verdict
from metarl.storage.files import read_regular
from metarl.storage.json_lines import parse_json

FORMAT = 1


@dataclass(frozen=True)
class ModeResult:
    """One action mode's returns and what they say; lists run over adaptation steps 0..K.

    Returns, here and in the names of fields, are whatever was measured, see the result's measure.

    Attributes:
        action_mode: "stochastic" or "deterministic".
        env_steps_used: Env steps of experience before each measurement, mean over agents.
        returns: Mean return of each task over episodes and evaluation seeds, K+1 rows of n.
        mean: Mean over tasks.
        ci95: 95 % bootstrap interval of the mean over tasks; None, like all that is said of the
            spread between tasks, where there is one task. Where x is "env_steps" every evaluation
            seed is a training, and the interval is over seeds and tasks; of one task, over seeds.
        se95: 1.96 standard errors of the mean over tasks.
        iqm: Interquartile mean over tasks.
        iqm_ci95: Its 95 % bootstrap interval.
        normalised: (R − floor)/(oracle − floor) of the mean; None without both references.
        adaptation_helps: Step K against step 0, paired by task; None where K is 0.
        settling_step: Step of the episode from which the mean reward stays no further from its
            final value than a tenth of the way there from its first, see
            :func:`metarl.evaluation.statistics.settling_step`; None for results of before it was
            measured.
        evaluation_seed_means: Mean over tasks by each evaluation seed alone, K+1 rows of N; None
            for results of before they were kept.
        evaluation_seed_std: Their standard deviation (N − 1 in the denominator), how far a single
            evaluation strays; None for one seed.
        success: Share of successful episodes of each task, K+1 rows of n; None, like what follows,
            where the environment tells of none.
        success_rate: Mean over tasks.
        success_ci95: Its 95 % bootstrap interval over tasks.
        episode_measures: What else the environment says of an episode, by name, K+1 means over
            episodes and tasks; None, and left out of the file, where it says nothing.
    """

    action_mode: Literal["stochastic", "deterministic"]
    env_steps_used: list[float]
    returns: list[list[float]]
    mean: list[float]
    ci95: list[Interval | None]
    se95: list[float | None]
    iqm: list[float]
    iqm_ci95: list[Interval | None]
    normalised: list[float] | None
    adaptation_helps: Verdict | None
    settling_step: list[int | None] | None = None
    evaluation_seed_means: list[list[float]] | None = None
    evaluation_seed_std: list[float] | None = None
    success: list[list[float]] | None = None
    success_rate: list[float] | None = None
    success_ci95: list[Interval | None] | None = None
    episode_measures: dict[str, list[float]] | None = None


@dataclass(frozen=True)
class Reference:
    """An agent to stand beside: its return on each of the same tasks, their mean and interval."""

    returns: list[float]
    mean: float
    ci95: Interval | None


@dataclass(frozen=True)
class AdaptiveReference:
    """An agent that adapts within the trial as well, on the same tasks and from the same resets.

    Attributes:
        episodes: What it earns in each episode.
        difference: The measured agent's return over the whole trial minus this one's, paired by
            task, in the headline mode.
    """

    episodes: list[Reference]
    difference: Verdict


@dataclass(frozen=True)
class EvaluationResult:
    """An evaluation with its provenance: everything in `evaluation.json`.

    Attributes:
        algorithm: Name of the algorithm.
        env: Name of the environment.
        env_config: Its resolved settings.
        split: Set of tasks; "training tasks" for a finite distribution.
        seeds: Training seeds of the runs.
        evaluation_seed: Seed of the evaluation's resets; of several, the first.
        checkpoint: Meta-iteration of the checkpoint; None for an agent without one.
        x: What an adaptation step is, "gradient_step", "episode", "support_set" or
            "env_steps".
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
        evaluation_seeds: All N of them; every return is a mean over them, see
            :mod:`metarl.evaluation.evaluation_seeds`.
        success_means: What counts as a successful episode; None where there is no success.
        episode_measures_mean: What each of the environment's own measures is, in words; None, and
            left out of the file, where there are none.
        bayes_optimal: What the best agent that must find the task out earns in each of the trial's
            episodes, or a lower bound of it; None, and left out of the file, where the environment
            does not know it, or the agent plays no such trial.
        adaptive_references: By name, what agents earn that the environment names; likewise.
        measure: What was measured, and with it which way is better. It and what follows are left
            out of the file where episodes earn returns.
        few_shot: What the tasks of few-shot learning are, in which query examples stand for the
            episodes of a measurement, and support examples for those of experience.
        calibration: Of each measurement, over the query examples of all tasks; None where there are
            no classes.
    """

    algorithm: str
    env: str
    env_config: dict[str, Any]
    split: str
    seeds: list[int]
    evaluation_seed: int
    checkpoint: int | None
    x: Literal["gradient_step", "episode", "support_set", "env_steps"]
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
    evaluation_seeds: list[int] = field(default_factory=list)
    success_means: str | None = None
    episode_measures_mean: dict[str, str] | None = None
    bayes_optimal: list[Reference] | None = None
    adaptive_references: dict[str, AdaptiveReference] | None = None
    measure: MeasureName = "return"
    few_shot: FewShot | None = None
    calibration: list[Calibration] | None = None

    def __post_init__(self) -> None:
        if not self.evaluation_seeds:  # a file of before there could be several
            object.__setattr__(self, "evaluation_seeds", [self.evaluation_seed])

    @property
    def by(self) -> Measure:
        """The measure's direction and its words."""
        return MEASURES[self.measure]

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
        content = asdict(self)
        headline, other = content.pop("headline"), content.pop("other")
        references, missing = content.pop("references"), content.pop("missing_references")
        judged = {key: headline.pop(key) for key in ("normalised", "adaptation_helps")}
        if self.measure == "return":
            for key in ("measure", "few_shot", "calibration"):
                del content[key]
        for key in ("bayes_optimal", "adaptive_references", "episode_measures_mean"):
            if content[key] is None:
                del content[key]
        for mode in filter(None, (headline, other)):
            if mode["episode_measures"] is None:
                del mode["episode_measures"]
        return {
            "format": FORMAT,
            **content,
            **headline,
            "references": references,
            "missing_references": missing,
            **judged,
            "other_mode": other,
        }

    def to_json(self) -> str:
        """`evaluation.json` as text; refuses numbers that JSON does not have."""
        return json.dumps(self.to_dict(), indent=1, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str, source: str = "evaluation.json") -> EvaluationResult:
        """Read and check `evaluation.json`; fields that came later may be absent.

        Args:
            text: Its contents.
            source: Where they came from, for the error's sentence.

        Raises:
            ValueError: Not JSON, another format, a key missing, a wrong type, a number that is not
                finite, or lengths that do not agree.
        """
        try:
            data = parse_json(text)
        except ValueError as error:
            raise ValueError(f"{source} is not JSON: {error}.") from None
        if not isinstance(data, dict):
            raise ValueError(f"{source} must hold a JSON object.")
        if data.get("format") != FORMAT:
            found = f"has format {data['format']!r}" if "format" in data else "lacks 'format'"
            raise ValueError(f"{source} {found}; this version of metarl reads format {FORMAT}.")
        headline = {key.name: data.pop(key.name) for key in fields(ModeResult) if key.name in data}
        data |= {"headline": headline, "other": data.pop("other_mode", None)}
        try:  # strictly: true is no number; as JSON, since that has lists where we have tuples
            result = _RESULT.validate_json(json.dumps(data), strict=True)
        except ValidationError as error:
            raise ValueError(f"{source}{_complaint(error)}") from None
        if misfit := _misfit(result):
            raise ValueError(f"{source}: {misfit}")
        return result

    @classmethod
    def read(cls, path: Path) -> EvaluationResult:
        """Read and check a file; ValueError as in :meth:`from_json`, OSError if unreadable."""
        try:
            text = read_regular(path).decode()
        except UnicodeDecodeError:
            raise ValueError(f"{path} is not a text file in UTF-8.") from None
        return cls.from_json(text, str(path))


class Provenance(NamedTuple):
    """What an agent is: its name, training seeds, and its checkpoint's iteration if it has one."""

    algorithm: str
    seeds: list[int]
    checkpoint: int | None


_RESULT = TypeAdapter(EvaluationResult)
_OVER_TASKS = ("ci95", "se95", "iqm_ci95", "success_ci95")  # null for one task
_BY_STEP = ("env_steps_used", "mean", "se95", "iqm", "normalised", "settling_step", "success_rate")


def _complaint(error: ValidationError) -> str:
    """What is wrong with a file, after its name: the first of what pydantic found."""
    first = error.errors(include_url=False)[0]
    *parents, key = [
        {"other": "other_mode"}.get(str(part), part) for part in first["loc"] if part != "headline"
    ]
    if first["type"] == "missing":
        within = f" in {parents[0]!r}" if parents else ""
        return f" lacks the key {key!r}{within}."
    where = ".".join(map(str, (*parents, key)))
    value, rule = reprlib.repr(first["input"]), first["msg"]
    return f": {where!r} is {value}; {rule[0].lower()}{rule[1:]}."


def _misfit(result: EvaluationResult) -> str | None:
    """A sentence on the first list whose lengths do not agree with the others', if there is one."""
    steps, n = len(result.episodes_used), len(result.tasks)
    found: list[tuple[str, Any, tuple[int, ...]]] = [
        ("tasks", result.tasks, (n, len(result.task_columns)))
    ]
    for mode in filter(None, (result.headline, result.other)):
        for key in (*_BY_STEP, "evaluation_seed_std"):
            found.append((key, getattr(mode, key), (steps,)))
        seed_means, seeds = mode.evaluation_seed_means, len(result.evaluation_seeds)
        found.append(("evaluation_seed_means", seed_means, (steps, seeds)))
        found += [
            (key, getattr(mode, key), (steps, 2)) for key in ("ci95", "iqm_ci95", "success_ci95")
        ]
        own = (mode.episode_measures or {}).items()
        found += [(name, values, (steps,)) for name, values in own]
        found += [("returns", mode.returns, (steps, n)), ("success", mode.success, (steps, n))]
    for each in result.calibration or []:
        if any(len(row) != BINS for row in (each.counts, each.confidence, each.accuracy)):
            return f"'calibration' must have {BINS} bins."
    if result.calibration is not None:
        found.append(("calibration", [each.error for each in result.calibration], (steps,)))
    found += [("references", ref.returns, (n,)) for ref in result.references.values()]
    for agent in (result.adaptive_references or {}).values():
        found.append(("adaptive_references", [ref.returns for ref in agent.episodes], (steps, n)))
    if (adaptive := result.bayes_optimal) is not None:
        found.append(("bayes_optimal", [ref.returns for ref in adaptive], (steps, n)))
    for key, value, shape in found:
        if value is None or (n == 1 and key in _OVER_TASKS and value == [None] * steps):
            continue
        try:
            array = np.array(value, dtype=np.float64)
        except ValueError:  # rows of several lengths
            array = np.array(np.nan)
        finite = np.isfinite(array).all() or (key == "settling_step" and array.ndim == 1)
        if array.shape != shape or not finite:
            return f"{key!r} must hold {' × '.join(map(str, shape))} finite numbers."
    return None
