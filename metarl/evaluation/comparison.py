"""Several runs on one axis, episodes of experience: seeds into groups, groups into verdicts.

A group is the runs of one config that differ in nothing but the seed. Nothing here knows which
algorithm a group is of; a group is asked what its adaptation steps are.
"""

from __future__ import annotations

import functools
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from metarl.evaluation import seed_statistics as statistics
from metarl.evaluation.calibration import Calibration, pooled
from metarl.evaluation.measures import Measure
from metarl.evaluation.reference_kinds import PER_TASK
from metarl.evaluation.result import AdaptiveReference, EvaluationResult, ModeResult, Reference
from metarl.evaluation.seed_statistics import Improvement
from metarl.evaluation.statistics import Interval, Verdict
from metarl.evaluation.summary import beside, judged, judged_success, spread

FORMAT = 1


@dataclass(frozen=True)
class MeasuredRun:
    """One run of a comparison.

    Attributes:
        folder: As the user named it.
        env_steps: Of its training, up to the checkpoint; None where it is not known.
        result: What was measured.
    """

    folder: str
    env_steps: int | None
    result: EvaluationResult


@dataclass(frozen=True)
class GroupMode:
    """What the seeds of a group earned in one action mode; lists run over measurements 0..K.

    Attributes:
        action_mode: "stochastic" or "deterministic".
        env_steps_used: Env steps of experience before each measurement, mean over seeds.
        returns: Mean return of each seed on each task, K+1 lists of S lists of n.
        seed_means: Mean over tasks of each seed, K+1 lists of S.
        mean: Mean over seeds and tasks.
        ci95: Its 95 % interval, over seeds and tasks, or over tasks where there is one seed; None,
            like that of the IQM, where there is one task.
        iqm: Mean of the middle half of all S·n returns.
        iqm_ci95: Its 95 % interval.
        normalised: (R − floor)/(oracle − floor) of the mean; None without both references.
        adaptation_helps: The last measurement against the first, paired; None if there is but one.
        evaluation_seed_means: Mean over seeds and tasks by each evaluation seed alone, K+1 lists
            of N; None where a run's are not known.
        evaluation_seed_std: Their standard deviation; None for one evaluation seed.
        success_rate: Share of successful episodes, mean over seeds and tasks; None where a run's
            environment told of none.
        success_ci95: Its 95 % interval.
    """

    action_mode: str
    env_steps_used: list[float]
    returns: list[list[list[float]]]
    seed_means: list[list[float]]
    mean: list[float]
    ci95: list[Interval | None]
    iqm: list[float]
    iqm_ci95: list[Interval | None]
    normalised: list[float] | None
    adaptation_helps: Verdict | None
    evaluation_seed_means: list[list[float]] | None
    evaluation_seed_std: list[float] | None
    success_rate: list[float] | None = None
    success_ci95: list[Interval | None] | None = None


