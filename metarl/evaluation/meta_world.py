"""An agent of ours, judged by Meta-World's own evaluator.

Their protocol (`metaworld.evaluation`): on every task of the test set the agent plays some episodes
to adapt, then some that count; each of these ends with the first success, or at the horizon.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from gymnasium.vector import VectorEnv, VectorWrapper

from metarl.envs.meta_world import metaworld
from metarl.types import Agent


class Judgement(NamedTuple):
    """What their evaluator says.

    Attributes:
        success: Share of the episodes that succeeded, the mean over the classes.
        mean_return: Of these episodes, which end with a success.
        success_by_class: The share of each class of environments, by its name.
    """

    success: float
    mean_return: float
    success_by_class: dict[str, float]


def metalearning_evaluation(  # noqa: PLR0913  # their evaluator's own
    agent_of: Callable[[int], Agent],
    benchmark: str,
    *,
    goals: int = 50,
    adaptation_steps: int = 1,
    adaptation_episodes: int = 10,
    evaluation_episodes: int = 3,
    horizon: int = 500,
    seed: int = 0,
) -> Judgement:
    """Judge an agent by `metaworld.evaluation.metalearning_evaluation`, on their test tasks.

    Each class of the test has one environment, in which one goal follows another. So all episodes
    that were asked for count: where several environments share a class, their evaluator takes the
    first that end, which are those that succeed early.

    Actions are drawn in the episodes to adapt, and the distribution's mode where it counts. An
    agent with a memory keeps it through all of them, and is told its rewards in all of them, as
    theirs is.

    Args:
        agent_of: Class's number ↦ an agent, such as ``lambda lane: run.agent(seed=lane)``.
        benchmark: ML10, ML25, ML45, or a class of environments for ML1.
        goals: Of each class, 50 at most in their benchmarks; after these they come again.
        adaptation_steps: Of an agent that adapts by gradients: rounds of episodes, each adapted to.
        adaptation_episodes: Of every goal, before those that count (and in each round).
        evaluation_episodes: Of every goal, that count.
        horizon: Steps of an episode.
        seed: Of the goals that their benchmark draws.

    Raises:
        BrokenContract: Meta-World is not installed.
    """
    package = metaworld()
    evaluation: Any = importlib.import_module("metaworld.evaluation")
    classes = (
        1 if benchmark in package.ALL_V3_ENVIRONMENTS else len(_test_classes(package, benchmark))
    )
    envs = package.make_ml_envs_test(
        benchmark, seed=seed, meta_batch_size=classes, max_episode_steps=horizon
    )
    lanes = [_Lane(agent_of(lane), adaptation_episodes) for lane in range(classes)]
    try:
        judged = evaluation.metalearning_evaluation(
            _Judged(lanes),
            _Witness(envs, lanes),
            num_evals=goals,
            adaptation_steps=adaptation_steps,
            adaptation_episodes=adaptation_episodes,
            evaluation_episodes=evaluation_episodes,
        )
    finally:
        envs.close()
    return Judgement(judged[0], judged[1], dict(judged[2]))


def _test_classes(package: Any, benchmark: str) -> Any:
    return getattr(package._env_dict, f"{benchmark}_V3")["test"]


class _Lane:
    """One of our agents in one environment of theirs, whose episodes follow each other unasked.

    An agent that adapts by gradients has a lane of its own for every episode of a round; one that
    remembers has a single one, on which a round is an episode.
    """

    def __init__(self, agent: Agent, episodes: int) -> None:
        self._agent = agent
        self._remembers = agent.adaptation_axis == "episode"
        self._width = 1 if self._remembers else episodes

    def begin(self) -> None:
        """A new task."""
        self._agent.begin(1, self._width)
        self._turn_to("stochastic")

    def act(self, observation: np.ndarray, mode: Any) -> np.ndarray:
        """The action [a] for an observation [o]."""
        if mode != self._agent.mode:
            self._turn_to(mode)
        active = np.arange(self._width) == self._episode
        seen = np.tile(observation, (1, self._width, 1))
        action = self._agent.act(seen, active[None])
        self._actions = action
        return np.clip(action[0, self._episode], -1.0, 1.0)

    def observe(self, reward: float, terminated: bool, truncated: bool, seen: np.ndarray) -> None:
        """What it brought, and what is seen then [o]."""
        turn = (np.arange(self._width) == self._episode)[None]  # [1, B]
        seen = np.tile(seen, (1, self._width, 1))
        self._agent.observe(self._actions, reward * turn, terminated & turn, truncated & turn, seen)
        if not (terminated or truncated):
            return
        if self._remembers:
            self._agent.adapt()
            return
        self._episode += 1
        if self._episode == self._width and self._agent.mode == "deterministic":
            self._turn_to("deterministic")  # what is measured is not learned from

    def adapt(self) -> None:
        """The episodes to adapt to are over; an agent that remembers has adapted with each."""
        if not self._remembers:
            self._agent.adapt()
            self._episode = 0

    def _turn_to(self, mode: Any) -> None:
        """Act in that mode from here on, in a round that begins anew."""
        self._agent.mode = mode
        self._episode = 0


class _Witness(VectorWrapper):
    """Lets our agents see all that happens: theirs are told no reward in what counts."""

    def __init__(self, env: VectorEnv, lanes: list[_Lane]) -> None:
        super().__init__(env)
        self._lanes = lanes

    def step(self, actions: Any) -> Any:
        observation, reward, terminated, truncated, info = self.env.step(actions)
        for i, lane in enumerate(self._lanes):
            over = bool(terminated[i] or truncated[i])
            seen = info["final_obs"][i] if over else observation[i]
            lane.observe(float(reward[i]), bool(terminated[i]), bool(truncated[i]), seen)
        return observation, reward, terminated, truncated, info

    def __getattr__(self, name: str) -> Any:
        return getattr(self.env, name)  # `call` and `get_attr`, which no wrapper has


class _Judged:
    """Their `MetaLearningAgent`; what happened it has from the witness."""

    def __init__(self, lanes: list[_Lane]) -> None:
        self._lanes = lanes

    def init(self) -> None:
        for lane in self._lanes:
            lane.begin()

    def adapt_action(self, observations: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        return self._actions(observations, "stochastic"), {}

    def step(self, timestep: Any) -> None:
        pass

    def adapt(self) -> None:
        for lane in self._lanes:
            lane.adapt()

    def eval_action(self, observations: np.ndarray) -> np.ndarray:
        return self._actions(observations, "deterministic")

    def reset(self, env_mask: np.ndarray) -> None:
        pass

    def _actions(self, observations: np.ndarray, mode: str) -> np.ndarray:
        pairs = zip(self._lanes, observations, strict=True)
        return np.stack([lane.act(observation, mode) for lane, observation in pairs])
