"""Trained references: stored safely, played as stable-baselines3 does, resumed, measured."""

from __future__ import annotations

import hashlib
import json
import pickle
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3.common.vec_env import VecMonitor, VecNormalize

from metarl.errors import UserError
from metarl.evaluation.plan import EvaluationPlan
from metarl.evaluation.protocol import evaluate
from metarl.random import Key
from metarl.references import storage
from metarl.references.per_task import PerTaskAgent
from metarl.references.policy import PolicyAgent, RandomAgent, ReferencePolicy
from metarl.references.ppo import make_training_ppo, normaliser_state, policy_state
from metarl.references.settings import PerTaskSettings, TrainingSettings
from metarl.references.storage import Definition
from metarl.references.training import ReferenceTraining, thin, train_reference
from metarl.references.vec_env import TaskVecEnv
from tests.spaces_envs import TASKS as SPACED_TASKS
from tests.spaces_envs import SpacedLanes
from tests.toy_envs import Arms, Line

LINE = Definition.of({"name": "tests.toy_envs:Line", "tasks": None, "horizon": 5})
SMALL = TrainingSettings(
    env_steps=400, lanes=8, minibatches=2, epochs=2, hidden_sizes=(8, 8), gamma=0.9
)


class Recorder:
    """Notes what a training reports, and asks it to stop after some rollouts."""

    def __init__(self, stop_after: int = 10**9) -> None:
        self.env_steps: list[int] = []
        self.stop: list[int] = []
        self._stop_after = stop_after

    def __call__(self, row: Mapping[str, Any]) -> None:
        self.env_steps.append(row["env_steps"])
        if len(self.env_steps) >= self._stop_after:
            self.stop.append(15)


def train(place: Path, progress: Recorder | None = None, **changes: Any) -> bool:
    recorder = progress or Recorder()
    training = replace(training_of(place), **changes)
    return train_reference(training, Line(8), recorder, recorder.stop)


def training_of(place: Path) -> ReferenceTraining:
    return ReferenceTraining(
        kind=place.name,  # type: ignore[arg-type]
        definition=LINE,
        settings=SMALL,
        seed=3,
        place=place,
        threads=1,
        circumstances={"versions": {}, "command": "python"},
    )


def refused(action: Any) -> str:
    with pytest.raises(UserError) as info:
        action()
    message = str(info.value)
    assert "\n" not in message
    assert message.endswith(".")
    return message


# --- storage ----------------------------------------------------------------------------------


def test_the_key_is_the_definition_and_not_the_preset_or_the_order() -> None:
    section = {"name": "half_cheetah_vel", "preset": "promp", "tasks": None, "horizon": 100}
    definition = Definition.of(section)
    assert definition.fields == {"name": "half_cheetah_vel", "tasks": None, "horizon": 100}
    assert definition.key.startswith("half_cheetah_vel-")
    assert Definition.of(dict(reversed(section.items()))).key == definition.key
    assert Definition.of(section | {"horizon": 200}).key != definition.key
    assert LINE.key.startswith("tests.toy_envs_Line-")


def test_a_parameter_at_its_default_changes_nothing() -> None:
    bare = Definition.of({"name": "half_cheetah_vel"})
    spelt = Definition.of({"name": "half_cheetah_vel", "tasks": None, "velocity_high": 3.0})
    assert bare.key == spelt.key
    assert bare.describes(spelt.fields)
    assert spelt.describes(bare.fields)
    assert not bare.describes(spelt.fields | {"velocity_high": 2.0})
    assert not bare.describes(spelt.fields | {"name": "half_cheetah_dir"})
    assert not bare.describes(None)


SHIPPED = sorted(storage.shipped_references().glob("*/*/*.json"))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: "/".join(path.parts[-3:]))
def test_what_is_shipped_lies_under_its_key(path: Path) -> None:
    definition = Definition.of(json.loads(path.read_text())["env"])
    assert path.parts[-3] == definition.key
    file = "/".join(path.parts[-2:])
    assert [found for found, _ in storage.stored(file, definition, [path.parents[2]])] == [path]


@pytest.fixture(scope="module")
def oracle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("references") / LINE.key / "oracle"
    assert train(place)
    return place


def place_of(kind: str, definition: Definition, folder: Path) -> Path | None:
    found = storage.find(kind, definition, [folder])
    return None if found is None else found.place


