"""What stands beside an agent of few-shot learning: what asks for no meta-training, and the oracle.

Nothing of it is stored: it is measured with the very examples of an evaluation.

- *oracle*: knows what kind of tasks these are, where a distribution has such a prediction;
- *from_scratch*: the agent as it was before its training, adapted to the support set by its own
  steps, by 100 of them at least where inputs are no images;
- *nearest_neighbour*: the target of the nearest support example, by Euclidean distance;
- *random_features*: the same, images by the features of an untrained convolutional network;
- *chance*: a class at random.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from metarl.envs.supervised import Examples
from metarl.evaluation.few_shot import blocks, score
from metarl.evaluation.plan import EvaluationPlan
from metarl.evaluation.reference_kinds import FROM_SCRATCH, ORACLE
from metarl.experience.few_shot import FewShotSets, FewShotSource
from metarl.networks.conv import ConvNetwork
from metarl.random import Key
from metarl.types import FewShotAgent

SCRATCH_STEPS = 100
"""Of an agent with random weights at least, where inputs are no images and steps cost little."""

Predict = Callable[[FewShotSets, int], Tensor | None]
"""Support and query sets, and the evaluation seed ↦ the query sets' targets, None for none."""


def measure_few_shot_references(
    source: FewShotSource,
    tasks: np.ndarray,
    plan: EvaluationPlan,
    untrained: Callable[[int], FewShotAgent] | None,
) -> dict[str, np.ndarray]:
    """The measure of each on every task [n], mean over the plan's evaluation seeds.

    Args:
        source: Of the examples.
        tasks: Task vectors [n, d].
        plan: The evaluation.
        untrained: Evaluation seed ↦ the agent as it was before its training, where it has one.
    """
    kind, shape = source.tasks, source.tasks.input_space.shape
    found: dict[str, np.ndarray] = {}
    predictors: dict[str, Predict] = {ORACLE: lambda sets, seed: _oracle(source, sets)}
    if untrained is not None and plan.adaptation_steps > 0:
        predictors[FROM_SCRATCH] = _from_scratch(untrained, plan.adaptation_steps, len(shape) == 3)
    predictors["nearest_neighbour"] = lambda sets, seed: nearest(sets, lambda x: x)
    if len(shape) == 3:
        predictors["random_features"] = _by_random_features((shape[0], shape[1], shape[2]))
    scores: dict[str, list[np.ndarray]] = {name: [] for name in predictors}  # by seed and block
    for seed in plan.seeds:
        for _, sets in blocks(source, tasks, replace(plan, seed=seed)):
            for name, predict in predictors.items():
                if (best := predict(sets, seed)) is not None:
                    scores[name].append(score(best, sets.query.actions).mean(1).numpy())
    for name, known in scores.items():
        if known:
            found[name] = np.concatenate(known).reshape(len(plan.seeds), -1).mean(0)
    if kind.ways > 1:
        found["chance"] = np.full(len(tasks), 1.0 / kind.ways)
    return found


def nearest(sets: FewShotSets, embed: Callable[[Tensor], Tensor]) -> Tensor:
    """Targets [M, Q] of the support examples whose embeddings [M, N, f] are nearest."""
    support, query = sets
    distance = torch.cdist(embed(query.observations), embed(support.observations))  # [M, Q, S]
    index = distance.argmin(2)
    return support.actions[torch.arange(len(index))[:, None], index]


def _by_random_features(shape: tuple[int, int, int]) -> Predict:
    network = ConvNetwork(shape, norm="none")
    params = network.init(Key(0, evaluation=True).generator("init"))
    return lambda sets, seed: nearest(sets, lambda images: network.embed(params, images))


def _from_scratch(untrained: Callable[[int], FewShotAgent], steps: int, images: bool) -> Predict:
    """The agent after so many steps, or more where they cost little."""
    made = functools.cache(untrained)  # it begins anew with every block

    def predict(sets: FewShotSets, seed: int) -> Tensor:
        agent = made(seed)
        agent.begin(sets.support)
        few = images or agent.adaptation_axis == "support_set"
        for _ in range(steps if few else max(steps, SCRATCH_STEPS)):
            agent.adapt()
        best: Tensor = agent.predict(sets.query.observations).mode().detach()
        return best

    return predict


def _oracle(source: FewShotSource, sets: FewShotSets) -> Tensor | None:
    support, query = sets
    known = Examples(support.observations.numpy(), support.actions.numpy())
    found = source.tasks.oracle(known, query.observations.numpy())
    return None if found is None else torch.from_numpy(found)
