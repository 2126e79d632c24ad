"""Faulty environments: what is said of each, in the words of the contract."""

from __future__ import annotations

import re
from typing import Any

import cloudpickle
import numpy as np
import pytest

from metarl.envs.process_vector import ProcessVectorEnv
from metarl.envs.process_worker import Call, Description, Failed, Start
from metarl.envs.vector import SimulationFailure
from tests.envs import faulty_envs
from tests.envs.local_pool import LocalPool, LocalWorker

ORDER = "the values in order are observation, reward, terminated, truncated, info"
BUILT = {
    "ResetNoSeed": "ResetNoSeed.reset (HERE) takes no seed: define it as reset(self, *, seed=None, "
    "options=None), and begin it with super().reset(seed=seed)",
    "make_old_reset": "ResetNoSeed.reset (HERE) takes no seed: ",
    "SpaceText": "SpaceText (HERE) has observations of the space Dict('said': Text(1, 3, ",
    "make_text": "Box, Discrete, MultiDiscrete, MultiBinary, and Dict and Tuple of them are "
    "supported, and Text(1, 3, charset=a) is not, so write a gymnasium.ObservationWrapper",
    "SpaceMissing": "SpaceMissing (HERE) has no observation_space, a space of gymnasium.spaces",
    "ActionMissing": "ActionMissing (HERE) has no action_space, a space of gymnasium.spaces",
    "NoTask": "NoTask (HERE) has no method set_task(task)",
    "TaskTwo": "TaskTwo.set_task (HERE) must take the task alone",
    "make_nothing": "it is no gymnasium.Env: make_nothing (HERE) returned None",
    "BuildsNot": "OSError: no such model: maze.xml (HERE)",
    "Needs": "missing 1 required positional argument: 'size', in Needs.__init__ (HERE)",
}
PLAYED = {
    "ResetAlone": "ResetAlone.reset (HERE) returned an array of shape [2]: it must return two "
    "values, the observation and a dict, return observation, {}",
    "ResetList": "ResetList.reset (HERE) returned a list of 2: it must return two values",
    "ResetNothing": "ResetNothing.reset (HERE) returned None: it must return two values",
    "ResetTextInfo": "ResetTextInfo.reset (HERE) returned the str 'start' as info: it must be a d",
    "StepOfGym": "StepOfGym.step (HERE) returned 4 values, as in the days of Gym: it must return 5 "
    "values, observation, reward, terminated, truncated, info",
    "StepNothing": "StepNothing.step (HERE) returned None: it must return 5 values",
    "StepInfoForTruncated": "StepInfoForTruncated.step (HERE) returned an empty dict as truncated: "
    f"it must be true or false; {ORDER}",
    "StepSwapped": "returned an array of shape [2] as reward: it must be a number; " + ORDER,
    "StepNoneFlag": "returned None as terminated: it must be true or false; " + ORDER,
    "StepTextFlag": "returned the str 'False' as terminated: it must be true or false",
    "StepNoInfo": "returned None as info: it must be a dict; " + ORDER,
    "RewardText": "RewardText.step (HERE) returned the str '1.0' as reward: it must be a number",
    "RewardNothing": "returned None as reward: it must be a number",
    "RewardVector": "returned an array of shape [3] as reward: it must be a number",
    "RewardNan": "returned nan as reward: it must be a finite number",
    "RewardComplex": "returned the complex 1j as reward: it must be a number",
    "LookNothing": "LookNothing.reset (HERE) returned None as the observation: it must be an array "
    "of numbers of shape [2], as its observation_space is",
    "LookDict": "returned a dict with the keys 'x', 'v' as the observation: it must be an array of "
    "numbers of shape [2], as its observation_space is; or declare the Dict or Tuple that they are "
    "of",
    "LookTuple": "returned a tuple of 2 as the observation: ",
    "LookText": "returned an array of shape [2] and type <U1 as the observation: it must be an arr",
    "LookRagged": "returned a list of 2 as the observation: it must be an array of numbers",
    "LookLong": "returned an array of shape [3] as the observation: it must be an array of numbers "
    "of shape [2]",
    "LookColumn": "returned an array of shape [2, 1] as the observation: ",
    "LookNan": "LookNan.reset (HERE) returned nan in entry 1 of the observation: its numbers must ",
    "LookGradient": "returned a Tensor of shape [2] that needs a gradient as the observation: it m",
    "TaskRaises": "KeyError: 'mass' (HERE)",
    "Exits": "it called sys.exit(3) (HERE)",
    "Interrupts": "KeyboardInterrupt (HERE)",
    "LibraryFails": "LinAlgError: Singular matrix (HERE)",
    "make_old": "StepOfGym.step (HERE) returned 4 values",
    "Rewarded": "Rewarded.step (HERE) returned 4 values",
}