def test_a_trained_reference_tells_how_it_was_made(oracle: Path) -> None:
    told = storage.read_json(oracle / "reference.json")
    assert (told["kind"], told["seed"], told["sees_task"]) == ("oracle", 3, True)
    # 8 lanes × 5 steps a rollout: the budget is met to the rollout.
    assert (told["env_steps_budget"], told["env_steps"]) == (400, 400)
    assert told["settings"]["hidden_sizes"] == [8, 8]
    assert told["training_curve"]["rows"][-1][0] == 400
    assert sorted(path.name for path in oracle.parent.iterdir()) == ["oracle"]
    assert place_of("oracle", LINE, oracle.parents[1]) == oracle
    assert place_of("multitask", LINE, oracle.parents[1]) is None


def test_a_reference_is_found_by_what_it_is_of(oracle: Path, tmp_path: Path) -> None:
    """Under a key of an earlier release, and not for another environment."""
    shutil.copytree(oracle, tmp_path / "tests.toy_envs_Line-01234567" / "oracle")
    found = place_of("oracle", LINE, tmp_path)
    assert found == tmp_path / "tests.toy_envs_Line-01234567" / "oracle"
    shutil.copytree(oracle, tmp_path / LINE.key / "oracle")
    assert place_of("oracle", LINE, tmp_path) == tmp_path / LINE.key / "oracle"
    other = Definition.of(LINE.fields | {"horizon": 9})
    assert place_of("oracle", other, tmp_path) is None
    (found / "reference.json").write_text("{")  # beside the right one it hinders nobody
    assert place_of("oracle", LINE, tmp_path) is not None
    (tmp_path / LINE.key / "oracle" / "reference.json").write_text("{")
    assert "it is not JSON" in refused(lambda: place_of("oracle", LINE, tmp_path))


def test_a_reference_of_another_kind_is_refused(oracle: Path, tmp_path: Path) -> None:
    shutil.copytree(oracle, tmp_path / "multitask")
    assert "is of kind 'oracle'" in refused(lambda: storage.load(tmp_path / "multitask"))


class _Trap:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self.path,))


def test_a_pickle_is_refused_and_not_executed(oracle: Path, tmp_path: Path) -> None:
    """Also under a hash that fits."""
    for number, data in enumerate([pickle.dumps(_Trap(tmp_path / "hit")), b"PK\x03\x04 nonsense"]):
        place = tmp_path / str(number) / "oracle"
        place.mkdir(parents=True)
        told = json.loads((oracle / "reference.json").read_text())
        (place / "weights.pt").write_bytes(data)
        (place / "reference.json").write_text(json.dumps(told))
        assert "damaged or tampered" in refused(lambda: storage.load(place))  # noqa: B023
        told["sha256"] = hashlib.sha256(data).hexdigest()
        (place / "reference.json").write_text(json.dumps(told))
        assert "tensors and plain values" in refused(lambda: storage.load(place))  # noqa: B023
    assert not (tmp_path / "hit").exists()


@pytest.mark.parametrize("text", ["", "[]", '{"format": 2}', '{"format": 1, "kind": "oracle"}'])
def test_a_broken_description_gets_a_sentence(tmp_path: Path, text: str) -> None:
    (tmp_path / "reference.json").write_text(text)
    refused(lambda: storage.load(tmp_path))


def test_training_anew_replaces_the_whole(oracle: Path) -> None:
    before = storage.load(oracle).sha256
    storage.save(oracle, {"policy": {}}, {"kind": "oracle", "env": LINE.fields})
    assert storage.load(oracle).state == {"policy": {}}
    assert sorted(path.name for path in oracle.parent.iterdir()) == ["oracle"]
    assert train(oracle)
    assert storage.load(oracle).sha256 == before  # one seed, one policy


# --- training ---------------------------------------------------------------------------------


def test_an_interrupted_training_leaves_no_reference_and_goes_on(tmp_path: Path) -> None:
    place = tmp_path / "line" / "multitask"
    recorder = Recorder(stop_after=3)
    assert not train(place, recorder)
    assert sorted(path.name for path in place.parent.iterdir()) == ["multitask.training.pt"]
    kept = training_of(place).interrupted()
    assert kept is not None
    # Three rollouts of 40 were learned from; the steps of a fourth that was cut do not count.
    assert (kept["env_steps"], recorder.env_steps) == (120, [40, 80, 120])
    message = refused(lambda: train(place, settings=replace(SMALL, env_steps=800)))
    assert "--again" in message
    rest = Recorder()
    assert train(place, rest)
    assert rest.env_steps[0] == 160
    told = storage.read_json(place / "reference.json")
    assert (told["env_steps"], told["interruptions"]) == (400, 1)
    assert [row[0] for row in told["training_curve"]["rows"]] == list(range(40, 401, 40))
    assert not training_of(place).unfinished.exists()


