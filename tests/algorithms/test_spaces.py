"""Every kind of space trains, adapts and is evaluated, with MAML and with RL²."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from metarl.algorithms import algorithm_class
from metarl.algorithms.maml import MAML
from metarl.algorithms.rl2 import RL2
from metarl.algorithms.settings.gradient import MAMLSettings
from metarl.algorithms.settings.rl2 import RL2Settings
from metarl.cli.main import main
from metarl.envs.process_vector import ProcessVectorEnv
from metarl.evaluation.plan import EvaluationPlan
from metarl.evaluation.protocol import evaluate
from metarl.experience.rollout import RolloutWorker
from metarl.random import Key
from metarl.types import Inputs
from tests.envs.local_pool import LocalPool
from tests.spaces_envs import ACTIONS, OBSERVATIONS, REFUSED, TASKS, Spaced, SpacedLanes

KINDS = [(kind, "discrete") for kind in OBSERVATIONS]
KINDS += [("unbounded", kind) for kind in ACTIONS] + [("image", "multi_discrete")]


def source(observations: str, actions: str, *, batched: bool) -> RolloutWorker:
    if batched:
        return RolloutWorker(lambda n: SpacedLanes(n, observations, actions))
    params = {"observations": observations, "actions": actions}
    return RolloutWorker(
        lambda n: ProcessVectorEnv(Spaced, n, params, pool=LocalPool(), num_workers=1)
    )


def algorithm(name: str, worker: RolloutWorker) -> Any:
    if name == "maml":
        settings: Any = MAMLSettings(tasks=2, episodes=4, hidden_sizes=(8,))
        return MAML(settings, *worker.spaces, seed=1)
    embeddings = {f"{part}_embedding": 3 for part in ("observation", "action")}
    settings = RL2Settings(tasks=2, lanes=2, width=8, minibatches=2, **embeddings)
    return RL2(settings, *worker.spaces, seed=1)


@pytest.mark.parametrize("name", ["maml", "rl2"])
@pytest.mark.parametrize(("observations", "actions"), KINDS)
def test_two_iterations_and_an_evaluation(name: str, observations: str, actions: str) -> None:
    """In worker's hands; and natively batched it has the same parameters."""
    worker = source(observations, actions, batched=False)
    trained = algorithm(name, worker)
    before = {n: p.clone() for n, p in trained.params.items()}
    for iteration in (1, 2):
        metrics = trained.update(trained.collect(worker, Key(1, iteration)))
        assert all(np.isfinite(value) for value in metrics.values())
    moved = [n for n, p in trained.params.items() if not torch.equal(p, before[n])]
    assert moved == list(before)
    batched = algorithm(name, source(observations, actions, batched=True))
    assert {n: p.shape for n, p in batched.params.items()} == {
        n: p.shape for n, p in before.items()
    }
    batched.load_state_dict(trained.state_dict())
    held_out = TASKS.held_out()
    plan = EvaluationPlan(split="held_out", episodes=2, adaptation_steps=1)
    agent = batched.agent("stochastic", Key(3, evaluation=True))
    result = evaluate(agent, source(observations, actions, batched=True).env(6), held_out, plan)
    assert np.isfinite(result.task_returns).all()


FAMILY = ("fomaml", "anil", "meta_sgd", "promp", "e_maml", "reptile")


@pytest.mark.parametrize("name", FAMILY)
def test_the_variants_of_maml_learn_from_images_too(name: str) -> None:
    worker = source("image", "multi_discrete", batched=True)
    cls: Any = algorithm_class(name)
    trained = cls(cls.config_class(tasks=2, episodes=4, hidden_sizes=(8,)), *worker.spaces, seed=1)
    before = {n: p.clone() for n, p in trained.params.items()}
    trained.update(trained.collect(worker, Key(1, 1)))
    assert [n for n, p in trained.params.items() if not torch.equal(p, before[n])] == list(before)


@pytest.mark.parametrize("name", ["maesn", "cavia"])
def test_a_latent_takes_several_choices_and_no_images(name: str) -> None:
    cls: Any = algorithm_class(name)
    settings = cls.config_class(tasks=2, episodes=4, hidden_sizes=(8,))
    worker = source("dict", "multi_discrete", batched=True)
    trained = cls(settings, *worker.spaces, seed=1)
    metrics = trained.update(trained.collect(worker, Key(1, 1)))
    assert all(np.isfinite(value) for value in metrics.values())
    with pytest.raises(ValueError, match="beside numbers and not beside images"):
        cls(settings, *source("image", "discrete", batched=True).spaces, seed=1)


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_refused_is_refused_by_the_command(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    env = f"{{name: 'tests.spaces_envs:SpacedLanes', refused: {kind}}}"
    config = tmp_path / "refused.yaml"
    config.write_text(f"env: {env}\nalgorithm: {{name: maml}}\n")
    assert main(["train", str(config), "--run-dir", str(tmp_path / "run")]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    assert REFUSED[kind][1] in said


def test_images_are_kept_as_bytes_and_have_no_moments() -> None:
    worker = source("image", "discrete", batched=True)
    maml, rl2 = algorithm("maml", worker), algorithm("rl2", worker)
    data = maml.collect(worker, Key(1, 1)).data
    assert [samples.observations.dtype for samples in data] == [torch.uint8] * 2
    assert maml.moments is None
    batch = rl2.collect(worker, Key(1, 1))
    assert batch.trial.observations.dtype == torch.uint8
    rl2.update(batch)
    assert rl2.input_moments.mean.shape == (1,)  # the rewards'
    assert float(rl2.input_moments.count) > 0


def test_a_memory_is_shown_each_choice_of_its_last_action() -> None:
    worker = source("unbounded", "multi_discrete", batched=True)
    rl2 = algorithm("rl2", worker)
    trial = rl2.collect(worker, Key(1, 1)).trial
    assert trial.actions.shape[3:] == (4,)  # of sizes 2, 3, 1, 4
    policy = rl2.policy
    nothing = torch.full((1, 1, 4), -1)
    chosen = torch.tensor([[[1, 0, 0, 3]]])

    def fed(action: torch.Tensor) -> list[float]:
        zeros = torch.zeros(1, 1)
        inputs = Inputs(torch.zeros(1, 1, 3), action, zeros, zeros.bool())
        plain = RL2(RL2Settings(tasks=4, width=8), *worker.spaces, seed=1)
        return plain.policy.features(plain.params, inputs).flatten().tolist()

    assert policy.action_shape == (4,)
    assert fed(nothing) == [0.0] * (3 + 10 + 2)
    assert fed(chosen)[3:13] == [0, 1, 1, 0, 0, 1, 0, 0, 0, 1]
