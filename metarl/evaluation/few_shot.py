"""Few-shot learning measured: query sets predicted before and after each adaptation step.

The counterpart of :mod:`metarl.evaluation.protocol`: support and query examples of every task come
from the keyed streams of an evaluation, so every agent is given the same, and every step of an
agent is judged by the same query examples.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from metarl.errors import UserError
from metarl.evaluation.measurements import Evaluation, FewShot, Shown
from metarl.evaluation.plan import BOTH_MODES, EvaluationPlan
from metarl.experience.few_shot import FewShotSets, FewShotSource
from metarl.random import Key

if TYPE_CHECKING:
    from metarl.envs.supervised import SupervisedTasks
    from metarl.maths.distributions import Distribution
    from metarl.types import FewShotAgent

NUMBERS_AT_ONCE = 1 << 17
"""Of the inputs of the tasks that are adapted together: a network's activations may be 20 times as
many, and should still be found in the processor's cache."""
SHOWN = 4
"""Tasks kept for pictures: the first ones, which no result has chosen."""
CURVE_POINTS = 200


def fitted(plan: EvaluationPlan, agent: FewShotAgent, algorithm: str) -> EvaluationPlan:
    """The plan as few-shot learning is measured by it.

    Predictions are not drawn, so there is one action mode; and an agent that reads its support set
    whole adapts once, where the number of steps is the default.

    Raises:
        UserError: the plan asks for what there is not.
    """
    if plan.modes not in (BOTH_MODES, ("deterministic",)):
        raise UserError(
            "Few-shot predictions are the most probable ones, not drawn: leave --mode "
            f"{plan.modes[0]} out."
        )
    if plan.forget:
        raise UserError(
            "--forget leaves nothing to measure of few-shot learning: predictions without "
            "adaptation are those of step 0."
        )
    if agent.adaptation_axis == "support_set" and plan.adaptation_steps > 1:
        if not plan.default_steps:
            raise UserError(
                f"{algorithm} reads the support set whole in one adaptation step, and "
                f"{plan.adaptation_steps} are asked for: set adaptation_steps to 1 or 0."
            )
        plan = replace(plan, adaptation_steps=1)
    return replace(plan, modes=("deterministic",))


def evaluate_few_shot(
    agent: FewShotAgent, source: FewShotSource, tasks: np.ndarray, plan: EvaluationPlan
) -> Evaluation:
    """Measure predictions on every task's query set after 0..K adaptation steps.

    Args:
        agent: It is begun anew for every block of tasks.
        source: Of the examples.
        tasks: Task vectors [n, d].
        plan: How many steps and query examples (of each class, where there are classes), and the
            seed of the examples.

    Raises:
        ValueError: A prediction has a wrong shape.
        FloatingPointError: A prediction is not finite; names the task.
    """
    tasks, kind = np.asarray(tasks, dtype=np.float64), source.tasks
    measured, shown = [], None
    for block, sets in blocks(source, tasks, plan):
        agent.begin(sets.support)
        predictions, curves = [], []
        grid = _grid(kind, sets) if block.start == 0 else None
        for k in range(plan.adaptation_steps + 1):
            if k > 0:
                agent.adapt()
            predictions.append(agent.predict(sets.query.observations))
            _check(predictions[-1], sets, block.start, k)
            if grid is not None:
                curves.append(_arrays(agent.predict(grid).mode()[..., 0]))
        measured.append(np.stack([judged(each, sets.query.actions) for each in predictions]))
        if block.start == 0:
            shown = _shown(kind, sets, predictions)
            if grid is not None:
                shown = replace(shown, **_curves(kind, tasks[block], grid, curves))
    scores, confidence = np.concatenate(measured, axis=2).swapaxes(0, 1)  # [K+1, n, Q]
    few_shot = FewShot(kind.ways, kind.shots, getattr(agent, "transductive", None))
    distribution, steps = source.task_distribution, plan.adaptation_steps
    sizes = [float(size) for size in agent.step_sizes[:steps]]
    return Evaluation(
        tasks=tasks,
        task_columns=tuple(distribution.columns),
        task_units=tuple(distribution.units),
        split=plan.split_name(distribution),
        action_mode="deterministic",
        adaptation_axis=agent.adaptation_axis,
        step_sizes=sizes + sizes[-1:] * (steps - len(sizes)),
        seeds=(plan.seed,),
        returns=scores,
        env_steps_used=np.array([0.0] + [float(few_shot.support)] * steps),
        rewards=None,
        paths=None,
        measure=kind.measure,
        few_shot=few_shot,
        confidence=confidence if isinstance(kind.target_space, spaces.Discrete) else None,
        shown=shown,
    )