def test_going_on_keeps_policy_optimiser_and_statistics(tmp_path: Path) -> None:
    """Stopped before its first new step, it keeps to the bit what it was given."""
    place = tmp_path / "line" / "oracle"
    train(place, Recorder(stop_after=2))
    before = training_of(place).interrupted()
    already = Recorder()
    already.stop.append(2)
    assert not train(place, already)
    after = training_of(place).interrupted()
    assert before is not None
    assert after is not None
    assert after["env_steps"] == 80
    for name, tensor in before["policy"].items():
        assert torch.equal(after["policy"][name], tensor)
    moments, kept = before["optimizer"]["state"], after["optimizer"]["state"]
    assert moments
    assert all(torch.equal(kept[i]["exp_avg"], moments[i]["exp_avg"]) for i in moments)
    assert after["obs_count"] >= before["obs_count"] > 80


def test_the_curve_is_short_and_keeps_its_end() -> None:
    rows = thin([(i, float(i)) for i in range(1, 1234)])
    assert len(rows) <= 100
    assert rows[-1] == [1233, 1233.0]


# --- playing ----------------------------------------------------------------------------------


LANES = {
    "continuous": Line(4),
    "discrete": Arms(4),
    "multi_discrete": SpacedLanes(4, "tuple", "multi_discrete"),
    "multi_binary": SpacedLanes(4, "image", "multi_binary"),
}


@pytest.mark.parametrize("env", LANES.values(), ids=LANES)
def test_a_stored_policy_acts_as_stable_baselines3_predicts(env: Any) -> None:
    settings = replace(SMALL, lanes=4, env_steps=40, activation="relu")
    inner = TaskVecEnv(env, Key(1), show_task=True)
    venv = VecNormalize(VecMonitor(inner), gamma=settings.gamma)
    model = make_training_ppo(settings, venv, env.horizon * 2, seed=5)
    model.learn(200)
    policy = ReferencePolicy.from_state(policy_state(model, normaliser_state(venv), settings))
    rng = np.random.default_rng(0)
    observation = rng.normal(size=(6, inner.observation_space.shape[0])) * 3.0  # type: ignore[index]
    venv.training = False
    expected, _ = model.predict(
        venv.normalize_obs(observation.astype(np.float32)), None, None, True
    )
    action = policy.act(observation, None).numpy()
    agent = PolicyAgent(policy, sees_task=False)
    agent.begin(6, 1)
    assert agent.act(observation[:, None], np.ones((6, 1), dtype=bool))[:, 0].shape == action.shape
    if policy.discrete:
        np.testing.assert_array_equal(action, expected)
    else:
        np.testing.assert_allclose(np.clip(action, -1, 1), expected, rtol=1e-5, atol=1e-6)
        assert np.ptp(expected) > 1e-3


@pytest.mark.parametrize("actions", ["multi_discrete", "multi_binary"])
def test_references_play_and_learn_from_images_with_several_choices(actions: str) -> None:
    """An oracle of pixels and task, random actions, and PPO on each task from a stored policy."""
    env, tasks = SpacedLanes(6, "image", actions), SPACED_TASKS.held_out()
    policies = {}
    for sees_task in (True, False):
        venv = VecNormalize(VecMonitor(TaskVecEnv(env, Key(1), show_task=sees_task)))
        model = make_training_ppo(SMALL, venv, 4, 1)
        policies[sees_task] = policy_state(model, normaliser_state(venv), SMALL)
    spaces = (env.single_observation_space, env.single_action_space)
    small = PerTaskSettings(hidden_sizes=(8,), batch_size=8)
    agents: list[Any] = [
        PolicyAgent(ReferencePolicy.from_state(policies[True]), sees_task=True),
        RandomAgent(spaces[1], Key(1, evaluation=True)),  # type: ignore[arg-type]
        PerTaskAgent(small, *spaces, "gradient_step", Key(1, evaluation=True)),  # type: ignore[arg-type]
        PerTaskAgent(small, *spaces, "episode", Key(1, evaluation=True), policies[False]),  # type: ignore[arg-type]
    ]
    plan = EvaluationPlan(split="held_out", episodes=2, adaptation_steps=1)
    for agent in agents:
        returns = evaluate(agent, env, tasks, plan).task_returns
        assert returns.shape == (2, 3)
        assert np.abs(returns[:, [0, 2]]).max() > 0


