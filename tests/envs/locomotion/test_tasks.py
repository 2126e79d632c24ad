"""Rewards by their formula, distributions, presets and captions of the locomotion tasks."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from metarl.envs import GoalRegion, SimulationFailure, make
from metarl.envs.locomotion.models import load_model
from metarl.envs.locomotion.mujoco_vector import recent_velocity
from metarl.envs.locomotion.random_parameters import BodyParameters

LANES = 4


def stepped(name: str, tasks: Any, steps: int = 6, **params: Any) -> tuple[Any, np.ndarray, Any]:
    """An environment after some steps, the velocity of its place, and the last step's reward."""
    env: Any = make(name, LANES, num_threads=1, **params)
    env.set_tasks(tasks)
    env.reset(seed=0)
    reward = None
    before = env._place().copy()
    for actions in np.random.default_rng(0).uniform(-1, 1, (steps, LANES, env._model.nu)):
        before = env._place().copy()
        reward = env.step(actions)[1]
        env.last_actions = actions
    return env, (env._place() - before) / env._dt, reward


def contact_cost(env: Any) -> np.ndarray:
    return 5e-4 * (np.clip(env._batch.bind("cfrc_ext"), -1, 1) ** 2).sum(axis=(1, 2))


def test_ant_velocity() -> None:
    targets = np.linspace(0.0, 3.0, LANES)
    env, velocity, reward = stepped("ant_vel", targets[:, None])
    control = 0.005 * (env.last_actions**2).sum(axis=1)
    expected = 1.05 - abs(velocity[:, 0] - targets) - control - contact_cost(env)
    np.testing.assert_allclose(reward, expected, rtol=1e-12)


def test_ant_direction_pays_for_the_velocity_along_it() -> None:
    angles = np.array([0.0, math.pi / 2, math.pi, 4.0])
    env, velocity, reward = stepped("ant_dir", angles[:, None])
    along = [velocity[0, 0], velocity[1, 1], -velocity[2, 0]]
    along.append(velocity[3] @ [math.cos(4.0), math.sin(4.0)])
    control = 0.5 * (env.last_actions**2).sum(axis=1)
    np.testing.assert_allclose(reward, np.array(along) + 1.0 - control - contact_cost(env))


def test_an_ant_on_its_way_to_a_goal_never_falls() -> None:
    goals = np.array([[1.0, 2.0], [-1.0, 0.5], [0.0, -3.0], [2.0, 0.0]])
    env, _, reward = stepped("ant_goal", goals)
    torso = env._batch.bind("xpos")[:, 1, :2]
    control = 0.1 * (env.last_actions**2).sum(axis=1)
    distance = abs(torso - goals).sum(axis=1)
    np.testing.assert_allclose(reward, -distance - control - contact_cost(env), rtol=1e-12)
    env._qpos[:, 2] = 5.0
    observation, _, terminated, *_ = env.step(np.zeros((LANES, 8)))
    assert not terminated.any()
    np.testing.assert_array_equal(observation[:, :2], env._qpos[:, :2])


def test_a_humanoid_walks_in_its_direction() -> None:
    angles = np.array([0.5, math.pi / 2, math.pi, 4.0])
    env, velocity, reward = stepped("humanoid_dir", angles[:, None])
    along = velocity[:, 0] * np.cos(angles) + velocity[:, 1] * np.sin(angles)
    control = 0.1 * ((0.4 * env.last_actions) ** 2).sum(axis=1)
    force = (env._batch.bind("cfrc_ext") ** 2).sum(axis=(1, 2))
    contacts = np.minimum(5e-7 * force, 10.0)
    np.testing.assert_allclose(reward, 1.25 * along + 5.0 - control - contacts, rtol=1e-10)
    mass = env._model.body_mass[:, None]
    centre = (mass * env._batch.bind("xipos")[0]).sum(axis=0) / mass.sum()
    np.testing.assert_allclose(env._place()[0], centre[:2])