@dataclass(frozen=True)
class Group:
    """The seeds of one config.

    Attributes:
        label: What tables and plots call it.
        runs: One a seed.
        headline: The mode that is quoted.
        other: The other mode, where it was measured.
    """

    label: str
    runs: tuple[MeasuredRun, ...]
    headline: GroupMode
    other: GroupMode | None

    @property
    def first(self) -> EvaluationResult:
        """What all its runs share: algorithm, axis, episodes, step sizes."""
        return self.runs[0].result

    @property
    def episodes_used(self) -> list[int]:
        """Episodes of experience before each measurement."""
        return self.first.episodes_used

    @property
    def calibration_error(self) -> list[float] | None:
        """Expected calibration error at each measurement, mean over seeds; None without classes."""
        found = [run.result.calibration for run in self.runs if run.result.calibration is not None]
        errors = [[each.error for each in by_step] for by_step in found]
        return np.mean(errors, axis=0).tolist() if len(found) == len(self.runs) else None

    @property
    def calibration(self) -> Calibration | None:
        """Of the predictions of all seeds together, after the last adaptation."""
        found = [run.result.calibration[-1] for run in self.runs if run.result.calibration]
        return pooled(found) if found else None

    @property
    def few_seeds(self) -> bool:
        return len(self.runs) < statistics.FEW_SEEDS

    @functools.cached_property
    def adaptive_references(self) -> dict[str, AdaptiveReference]:
        """Agents that the environment names, and by how much the group is ahead of each."""
        known, returns = self.first.adaptive_references or {}, np.array(self.headline.returns)
        return {name: beside(returns, agent.episodes) for name, agent in known.items()}

    @property
    def _few_shot(self) -> dict[str, Any]:
        few_shot = self.first.few_shot
        if few_shot is None:
            return {}
        return {**asdict(few_shot), "calibration_error": self.calibration_error}

    @property
    def _intervals_over(self) -> str:
        return "tasks" if len(self.runs) == 1 else "seeds and tasks"

    def to_dict(self) -> dict[str, Any]:
        result = self.first
        adaptive = {name: asdict(agent) for name, agent in self.adaptive_references.items()}
        return {
            "label": self.label,
            "algorithm": result.algorithm,
            "x": result.x,
            "episodes_per_step": result.episodes_per_step,
            "step_sizes": result.step_sizes,
            "episodes_used": result.episodes_used,
            **self._few_shot,
            "runs": [
                {
                    "run": run.folder,
                    "seed": run.result.seeds[0],
                    "checkpoint": run.result.checkpoint,
                    "training_env_steps": run.env_steps,
                }
                for run in self.runs
            ],
            "intervals_over": None if len(result.tasks) == 1 else self._intervals_over,
            "few_seeds": self.few_seeds,
            **asdict(self.headline),
            **({"adaptive_references": adaptive} if adaptive else {}),
            "other_mode": None if self.other is None else asdict(self.other),
        }


@dataclass(frozen=True)
class Pair:
    """Group a against group b, paired by task, each in its headline mode.

    Attributes:
        a: Label of the one.
        b: Label of the other.
        a_episodes_used: Episodes of experience that a had used before.
        b_episodes_used: The same of b.
        difference: Mean return of a minus that of b, and what it says.
        improvement: Probability that a is better than b.
    """

    a: str
    b: str
    a_episodes_used: int
    b_episodes_used: int
    difference: Verdict
    improvement: Improvement

    @property
    def experience(self) -> str:
        """Episodes used before, in words: "40" of both, or "120 and 4"."""
        both = dict.fromkeys((self.a_episodes_used, self.b_episodes_used))
        return " and ".join(map(str, both))


@dataclass(frozen=True)
class Comparison:
    """Everything in `comparison.json`."""

    groups: tuple[Group, ...]
    references: dict[str, Reference]
    bayes_optimal: list[Reference] | None
    last: tuple[Pair, ...]
    equal_experience: tuple[Pair, ...]

    @property
    def first(self) -> EvaluationResult:
        """What all runs share: environment, tasks, evaluation seeds."""
        return self.groups[0].first

    def to_json(self) -> str:
        """`comparison.json` as text."""
        shared = self.first
        content = {
            "format": FORMAT,
            "env": shared.env,
            "env_config": shared.env_config,
            "split": shared.split,
            "evaluation_seed": shared.evaluation_seed,
            "evaluation_seeds": shared.evaluation_seeds,
            "success_means": shared.success_means,
            **({} if shared.measure == "return" else {"measure": shared.measure}),
            "task_columns": shared.task_columns,
            "task_units": shared.task_units,
            "tasks": shared.tasks,
            "groups": [group.to_dict() for group in self.groups],
            "references": {name: asdict(ref) for name, ref in self.references.items()},
            "bayes_optimal": (
                None if self.bayes_optimal is None else [asdict(ref) for ref in self.bayes_optimal]
            ),
            "pairs_after_the_last_step": [asdict(pair) for pair in self.last],
            "pairs_at_equal_experience": [asdict(pair) for pair in self.equal_experience],
        }
        return json.dumps(content, indent=1, allow_nan=False) + "\n"


