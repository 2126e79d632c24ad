"""Bandits: arms whose mean rewards are not known, one of which is pulled at each step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal

import numpy as np
from gymnasium import spaces
from numpy.typing import ArrayLike, NDArray

from metarl.envs import checks
from metarl.envs.discrete import bandit_agents, exact_bandit
from metarl.envs.discrete.lanes import KeyedVectorEnv, normals, uniforms
from metarl.envs.discrete.pictures import BanditDrawing
from metarl.envs.tasks import TaskDistribution, Tasks
from metarl.envs.vector import Bools, Floats, Lanes

Rewards = Literal["bernoulli", "gaussian"]

_NUM_VALIDATION, _NUM_HELD_OUT = 200, 1000
_LINE_LANES = 100  # of each task, over which the Gittins agent's returns are averaged
# What evaluation sets are drawn by; written down, so that no version of a library moves them.
_VALIDATION, _HELD_OUT, _OUT_OF_RANGE, _LINE = 0x1C8B5A37, 0x6F02D9E4, 0x35E7A81B, 0x59B3F6C2
_SHIFT = 3.0  # of out-of-range means, in deviations of the training ones


class ArmMeans(TaskDistribution):
    """The mean reward of each of k arms: U[0, 1] of Bernoulli arms, N(0, 1) of Gaussian ones.

    200 validation and 1,000 held-out tasks are independent draws, to four decimals: what a bandit
    earns varies so much from task to task that fewer would hide the differences between agents.
    Out of range: Gaussian arms whose means are N(3, 1); Bernoulli arms have none.

    Args:
        arms: k.
        rewards: bernoulli or gaussian.
    """

    def __init__(self, arms: int, rewards: Rewards) -> None:
        self.arms, self.rewards = arms, rewards
        self.columns = tuple(f"arm_{arm}" for arm in range(1, arms + 1))
        self.units = ("",) * arms

    def sample(self, rng: np.random.Generator, n: int) -> Tasks:
        size = (n, self.arms)
        return rng.uniform(size=size) if self._bernoulli else rng.standard_normal(size)

    def validation(self) -> Tasks:
        return self._fixed(_NUM_VALIDATION, _VALIDATION)

    def held_out(self) -> Tasks:
        return self._fixed(_NUM_HELD_OUT, _HELD_OUT)

    def out_of_range(self) -> Tasks:
        if self._bernoulli:
            return super().out_of_range()
        return self._fixed(_NUM_HELD_OUT, _OUT_OF_RANGE) + _SHIFT

    def check(self, tasks: ArrayLike) -> Tasks:
        """As for every distribution; means of Bernoulli arms outside [0, 1] are refused too."""
        checked = super().check(tasks)
        if self._bernoulli and ((checked < 0.0) | (checked > 1.0)).any():
            row = int(np.flatnonzero(((checked < 0.0) | (checked > 1.0)).any(axis=1))[0])
            raise ValueError(
                f"Task {row} is {checked[row].tolist()}: the mean rewards of Bernoulli arms must "
                "be in [0, 1]."
            )
        return checked

    @property
    def _bernoulli(self) -> bool:
        return self.rewards == "bernoulli"

    def _fixed(self, n: int, name: int) -> Tasks:
        keys = np.full((n, self.arms), name, dtype=np.uint64)
        draw = uniforms if self._bernoulli else normals
        return draw(keys, np.arange(n * self.arms).reshape(n, -1)).round(4)


class Bandit(KeyedVectorEnv):
    """k arms, n pulls in an episode: the arm a pays r ~ Bernoulli(μ_a), or r ~ N(μ_a, 1).

    The task is the vector of means μ, μ_a ~ U[0, 1] (Bernoulli) or N(0, 1) (Gaussian), which is
    never observed: the observation is the constant 0. In one episode an agent with a memory
    explores and exploits; a trial may have more. What a pull pays is a function of the episode's
    seed and of the step, so agents beside each other that pull the same arm are paid the same.

    Presets: `duan_2016` (Duan et al. 2016, section 3.1), the defaults, 5 arms and 10 pulls, beside
    which that paper has up to 50 arms and 500 pulls; `wang_2016` (Wang et al. 2016, section 3.1.1,
    independent arms), 2 arms and 100 pulls. The Gaussian bandit is nobody's in particular: prior
    and noise have the deviation 1.

    Args:
        num_envs: Number of lanes N.
        arms: k.
        pulls: n, of an episode.
        rewards: bernoulli or gaussian.

    Raises:
        ValueError: a parameter out of its range.
    """

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "duan_2016": {"arms": 5, "pulls": 10, "rewards": "bernoulli"},
        "wang_2016": {"arms": 2, "pulls": 100, "rewards": "bernoulli"},
    }

    def __init__(
        self,
        num_envs: int,
        *,
        arms: int = 5,
        pulls: int = 10,
        rewards: Rewards = "bernoulli",
    ) -> None:
        arms = checks.integer("arms", arms, 2, 1000)
        checks.choice("rewards", rewards, ("bernoulli", "gaussian"))
        super().__init__(
            num_envs,
            ArmMeans(arms, rewards),
            checks.integer("pulls", pulls, 1),
            spaces.Box(0.0, 1.0, (1,), np.float64),
            spaces.Discrete(arms),
        )
        self._arms, self._rewards = arms, rewards
        self._lanes = np.arange(self.num_envs)
        self._pulls = np.zeros((self.num_envs, arms))
        self._last = np.zeros((self.num_envs, 2))  # arm and reward

    # What can be earned

    def optimal_returns(self, tasks: ArrayLike) -> Floats:
        """Expected return of pulling the best arm n times, [n] for tasks [n, k]."""
        return self.horizon * self.task_distribution.check(tasks).max(axis=1)

    def bayes_optimal_returns(self, tasks: ArrayLike, episodes: int) -> Floats | None:
        """Expected return of the Bayes-optimal agent, or of a lower bound of it.

        Few pulls of Bernoulli arms are planned by dynamic programming, and the returns on each task
        are exact. Else it is the agent that pulls the arm of the largest finite-horizon Gittins
        index, near the optimum and a lower bound of it; its returns are means over 100 episodes a
        task with noise of their own.

        Args:
            tasks: [n, k].
            episodes: K, of a trial.

        Returns:
            In each episode of the trial, [K, n]; None for trials of more than 200 pulls.
        """
        means, pulls = self.task_distribution.check(tasks), self.horizon * episodes
        plan = self._plan(pulls)
        if plan is not None:
            rewards = exact_bandit.planned_rewards(plan, means)  # [pulls, n]
            return rewards.reshape(episodes, self.horizon, -1).sum(axis=1)
        if pulls > exact_bandit.MOST_INDEXED_PULLS:
            return None
        agent = self._gittins(pulls)
        keys = np.full((len(means), _LINE_LANES), _LINE, dtype=np.uint64)
        first = np.arange(keys.size).reshape(keys.shape) * pulls
        agent.begin(*keys.shape)
        returns = np.zeros((episodes, len(means)))
        for t in range(pulls):
            arm = agent.act(np.zeros((*keys.shape, 1)), np.ones(keys.shape, dtype=bool))
            reward = self._paid(np.take_along_axis(means, arm, axis=1), keys, first + t)
            agent.learn(arm, reward, np.ones(keys.shape, dtype=bool))
            returns[t // self.horizon] += reward.mean(axis=1)
        return returns

    def reference_agents(self, episodes: int) -> Mapping[str, Callable[[int], Any]]:
        """Thompson sampling, UCB1, and the Bayes-optimal agent or, where that is not, Gittins'.

        See :mod:`metarl.envs.discrete.bandit_agents`.
        """
        arms, gaussian, pulls = self._arms, self._rewards == "gaussian", self.horizon * episodes
        agents: dict[str, Callable[[int], Any]] = {
            "thompson": lambda seed: bandit_agents.Thompson(arms, gaussian, seed),
            "ucb1": lambda seed: bandit_agents.UCB1(arms),
        }
        if (plan := self._plan(pulls)) is not None:
            agents["bayes_optimal"] = lambda seed: bandit_agents.Planned(arms, plan)
        elif pulls <= exact_bandit.MOST_INDEXED_PULLS:
            agents["gittins"] = lambda seed: self._gittins(pulls)
        return agents

    def _plan(self, pulls: int) -> NDArray[np.intp] | None:
        if self._rewards == "gaussian":
            return None
        return exact_bandit.bayes_optimal_plan(self._arms, pulls)

    def _gittins(self, pulls: int) -> bandit_agents.Gittins:
        return bandit_agents.Gittins(self._arms, pulls, self._rewards == "gaussian")

    # Episodes

    def _start(self, lanes: Lanes) -> None:
        self._pulls[lanes] = 0.0
        self._last[lanes] = -1.0, 0.0

    def _advance(self, actions: NDArray[Any], live: Bools | None) -> tuple[Floats, Bools | None]:
        reward = self._paid(self._tasks[self._lanes, actions], self._keys, self._steps)
        lanes = self._lanes if live is None else self._lanes[live]
        self._pulls[lanes, actions[lanes]] += 1.0
        self._last[lanes, 0], self._last[lanes, 1] = actions[lanes], reward[lanes]
        return reward, None

    def _paid(self, mean: Floats, keys: NDArray[np.uint64], index: NDArray[np.integer]) -> Floats:
        """What arms of these means pay, by the keys of episodes and the steps therein."""
        if self._rewards == "gaussian":
            return mean + normals(keys, index)
        return (uniforms(keys, index) < mean).astype(np.float64)

    def _observe(self) -> Floats:
        return np.zeros((self.num_envs, 1))

    # Pictures

    @property
    def render_fps(self) -> float | None:
        return 4.0

    def task_caption(self, task: Tasks) -> str:
        best = int(task.argmax())
        return f"best: arm {best + 1}, {task[best]:.2f} a pull"

    def render_states(self, lanes: slice) -> Floats:
        """The means of the arms, how often each was pulled, the last arm and what it paid."""
        return np.concatenate([self._tasks[lanes], self._pulls[lanes], self._last[lanes]], axis=1)

    def renderer(self, width: int, height: int) -> BanditDrawing:
        return BanditDrawing(width, height, self._arms, self.horizon)