@pytest.mark.parametrize("name", ["walker_vel", "hopper_vel"])
def test_a_fall_ends_the_episode_and_is_not_paid_for(name: str) -> None:
    targets = np.linspace(0.0, 2.0, LANES)
    env, velocity, reward = stepped(name, targets[:, None], healthy_reward=7.0)
    control = 1e-3 * (env.last_actions**2).sum(axis=1)
    np.testing.assert_allclose(reward, 7.0 - abs(velocity - targets) - control, rtol=1e-12)
    env._qpos[1, 2] = 1.5  # an angle at which nothing stands
    x = env._qpos[:, 0].copy()
    _, reward, terminated, *_ = env.step(np.zeros((LANES, env._model.nu)))
    assert terminated.tolist() == [False, True, False, False]
    velocity = (env._qpos[:, 0] - x) / 0.008
    assert reward[1] == pytest.approx(-abs(velocity[1] - targets[1]), abs=1e-12)


def test_directions() -> None:
    any_angle = make("ant_dir", 1).task_distribution
    drawn = any_angle.sample(np.random.default_rng(0), 1000)
    assert 0.0 <= drawn.min() < 0.1
    assert 6.2 < drawn.max() <= 2 * math.pi
    with pytest.raises(ValueError, match="nothing out of range"):
        any_angle.out_of_range()
    for preset, angles in (("varibad", [-1.0, 1.0]), ("pearl", [0.0, math.pi])):
        tasks = make("ant_dir", 1, preset=preset).task_distribution
        assert tasks.held_out()[:, 0].tolist() == angles
    with pytest.raises(ValueError, match="directions is 'north': it must be one of any, forward_b"):
        make("humanoid_dir", 1, directions="north")


def test_goals_fill_a_disc_evenly() -> None:
    disc = make("ant_goal", 1).task_distribution
    assert isinstance(disc, GoalRegion)
    drawn = disc.sample(np.random.default_rng(0), 4000)
    for goals, tolerance in ((drawn, 0.03), (disc.held_out(), 0.06), (disc.validation(), 0.08)):
        distance = np.hypot(*goals.T)
        assert distance.max() <= 3.0
        # A quarter of the area lies within half the radius, and a half on each side of an axis.
        assert abs((distance < 1.5).mean() - 0.25) < tolerance
        assert abs((goals > 0.0).mean(axis=0) - 0.5).max() < tolerance
        assert disc.contains(goals).all()
    beyond = np.hypot(*disc.out_of_range().T)
    assert 3.0 < beyond.min() < beyond.max() < 6.0
    assert not disc.contains(disc.out_of_range()).any()


def test_body_parameters() -> None:
    bodies = make("walker_params", 1).task_distribution
    assert isinstance(bodies, BodyParameters)
    kinds = [column.partition("_")[0] for column in bodies.columns]
    # Seven bodies; a floor and seven geoms; six joints with damping (the root's three have none).
    counted = {kind: kinds.count(kind) for kind in kinds}
    assert counted == {"mass": 7, "inertia": 21, "friction": 24, "damping": 6}
    assert len(set(bodies.columns)) == bodies.dim == 58
    assert {"mass_torso", "inertia_foot_left_y", "friction_floor_slide"} <= set(bodies.columns)
    drawn = bodies.sample(np.random.default_rng(0), 500)
    damping = np.array(kinds) == "damping"
    for factors, base in ((drawn[:, damping], 1.3), (drawn[:, ~damping], 1.5)):
        powers = np.log(factors) / math.log(base)
        assert -3.0 <= powers.min() < -2.99
        assert 2.99 < powers.max() <= 3.0
        assert abs(powers.mean()) < 0.1
    assert bodies.held_out().shape == (40, 58)
    assert not np.isin(bodies.held_out(), bodies.validation()).any()
    np.testing.assert_array_equal(bodies.held_out(), bodies.held_out())
    assert bodies.held_out()[0, 0] == pytest.approx(0.85580647968, rel=1e-9)  # for good
    powers = np.log(bodies.out_of_range()[:, ~damping]) / math.log(1.5)
    assert 3.9 < abs(powers).max() <= 4.0
    task = np.ones((1, 58))
    task[0, 3] = -1.0
    with pytest.raises(ValueError, match="Task 0 has the factor -1 as its mass_foot: it must be a"):
        bodies.check(task)