def test_stacked_policies_act_as_each_alone() -> None:
    policies = []
    for seed in (1, 2, 3):
        venv = VecNormalize(VecMonitor(TaskVecEnv(Line(2), Key(seed), show_task=False)))
        model = make_training_ppo(SMALL, venv, 5, seed)
        policies.append(
            ReferencePolicy.from_state(policy_state(model, normaliser_state(venv), SMALL))
        )
    observation = np.random.default_rng(0).normal(size=(3, 4, 2))
    noise = torch.from_numpy(np.random.default_rng(1).normal(size=(3, 4, 1)).astype(np.float32))
    stacked = ReferencePolicy.stack(policies).act(observation, noise)
    for m, policy in enumerate(policies):
        torch.testing.assert_close(stacked[m], policy.act(observation[m], noise[m]))


def test_the_evaluator_tells_only_the_oracle(oracle: Path) -> None:
    """The oracle's actions differ between two tasks, the multitask policy's cannot."""
    policy = ReferencePolicy.from_state(storage.load(oracle).state)
    tasks = np.array([[-0.9], [0.9]])
    observation = np.zeros((2, 1, 2))
    agent = PolicyAgent(policy, sees_task=True)
    agent.begin(2, 1, tasks)
    action = agent.act(observation, np.ones((2, 1), dtype=bool))
    assert action[0] != action[1]
    with pytest.raises(ValueError, match="task vectors"):
        agent.begin(2, 1)
    other = PolicyAgent(replace_observed(policy), sees_task=False)
    assert agent.privileged
    assert not other.privileged
    assert not RandomAgent.privileged
    other.begin(2, 1)
    action = other.act(observation, np.ones((2, 1), dtype=bool))
    assert action[0] == action[1]


def replace_observed(policy: ReferencePolicy) -> ReferencePolicy:
    """The same network without its input for the task."""
    (weight, bias), *rest = policy.layers
    layers = ((weight[:2], bias), *rest)
    return replace(policy, layers=layers, mean=policy.mean[:2], scale=policy.scale[:2])


def test_random_actions_are_uniform_and_repeat() -> None:
    env = Line(200)
    key = Key(0, evaluation=True)
    agent = RandomAgent(env.single_action_space, key)  # type: ignore[arg-type]
    agent.begin(10, 20)
    active = np.ones((10, 20), dtype=bool)
    actions = np.stack([agent.act(np.zeros((10, 20, 2)), active) for _ in range(50)])
    assert abs(actions.mean()) < 0.02
    assert abs(actions.var() - 1 / 3) < 0.01
    assert np.ptp(actions[:, 0].mean(axis=(0, 1))) < 1.0
    agent.begin(10, 20)
    np.testing.assert_array_equal(agent.act(np.zeros((10, 20, 2)), active), actions[0])
    arms = RandomAgent(Arms(1).single_action_space, key)  # type: ignore[arg-type]
    plan = EvaluationPlan("held_out", episodes=100, adaptation_steps=0)
    result = evaluate(arms, Arms(500), np.arange(5.0)[:, None], plan)
    assert abs(result.returns.mean() - 0.2) < 0.06


def test_a_reference_of_another_source_is_not_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One of a version that did not note the source is."""
    before = replace(LINE, fields=LINE.fields | {"source sha256": "0" * 64})
    assert before.key != LINE.key
    made = {"kind": "oracle", "env": before.fields}
    place = tmp_path / before.key / "oracle"
    storage.save(place, {}, made)
    assert storage.find("oracle", LINE, [tmp_path]) is None
    assert f"{place} is not used: tests.toy_envs:Line has changed" in capsys.readouterr().err
    assert storage.find("oracle", before, [tmp_path]) is not None
    unnoted = {name: v for name, v in LINE.fields.items() if name != "source sha256"}
    storage.save(tmp_path / f"{LINE.stem}-0" / "oracle", {}, made | {"env": unnoted})
    assert storage.find("oracle", LINE, [tmp_path]) is not None
