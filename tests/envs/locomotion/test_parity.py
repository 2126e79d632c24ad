"""The locomotion environments equal Gymnasium's own to the last bit, contact forces included."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import gymnasium
import mujoco
import numpy as np
import pytest

from metarl.envs import TaskVectorEnv, make
from metarl.envs.locomotion import contact_forces
from metarl.envs.locomotion.models import silence

LANES = 3


class Family(NamedTuple):
    """An environment of ours that is Gymnasium's own for one of its tasks."""

    id: str
    params: dict[str, Any]
    own_task: float | None  # None: not known to Gymnasium, whose model is changed instead
    scale: float = 1.0  # of actions


FAMILIES = {
    "half_cheetah_params": Family("HalfCheetah-v5", {}, 1.0),
    "ant_dir": Family("Ant-v5", {"observe_contacts": True}, 0.0),
    "humanoid_dir": Family("Humanoid-v5", {}, 0.0, 0.4),
    "walker_params": Family("Walker2d-v5", {}, 1.0),
    "hopper_params": Family("Hopper-v5", {}, 1.0),
}
BODIES = [name for name in FAMILIES if name.endswith("_params")]


@pytest.fixture
def originals() -> Iterator[Callable[[str], list[Any]]]:
    made: list[gymnasium.Env] = []

    def make_originals(env_id: str) -> list[Any]:
        with silence():
            made.extend(gymnasium.make(env_id).unwrapped for _ in range(LANES))
        return made

    yield make_originals
    for env in made:
        env.close()


def beside(env: TaskVectorEnv, originals: list[Any], steps: int, scale: float = 1.0) -> int:
    """Step both with random actions and random masked resets; the number of episodes that ended.

    What the original returns for a lane is repeated while that lane is frozen.
    """
    rng = np.random.default_rng(5)
    observation, _ = env.reset(seed=11)
    expected = np.stack([o.reset(seed=11 + lane)[0] for lane, o in enumerate(originals)])
    np.testing.assert_array_equal(observation, expected)
    over = np.zeros(LANES, dtype=bool)
    ended = 0
    for step in range(steps):
        actions = rng.uniform(-1.0, 1.0, (LANES, *env.single_action_space.shape))
        observation, reward, terminated, _, _ = env.step(actions)
        earned = np.zeros(LANES)
        for lane in np.flatnonzero(~over):
            expected[lane], earned[lane], over[lane], *_ = originals[lane].step(
                scale * actions[lane]
            )
        np.testing.assert_array_equal(observation, expected, f"step {step}")
        np.testing.assert_array_equal(reward, earned, f"step {step}")
        np.testing.assert_array_equal(terminated, over, f"step {step}")
        mask = (over & (rng.random(LANES) < 0.5)) | (rng.random(LANES) < 0.01)
        if mask.any():
            ended += int(mask.sum())
            seeds = rng.integers(2**60, size=LANES) if rng.random() < 0.5 else None
            observation, _ = env.reset(seed=seeds, options={"reset_mask": mask})
            for lane in np.flatnonzero(mask):
                seed = None if seeds is None else int(seeds[lane])
                expected[lane] = originals[lane].reset(seed=seed)[0]
            over &= ~mask
            np.testing.assert_array_equal(observation, expected)
    return ended


@pytest.mark.parametrize("steps", [120, pytest.param(1000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", FAMILIES)
def test_equals_gymnasium_bit_for_bit(
    name: str, steps: int, originals: Callable[[str], list[Any]]
) -> None:
    family = FAMILIES[name]
    env = make(name, LANES, horizon=steps + 1, num_threads=2, **family.params)
    env.set_tasks(np.full((LANES, env.task_distribution.dim), family.own_task))
    ended = beside(env, originals(family.id), steps, family.scale)
    assert ended >= 2, "the test is about masked resets, too"


@pytest.mark.parametrize("steps", [120, pytest.param(1000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", BODIES)
def test_a_body_of_its_own_equals_gymnasium_with_that_model(
    name: str, steps: int, originals: Callable[[str], list[Any]]
) -> None:
    env = make(name, LANES, horizon=steps + 1, num_threads=2)
    tasks = env.task_distribution.held_out()[:LANES]
    env.set_tasks(tasks)
    changed = originals(FAMILIES[name].id)
    for task, original in zip(tasks, changed, strict=True):
        change(original, dict(zip(env.task_distribution.columns, task, strict=True)))
    beside(env, changed, steps)


def change(original: Any, task: dict[str, float]) -> None:
    """Multiply the parameters of Gymnasium's model by the factors of their names."""
    model = original.model
    for name, factor in task.items():
        kind, _, rest = name.partition("_")
        if kind == "mass":
            model.body(rest).mass *= factor
        elif kind == "damping":
            model.joint(rest).damping *= factor
        elif kind == "inertia":
            model.body(rest[:-2]).inertia["xyz".index(rest[-1])] *= factor
        else:
            geom, _, axis = rest.rpartition("_")
            model.geom(geom).friction[["slide", "spin", "roll"].index(axis)] *= factor
    mujoco.mj_setConst(model, original.data)
    original.reset()


@pytest.mark.parametrize("name", ["ant_dir", "humanoid_dir"])
def test_contact_forces_are_there_and_cost(name: str) -> None:
    """MuJoCo leaves them at 0 unless it is asked for them, and then they cost nothing."""
    env: Any = make(name, 2, num_threads=1)
    env.reset(seed=0)
    assert not env._forces.any(), "as Gymnasium's, which has none at a reset"
    for _ in range(25):
        env.step(np.zeros((2, *env.single_action_space.shape)))
    weight = abs(env._forces[:, 1:, 5]).sum(axis=1)
    assert (weight > 1.0).all(), "it stands on the ground"
    reward = env._reward(np.zeros((2, 2)), np.zeros((2, env._model.nu)))
    env._forces[:] = 0.0
    assert (env._reward(np.zeros((2, 2)), np.zeros((2, env._model.nu))) > reward).all()


def test_plugins_of_another_mujoco_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their layout is written down by hand: a wrong one would crash, not raise."""
    monkeypatch.setattr(mujoco, "__version__", "5.0.0")
    with pytest.raises(ImportError, match=r"need MuJoCo 4.*MuJoCo 5\.0\.0 is installed"):
        contact_forces._register.__wrapped__()