def built(name: str, **params: Any) -> tuple[LocalWorker, Any]:
    """A worker in this process with one environment, and what it said to that."""
    worker = LocalWorker()
    worker.send(Start(cloudpickle.dumps((getattr(faulty_envs, name), params)), 1, 0, "success"))
    return worker, worker.reply


def answer(worker: LocalWorker, request: Call) -> Any:
    worker.send(request)
    return worker.reply


def played(name: str) -> tuple[Any, Any]:
    """The replies of a worker to a reset and a step, or to what went wrong first."""
    worker, said = built(name)
    assert isinstance(said, Description), said
    seeds = np.array([7], dtype=object)
    said = answer(worker, Call("reset", [0], [np.full((1, 1), 0.5), seeds]))
    if isinstance(said, Failed):
        return said, None
    return said, answer(worker, Call("step", [0], [np.zeros((1, 1), np.float32)]))


def located(message: str) -> str:
    """The message, which names a line of the user's and no other, in one line."""
    assert "\n" not in message
    assert "envs/process_worker" not in message
    return re.sub(r"tests/envs/faulty_envs\.py, line \d+", "HERE", message)


@pytest.mark.parametrize("name", BUILT)
def test_an_environment_without_what_is_asked_of_it_is_not_built(name: str) -> None:
    _, said = built(name)
    assert isinstance(said, Failed)
    assert BUILT[name] in located(said.message)


@pytest.mark.parametrize("name", PLAYED)
def test_a_broken_contract_names_the_method_and_its_line(name: str) -> None:
    first, second = played(name)
    said = second if first is None or not isinstance(first, Failed) else first
    assert isinstance(said, Failed), said
    assert PLAYED[name] in located(said.message)


def test_what_is_plain_is_accepted() -> None:
    """A reward of shape [1], a flag of shape [1] or 0, a list of numbers, for what they mean."""
    for name in ("Sound", "Lenient"):
        first, second = played(name)
        np.testing.assert_array_equal(first, [np.zeros((1, 2))])
        observation, reward, terminated, truncated, _ = second
        assert (observation.tolist(), reward.tolist()) == ([[0.0, 0.0]], [0.5])
        assert (terminated.tolist(), truncated.tolist()) == ([False], [False])


@pytest.mark.parametrize(("name", "horizon"), [("make_flat", 3), ("Flat", 5), ("Sound", 5)])
def test_task_and_horizon_are_found_through_wrappers(name: str, horizon: int) -> None:
    """A TimeLimit ends the episode before the horizon of what it wraps."""
    worker, said = built(name)
    assert (said.horizon, said.task_distribution.columns) == (horizon, ("velocity",))
    answer(worker, Call("reset", [0], [np.full((1, 1), 0.5), np.array([7], dtype=object)]))
    env: Any = worker.slice.envs[0].unwrapped
    assert env.goal == 0.5


def test_a_time_limit_alone_is_a_horizon() -> None:
    _, said = built("make_flat", limit=4)
    assert said.horizon == 4


def test_an_observation_outside_its_space_is_warned_of_once(
    capsys: pytest.CaptureFixture[str],
) -> None:
    env = ProcessVectorEnv(faulty_envs.Outside, 2, num_workers=1, pool=LocalPool())
    env.reset(seed=0)
    for _ in range(2):
        assert env.step(np.zeros((2, 1)))[0].tolist() == [[0.0, 1.5]] * 2
    assert capsys.readouterr().err == (
        "warning: Outside gave the observation 1.5 in entry 1, which its observation_space bounds "
        "by -1 and 1. It is used as it is.\n"
    )
    ProcessVectorEnv(faulty_envs.Sound, 2, num_workers=1, pool=LocalPool()).reset(seed=0)
    assert capsys.readouterr().err == ""


def test_a_broken_contract_is_one_failure_of_a_lane() -> None:
    env = ProcessVectorEnv(faulty_envs.StepOfGym, 2, num_workers=1, pool=LocalPool())
    env.set_tasks([[0.25], [0.75]])
    env.reset(seed=0)
    sentence = (
        r"^StepOfGym failed in lane 0 \(task: velocity 0\.25\) at step 0: StepOfGym\.step \(te"
    )
    with pytest.raises(SimulationFailure, match=sentence):
        env.step(np.zeros((2, 1)))


def test_a_task_distribution_that_is_a_class_is_said_to_be_one() -> None:
    with pytest.raises(ValueError, match=r"task_distribution is the class UniformInterval: make"):
        ProcessVectorEnv(faulty_envs.TasksAreAClass, 1, num_workers=1, pool=LocalPool())
