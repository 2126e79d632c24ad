"""Evaluations by Ray's workers: what is measured there is what is measured here, to the bit."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial
from typing import Any

import cloudpickle
import numpy as np
import pytest
import torch

from metarl import envs
from metarl.agents.watched_agent import WatchedAgent
from metarl.errors import UserError
from metarl.evaluation.evaluation_seeds import evaluate_all
from metarl.evaluation.plan import EvaluationPlan
from metarl.experience.ray_pool import Job, RaySettings, Work
from metarl.experience.ray_rollout import RayRolloutWorker
from metarl.experience.ray_worker import RayWorker, Setup
from metarl.random import Key
from tests.algorithms.test_other_device import built, source_of
from tests.evaluation.fakes import Surveyor

PLAN = EvaluationPlan("validation", episodes=2, adaptation_steps=1, seed=4, num_seeds=2)
NAMES = ("maml", "maesn", "rl2", "varibad", "pearl", "recurrent_sac", "recurrent_dqn")
"""Each kind of agent's."""


class Desk:
    """A worker's process in this one, in the place of a cluster."""

    def __init__(self, make_env: Any) -> None:
        self.worker, self.threads = RayWorker(), []  # type: ignore[var-annotated]
        self.worker.start(Setup([], ".", *map(cloudpickle.dumps, ({}, make_env))))

    def run(self, jobs: list[Job], work: Work, begins: Any) -> Iterator[Any]:
        for number, job in enumerate(jobs):
            begins(number)
            self.threads.append(job.arguments[1])
            yield getattr(self.worker, job.method)(*job.arguments)


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    threads = torch.get_num_threads()

    def made(make_env: Any, **options: Any) -> RayRolloutWorker:
        worker = RayRolloutWorker(make_env, 1, make_env, RaySettings(), **options)
        monkeypatch.setattr(worker, "connect", lambda: desk)
        desk = Desk(make_env)
        torch.set_num_threads(threads)
        return worker

    yield made
    torch.set_num_threads(threads)


def navigation(lanes: int) -> Any:
    return envs.make("point_navigation", lanes, horizon=3)


def measured(agents: Any, worker: Any, begins: Any = lambda number: None) -> dict[str, Any]:
    tasks = worker.task_distribution.validation()[:3]
    found = evaluate_all(agents, worker, tasks, PLAN, begins)
    return {name: vars(evaluation) for name, evaluation in found.items()}


@pytest.mark.parametrize("name", NAMES)
def test_an_algorithms_agent_is_measured_there_as_here(name: str, elsewhere: Any) -> None:
    here = source_of(name)
    there = elsewhere(here._make_env)  # type: ignore[union-attr]
    algorithm = built(name, torch.device("cpu"), here)

    def agent(mode: Any, seed: int) -> Any:
        return algorithm.agent(mode, Key(seed, evaluation=True))

    agents = {mode: partial(agent, mode) for mode in ("stochastic", "deterministic")}
    expected, found = (measured(agents, worker) for worker in (here, there))
    assert there.connect().threads == [torch.get_num_threads()] * 4
    for mode, evaluation in expected.items():
        for part, value in evaluation.items():
            if part not in ("beliefs", "recordings"):
                np.testing.assert_equal(found[mode][part], value, part)
        assert found[mode]["returns"].flags.owndata  # and none of Ray's memory, which goes


def test_agents_of_a_users_own_go_there_and_are_told_of_as_they_begin(elsewhere: Any) -> None:
    agents = {"watched": lambda seed: WatchedAgent(Surveyor(seed), "tests:Surveyor")}
    numbers: list[int] = []
    there = elsewhere(navigation)
    found = measured(agents, there, numbers.append)["watched"]
    here = measured({"watched": Surveyor}, elsewhere(navigation, sends_agents=False))["watched"]
    np.testing.assert_array_equal(found["returns"], here["returns"])
    assert numbers == [0, 1]


class Holding(Surveyor):
    """What it holds cannot be sent."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.lock = threading.Lock()


class Stuck(Surveyor):
    """It cannot be made again."""

    def __reduce__(self) -> Any:
        return int, ("nowhere",)


def test_what_cannot_be_sent_is_a_sentence(elsewhere: Any) -> None:
    with pytest.raises(UserError, match="cannot be sent to the workers of Ray: cannot pickle"):
        measured({"one": Holding}, elsewhere(navigation))
    with pytest.raises(UserError, match=r"cannot be made on the Ray worker .*nowhere"):
        measured({"one": Stuck}, elsewhere(navigation))


def test_agents_on_a_gpu_stay_with_the_driver(elsewhere: Any) -> None:
    there = elsewhere(navigation, sends_agents=False)
    measured({"one": Holding}, there)
    assert there.connect().threads == []