def compare(groups: Mapping[str, Sequence[MeasuredRun]]) -> Comparison:
    """Compare groups of runs that were measured on the same tasks of one environment.

    Args:
        groups: Label -> its runs, one a seed, all measured alike.

    Raises:
        ValueError: Runs of different tasks or evaluation seeds, or of one group with different
            measurements.
    """
    runs = [run for group in groups.values() for run in group]
    if len(measures := dict.fromkeys(run.result.by.noun for run in runs)) > 1:
        raise ValueError(f"The runs were measured by {' and by '.join(measures)}.")
    if any(run.result.tasks != runs[0].result.tasks for run in runs):
        raise ValueError("The runs were measured on different tasks.")
    if any(run.result.evaluation_seeds != runs[0].result.evaluation_seeds for run in runs):
        raise ValueError("The runs were measured with different evaluation seeds.")
    references = _references(groups)
    compared = tuple(_group(label, members, references) for label, members in groups.items())
    pairs = list(itertools.combinations(compared, 2))
    return Comparison(
        groups=compared,
        references=references,
        bayes_optimal=max(  # the longest of the trials
            (r.result.bayes_optimal for r in runs if r.result.bayes_optimal), key=len, default=None
        ),
        last=tuple(_pair(a, b, a.episodes_used[-1], b.episodes_used[-1]) for a, b in pairs),
        equal_experience=tuple(
            _pair(a, b, used, used)
            for a, b in pairs
            for used in dict.fromkeys(a.episodes_used)
            if used in b.episodes_used
        ),
    )


def _references(groups: Mapping[str, Sequence[MeasuredRun]]) -> dict[str, Reference]:
    """References by name.

    One that learns from a group's experience stands once a group, under "name (label)" where there
    are several groups. The others are one for all; of theirs the measurement with the most episodes
    stands.
    """
    found: dict[str, Reference] = {}
    runs = [(label, run.result) for label, members in groups.items() for run in members]
    for label, result in sorted(runs, key=lambda x: -x[1].episodes_per_step):
        for name, reference in result.references.items():
            own = name in PER_TASK and len(groups) > 1
            found.setdefault(f"{name} ({label})" if own else name, reference)
    return found


def _group(label: str, runs: Sequence[MeasuredRun], references: Mapping[str, Reference]) -> Group:
    results = [run.result for run in runs]
    first = results[0]
    if any(
        (r.x, r.episodes_used, r.headline.action_mode, r.other is None)
        != (first.x, first.episodes_used, first.headline.action_mode, first.other is None)
        for r in results
    ):
        raise ValueError(f"The seeds of {label} were not measured alike.")
    others = [r.other for r in results if r.other is not None]
    return Group(
        label,
        tuple(runs),
        _mode([r.headline for r in results], references, first.by),
        _mode(others, references, first.by) if others else None,
    )


def _mode(
    modes: Sequence[ModeResult], references: Mapping[str, Reference], by: Measure
) -> GroupMode:
    returns = np.array([mode.returns for mode in modes]).swapaxes(0, 1)  # [K+1, S, n]
    by_seed = [m.evaluation_seed_means for m in modes if m.evaluation_seed_means is not None]
    means = np.mean(by_seed, axis=0) if len(by_seed) == len(modes) else None  # [K+1, N]
    success = [mode.success for mode in modes if mode.success is not None]
    rates = np.array(success).swapaxes(0, 1) if len(success) == len(modes) else None  # [K+1, S, n]
    return GroupMode(
        action_mode=modes[0].action_mode,
        env_steps_used=np.mean([mode.env_steps_used for mode in modes], axis=0).tolist(),
        returns=returns.tolist(),
        seed_means=returns.mean(axis=2).tolist(),
        evaluation_seed_means=None if means is None else means.tolist(),
        evaluation_seed_std=None if means is None else spread(means),
        **({} if rates is None else judged_success(rates)),
        **judged(returns, references, by),
    )


def _pair(a: Group, b: Group, a_used: int, b_used: int) -> Pair:
    x, y = (  # [S_a, n] and [S_b, n], the last where several steps learn from the same examples
        np.array(dict(zip(g.episodes_used, g.headline.returns, strict=True))[used])
        for g, used in ((a, a_used), (b, b_used))
    )
    by, sign = a.first.by, -1.0 if a.first.by.falls else 1.0
    return Pair(
        a.label,
        b.label,
        a_used,
        b_used,
        statistics.paired_verdict(x, y, by.words("better", "worse", "no clear difference")),
        statistics.probability_of_improvement(sign * x, sign * y),
    )
