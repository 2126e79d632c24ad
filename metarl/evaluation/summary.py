"""From the measurements of an agent to a result: what its returns say, beside its references."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from metarl.envs.knowledge import known_returns
from metarl.evaluation.calibration import Calibration, calibration
from metarl.evaluation.measurements import Evaluation
from metarl.evaluation.measures import RETURN, Measure
from metarl.evaluation.reference_kinds import FLOOR, ORACLE
from metarl.evaluation.result import (
    AdaptiveReference,
    EvaluationResult,
    ModeResult,
    Provenance,
    Reference,
)
from metarl.evaluation.seed_statistics import (
    gain_verdict,
    iqm_interval,
    mean_interval,
    paired_verdict,
    pooled_iqm,
)
from metarl.evaluation.statistics import (
    bootstrap_interval,
    normalised_scores,
    settling_step,
    standard_error_95,
)

if TYPE_CHECKING:
    from metarl.envs.vector import TaskVectorEnv


def summarize(
    headline: Evaluation,
    other: Evaluation | None = None,
    *,
    provenance: Provenance,
    env: str,
    env_config: Mapping[str, Any],
    references: Mapping[str, np.ndarray] | None = None,
    missing_references: Mapping[str, str] | None = None,
) -> EvaluationResult:
    """Turn measurements of one agent into a result.

    Args:
        headline: The mode to quote: stochastic for gradient-based agents, else deterministic.
        other: The other mode on the same tasks.
        provenance: What was measured.
        env: Name of the environment.
        env_config: Its resolved settings.
        references: name -> return on each of the same tasks, [n].
        missing_references: name -> the command that makes it.

    Raises:
        ValueError: A reference of another length, modes of other tasks.
    """
    if other is not None and (
        not np.array_equal(headline.tasks, other.tasks)
        or (headline.returns.shape, headline.seeds) != (other.returns.shape, other.seeds)
    ):
        raise ValueError("The two action modes were measured on different tasks, steps or seeds.")
    known = _references(references or {}, len(headline.tasks))
    return EvaluationResult(
        algorithm=provenance.algorithm,
        env=env,
        env_config=dict(env_config),
        split=headline.split,
        seeds=provenance.seeds,
        evaluation_seed=headline.seeds[0],
        evaluation_seeds=list(headline.seeds),
        checkpoint=provenance.checkpoint,
        x=headline.adaptation_axis,
        episodes_per_step=headline.episodes,
        step_sizes=headline.step_sizes,
        episodes_used=headline.episodes_used,
        task_columns=list(headline.task_columns),
        task_units=list(headline.task_units),
        tasks=headline.tasks.tolist(),
        headline=_mode_result(headline, known),
        other=None if other is None else _mode_result(other, known),
        references=known,
        missing_references=dict(missing_references or {}),
        forgets=headline.forgets,
        measure=headline.measure,
        few_shot=headline.few_shot,
        calibration=_calibration(headline),
    )


def _references(references: Mapping[str, np.ndarray], n: int) -> dict[str, Reference]:
    return {name: _reference(name, returns, n) for name, returns in references.items()}


def _reference(name: str, given: np.ndarray, n: int) -> Reference:
    returns = np.asarray(given, dtype=np.float64)
    if returns.shape != (n,):
        raise ValueError(
            f"The reference {name!r} has returns of shape {list(returns.shape)}; the evaluation "
            f"has {n} tasks."
        )
    return Reference(returns.tolist(), float(returns.mean()), bootstrap_interval(returns))


def is_trial(evaluation: Evaluation) -> bool:
    """Whether the measurements are the episodes of one trial, which the agent remembers."""
    return evaluation.adaptation_axis == "episode" and not evaluation.forgets


def adaptive_reference(evaluation: Evaluation, of: Evaluation) -> AdaptiveReference:
    """What another agent earned in the same trials, beside the one that is judged.

    Args:
        evaluation: Of the agent that is judged.
        of: Of the other one, by the same plan.
    """
    episodes = [_reference("adaptive", row, len(row)) for row in of.task_returns]
    return beside(evaluation.task_returns[:, None], episodes)


def beside(returns: np.ndarray, episodes: Sequence[Reference]) -> AdaptiveReference:
    """Who is ahead over the whole trial: returns [K+1, S, n], or what another agent earned."""
    others = np.sum([each.returns for each in episodes], axis=0)[None]
    words = ("better", "worse", "no clear difference")
    return AdaptiveReference([*episodes], paired_verdict(returns.sum(axis=0), others, words))


def trained_beside(evaluation: Evaluation, others: np.ndarray) -> AdaptiveReference:
    """What else was trained anew on the same tasks, and who is ahead over the whole training.

    Args:
        evaluation: Of the agent that is judged.
        others: Returns [K+1, N, n] of the other one's trainings, with the same evaluation seeds.
    """
    own, beside = returns_of_agents(evaluation), _trainings(others)
    rows = [
        Reference(row.mean(axis=0).tolist(), float(row.mean()), mean_interval(of_seeds))
        for row, of_seeds in zip(others, beside, strict=True)
    ]
    words = ("better", "worse", "no clear difference")
    difference = paired_verdict(own.mean(axis=0), beside.mean(axis=0), words)
    return AdaptiveReference(rows, difference)


def returns_of_agents(evaluation: Evaluation) -> np.ndarray:
    """Mean return of each task, [K+1, S, n]: of one agent, or of those that each seed trained."""
    if evaluation.adaptation_axis == "env_steps":
        return _trainings(evaluation.seed_returns.swapaxes(1, 2))
    return evaluation.task_returns[:, None]


def _trainings(returns: np.ndarray) -> np.ndarray:
    """Returns [K+1, N seeds, n], over which intervals are; of one task, over the seeds alone."""
    return returns.swapaxes(1, 2) if returns.shape[2] == 1 else returns


def bayes_adaptive(evaluation: Evaluation, env: TaskVectorEnv) -> list[Reference] | None:
    """What the environment knows of the best adaptive agent, by the episode of the trial.

    None where it knows nothing, and beside measurements that are no episodes of one trial: those
    after gradient steps, and those of an agent that forgets.
    """
    if not is_trial(evaluation):
        return None
    episodes, n = evaluation.returns.shape[:2]
    asked = evaluation.tasks, episodes
    returns = known_returns(env, "bayes_optimal_returns", (episodes, n), *asked)
    if returns is None:
        return None
    return [_reference("bayes_optimal", row, n) for row in returns]


def _mode_result(evaluation: Evaluation, references: Mapping[str, Reference]) -> ModeResult:
    returns = evaluation.task_returns  # [K+1, n]
    # [K+1, n, N] -> [K+1, N], along n in memory: to the bit the mean of that seed alone
    seed_means = np.ascontiguousarray(evaluation.seed_returns.swapaxes(1, 2)).mean(axis=2)
    return ModeResult(
        action_mode=evaluation.action_mode,
        env_steps_used=evaluation.env_steps_used.tolist(),
        returns=returns.tolist(),
        se95=[standard_error_95(row) for row in returns],
        settling_step=_settling(evaluation),
        evaluation_seed_means=seed_means.tolist(),
        evaluation_seed_std=spread(seed_means),
        **_success(evaluation),
        **_episode_measures(evaluation),
        **judged(returns_of_agents(evaluation), references, evaluation.by),
    )


def _settling(evaluation: Evaluation) -> list[int | None] | None:
    if evaluation.rewards is None:
        return None
    return [settling_step(rewards) for rewards in evaluation.rewards]


def _calibration(evaluation: Evaluation) -> list[Calibration] | None:
    if evaluation.confidence is None:
        return None
    return list(map(calibration, evaluation.confidence, evaluation.returns))


def _success(evaluation: Evaluation) -> dict[str, Any]:
    if evaluation.success is None:
        return {}
    rates = evaluation.success.mean(axis=2)  # [K+1, n]
    return {"success": rates.tolist(), **judged_success(rates[:, None])}


def _episode_measures(evaluation: Evaluation) -> dict[str, Any]:
    own = evaluation.episode_measures.items()
    means = {name: values.mean(axis=(1, 2)).tolist() for name, values in own}
    return {"episode_measures": means} if means else {}


def judged_success(rates: np.ndarray) -> dict[str, Any]:
    """Shares of successful episodes [K+1, S seeds, n tasks], as :func:`judged` has returns."""
    return {
        "success_rate": [float(at_k.mean()) for at_k in rates],
        "success_ci95": [mean_interval(at_k) for at_k in rates],
    }


def spread(seed_means: np.ndarray) -> list[float] | None:
    """Standard deviation over N evaluation seeds of their means [K+1, N]; None for one seed."""
    return seed_means.std(axis=1, ddof=1).tolist() if seed_means.shape[1] > 1 else None


def judged(
    returns: np.ndarray, references: Mapping[str, Reference], by: Measure = RETURN
) -> dict[str, Any]:
    """What returns [K+1, S seeds, n tasks] of a measure say, by the fields of a result.

    The interval over tasks where there is one seed, else over seeds and tasks.
    """
    means = [float(at_k.mean()) for at_k in returns]
    floor, oracle = (
        references[name].mean if name in references else None for name in (FLOOR, ORACLE)
    )
    return {
        "mean": means,
        "ci95": [mean_interval(at_k) for at_k in returns],
        "iqm": [float(pooled_iqm(at_k)) for at_k in returns],
        "iqm_ci95": [iqm_interval(at_k) for at_k in returns],
        "normalised": normalised_scores(means, floor, oracle, by.falls),
        "adaptation_helps": None if len(means) == 1 else gain_verdict(returns[0], returns[-1], by),
    }