def blocks(
    source: FewShotSource, tasks: np.ndarray, plan: EvaluationPlan
) -> Iterator[tuple[slice, FewShotSets]]:
    """The examples of an evaluation seed, a block of tasks after the other; memory holds one."""
    kind = source.tasks
    examples = kind.ways * (kind.shots + plan.episodes)
    size = max(NUMBERS_AT_ONCE // (examples * int(np.prod(kind.input_space.shape))), 1)
    key = Key(plan.seed, evaluation=True)
    for first in range(0, len(tasks), size):
        block = slice(first, first + size)
        yield block, source.examples(tasks[block], plan.episodes, key, first=first)


@torch.no_grad()
def judged(predicted: Distribution, targets: Tensor) -> np.ndarray:
    """The measure of predictions, and the probability of what was predicted, float64 [2, M, Q].

    Of numbers the density stands for the probability, and means nothing here.
    """
    best = predicted.mode()
    confidence = predicted.log_prob(best).double().exp()
    return torch.stack([score(best, targets), confidence]).numpy()


def score(best: Tensor, targets: Tensor) -> Tensor:
    """1 where a class is the right one, else 0; or the squared distance of numbers: [M, Q]."""
    if targets.is_floating_point():
        return (best.double() - targets).square().sum(-1)
    return (best == targets).double()


@torch.no_grad()
def _check(predicted: Distribution, sets: FewShotSets, first: int, k: int) -> None:
    """Refuse predictions that are none for these query sets, the first of them task `first`'s."""
    best, targets = predicted.mode(), sets.query.actions
    if best.shape != targets.shape:
        raise ValueError(
            f"The agent's predict() returned predictions of shape {list(best.shape)}; these query "
            f"sets need {list(targets.shape)}."
        )
    log_prob = predicted.log_prob(best)
    finite = torch.isfinite(log_prob) & torch.isfinite(best.reshape(*log_prob.shape, -1)).all(-1)
    if not finite.all():
        m, q = torch.nonzero(~finite)[0].tolist()
        raise FloatingPointError(
            f"Task {first + m}, after {k} adaptation steps: the prediction of query example {q} is "
            "not finite, so the agent has diverged."
        )


def _shown(kind: SupervisedTasks, sets: FewShotSets, predictions: list[Distribution]) -> Shown:
    """What pictures show of the first tasks."""
    shape = kind.input_space.shape
    support, query = (part.tasks(slice(SHOWN)) for part in sets)
    return Shown(
        support.observations.unflatten(2, shape).numpy(),
        support.actions.numpy(),
        query.observations.unflatten(2, shape).numpy(),
        query.actions.numpy(),
        np.stack([_arrays(each.mode()) for each in predictions]),
        np.stack([judged(each, sets.query.actions)[1][:SHOWN] for each in predictions]),
    )


def _grid(kind: SupervisedTasks, sets: FewShotSets) -> Tensor | None:
    """Inputs [M, G, 1] along the axis, where a function of one number is to be predicted."""
    if isinstance(kind.target_space, spaces.Discrete):
        return None
    if (kind.input_space.shape, kind.target_space.shape) != ((1,), (1,)):
        return None
    x = torch.cat([part.observations for part in sets], dim=1)
    grid = torch.linspace(float(x.min()), float(x.max()), CURVE_POINTS)
    return grid[None, :, None].repeat(len(x), 1, 1)


def _curves(
    kind: SupervisedTasks, tasks: np.ndarray, grid: Tensor, curves: list[np.ndarray]
) -> dict[str, Any]:
    """What was predicted along the axis, and what is true there."""
    x = grid[:SHOWN].numpy()
    truth = kind.truth(tasks[:SHOWN], x)
    truth = None if truth is None else truth[..., 0]
    return {"grid": x[0, :, 0], "curves": np.stack(curves), "truth": truth}


def _arrays(predicted: Tensor) -> np.ndarray:
    """Of the tasks shown, without history."""
    return np.asarray(predicted[:SHOWN].detach().numpy())