def test_a_lane_takes_its_body_at_its_own_next_reset() -> None:
    env: Any = make("hopper_params", 2, num_threads=1)
    base = load_model("hopper.xml").body_mass[1]
    first, second = env.task_distribution.held_out()[:2]
    env.set_tasks([first, first])
    env.reset(seed=0)
    env.set_tasks([second, second])
    env.reset(options={"reset_mask": np.array([False, True])})
    masses = env._batch.expanded("body_mass")[:, 1] / base
    np.testing.assert_allclose(masses, [first[0], second[0]])
    # As if it had never had another one: what derives from the body follows.
    new: Any = make("hopper_params", 2, num_threads=1)
    new.set_tasks([second, second])
    new.reset(seed=0)
    for field in ("body_mass", "body_inertia", "body_subtreemass", "dof_invweight0", "dof_damping"):
        mine, other = env._batch.expanded(field), new._batch.expanded(field)
        np.testing.assert_array_equal(mine[1], other[1])
        assert (mine[0] != other[0]).any()


def test_a_body_that_diverges_is_told_in_few_words() -> None:
    env: Any = make("hopper_params", 2, num_threads=1)
    env.reset(seed=0)
    env._qvel[1, 1] = 1e12
    sentence = (
        r"HopperParams failed in lane 1 \(task: mass ×.{4}, friction ×.{4}, damping ×.{4}\) at"
    )
    with pytest.raises(SimulationFailure, match=sentence):
        env.step(np.zeros((2, 3)))
    with pytest.raises(
        ValueError, match="log_scale_limit is 0: it must be a finite number above 0"
    ):
        make("hopper_params", 1, log_scale_limit=0)


def test_models_are_shared_and_never_changed() -> None:
    model = load_model("hopper.xml")
    mass = model.body_mass.copy()
    env = make("hopper_params", 2, num_threads=1)
    env.set_tasks(env.task_distribution.held_out()[:2])
    env.reset(seed=0)
    env.step(np.zeros((2, 3)))
    assert load_model("hopper.xml") is model
    np.testing.assert_array_equal(model.body_mass, mass)


def test_what_is_observed() -> None:
    def size(name: str, **params: Any) -> int:
        return make(name, 1, **params).reset(seed=0)[0].shape[1]

    assert size("ant_dir") == size("ant_vel") == 27
    assert size("ant_goal") == 29
    assert size("ant_goal", preset="varibad") == size("ant_goal", preset="pearl") == 29 + 78
    assert (size("humanoid_dir"), size("walker_vel"), size("hopper_vel")) == (348, 17, 11)


def test_captions() -> None:
    def caption(name: str, *task: float) -> str:
        return make(name, 1).task_caption(np.array(task))

    assert caption("ant_vel", 1.5) == "target speed 1.50 m/s"
    assert caption("ant_dir", math.pi / 2) == "direction 90°"
    assert caption("ant_goal", 1.0, -2.0) == "goal (1.0, −2.0) m"
    bodies = make("walker_params", 1)
    task = np.ones(58)
    task[:7] = 2.0
    assert bodies.task_caption(task) == "mass ×2.00, friction ×1.00, damping ×1.00"


def test_the_speed_in_a_caption_is_the_mean_of_half_a_second() -> None:
    x = np.concatenate([np.zeros(11), np.arange(1, 21) * 0.1])  # stands 0.5 s, then 2 m/s
    for t, expected in ((0, 0.0), (10, 0.0), (15, 1.0), (30, 2.0)):
        assert recent_velocity(x[: t + 1], 20.0) == pytest.approx(expected)
        both = recent_velocity(np.stack([-x, x], axis=1)[: t + 1], 20.0)
        assert both == pytest.approx([-expected, expected])


def test_captions_say_how_it_moves() -> None:
    def moved(name: str, task: list[float], *ends: float) -> str:
        env: Any = make(name, 1, num_threads=1)
        states = np.repeat(env.render_states(slice(0, 1)), 2, axis=0)
        states[1, : len(ends)] += ends
        return env.motion_caption(states, np.array(task))

    assert moved("half_cheetah_vel", [1.0], -0.1) == "actual speed −2.00 m/s"
    assert moved("ant_dir", [math.pi / 2], 5.0, 0.1) == "actual speed 2.00 m/s"
    assert moved("humanoid_dir", [math.pi], -0.03) == "actual speed 2.00 m/s"
    assert moved("ant_goal", [3.0, 1.0], 0.0, 5.0) == "5.0 m from it"
