"""Random tabular MDPs: a few states and actions, transitions and rewards that are not known."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple

import numpy as np
from gymnasium import spaces
from numpy.typing import ArrayLike, NDArray

from metarl.envs import checks
from metarl.envs.discrete.lanes import (
    KeyedVectorEnv,
    mixed,
    normals,
    one_hot,
    uniforms,
)
from metarl.envs.discrete.pictures import MDPDrawing
from metarl.envs.discrete.psrl import PSRL, backward_induction
from metarl.envs.tasks import NUMBER, TaskDistribution, Tasks
from metarl.envs.vector import Bools, Floats, Lanes

PRIOR_MEAN = 1.0
"""Mean of the mean rewards, whose deviation is 1, as is that of the rewards around them."""

_NUM_VALIDATION, _NUM_HELD_OUT = 100, 200
_RESERVED = 1000  # numbers below are for evaluation sets, those drawn in training lie above
_LARGEST = 2**53  # numbers are exact in float64
_PURPOSE = 0x2545F4914F6CDD1D  # told apart from the keys of episodes
_MOST_NUMBERS = 1_000_000  # in the tables of an MDP, of which every task of a batch has its own
_TRANSITION = 2**32  # added to the indices of a step's draw, apart from those of rewards


class MDPNumbers(TaskDistribution):
    """MDPs by number: each integer in [0, 2^53) names one, drawn from the prior by that number.

    So a task is one number, whatever the size of its tables. Validation: 0 to 99; held-out: 100 to
    299; training draws lie above 1,000. Out of range there is nothing: the prior has every MDP.
    """

    columns = ("mdp",)
    units = (NUMBER,)

    def sample(self, rng: np.random.Generator, n: int) -> Tasks:
        return rng.integers(_RESERVED, _LARGEST, size=(n, 1)).astype(np.float64)

    def validation(self) -> Tasks:
        return np.arange(_NUM_VALIDATION, dtype=np.float64)[:, None]

    def held_out(self) -> Tasks:
        return _NUM_VALIDATION + np.arange(_NUM_HELD_OUT, dtype=np.float64)[:, None]

    def check(self, tasks: ArrayLike) -> Tasks:
        """As for every distribution; what is no number of an MDP is refused too."""
        checked = super().check(tasks)
        wrong = (checked < 0) | (checked >= _LARGEST) | (checked != np.floor(checked))
        if wrong.any():
            row = int(np.flatnonzero(wrong[:, 0])[0])
            raise ValueError(
                f"Task {row} is {checked[row].tolist()}: the number of an MDP must be an integer "
                "of at least 0 and below 2^53."
            )
        return checked


class Tables(NamedTuple):
    """n MDPs: transition probabilities [n, S, A, S'], mean rewards [n, S, A]."""

    transitions: Floats
    rewards: Floats


class TabularMDP(KeyedVectorEnv):
    """S states and A actions: s' ~ P(· | s, a), r ~ N(R(s, a), 1), T steps an episode from state 0.

    The task names an MDP of the prior, P(· | s, a) ~ Dirichlet(1, …, 1) and R(s, a) ~ N(1, 1), and
    is never observed; the observation is the state, one-hot. What happens at a step depends on the
    episode's seed and the step alone, so agents beside each other share their luck.

    Preset: `duan_2016` (Duan et al. 2016, section 3.2; the random MDPs of Osband et al. 2013), the
    defaults.

    Args:
        num_envs: Number of lanes N.
        states: S.
        actions: A.
        horizon: T, steps in an episode.

    Raises:
        ValueError: a parameter out of its range.
    """

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "duan_2016": {"states": 10, "actions": 5, "horizon": 10},
    }

    def __init__(
        self, num_envs: int, *, states: int = 10, actions: int = 5, horizon: int = 10
    ) -> None:
        states = checks.integer("states", states, 2, 1000)
        actions = checks.integer("actions", actions, 2, 1000)
        if (size := states**2 * actions) > _MOST_NUMBERS:
            raise ValueError(
                f"states is {states} and actions is {actions}: states² · actions, here {size:,}, "
                f"must be at most {_MOST_NUMBERS:,}."
            )
        super().__init__(
            num_envs,
            MDPNumbers(),
            horizon,
            spaces.Box(0.0, 1.0, (states,), np.float64),
            spaces.Discrete(actions),
        )
        self._states, self._actions = states, actions
        self._lanes = np.arange(self.num_envs)
        self._state = np.zeros(self.num_envs, dtype=np.intp)
        self._last = np.zeros((self.num_envs, 3))  # state, action, reward
        self._drawn = np.full(self.num_envs, -1.0)  # whose tables each lane has
        self._row = np.zeros(self.num_envs, dtype=np.intp)
        self._cumulative = np.zeros((0, states, actions, states))
        self._means = np.zeros((0, states, actions))

    def tables(self, tasks: ArrayLike) -> Tables:
        """The MDPs of tasks [n, 1]."""
        numbers = self.task_distribution.check(tasks)[:, 0].astype(np.uint64)
        keys = mixed(numbers + np.uint64(_PURPOSE))[:, None]  # [n, 1]
        pairs = self._states * self._actions
        index = np.arange(pairs * self._states)[None]
        # Dirichlet(1, ..., 1): exponential numbers over their sum.
        drawn = -np.log(uniforms(mixed(keys), index)).reshape(-1, pairs, self._states)
        drawn /= drawn.sum(axis=2, keepdims=True)
        rewards = PRIOR_MEAN + normals(mixed(keys + np.uint64(1)), np.arange(pairs)[None])
        shape = (len(numbers), self._states, self._actions)
        return Tables(drawn.reshape(*shape, self._states), rewards.reshape(shape))

    def optimal_returns(self, tasks: ArrayLike) -> Floats:
        """Expected return of the best policy that knows the MDP, by backward induction, [n]."""
        tables = self.tables(tasks)
        return backward_induction(*tables, self.horizon)[0][:, 0]

    def reference_agents(self, episodes: int) -> Mapping[str, Callable[[int], Any]]:
        """Posterior sampling, see :mod:`metarl.envs.discrete.psrl`."""
        size = (self._states, self._actions, self.horizon)
        return {"psrl": lambda seed: PSRL(*size, PRIOR_MEAN, seed)}

    # Episodes

    def _start(self, lanes: Lanes) -> None:
        if (self._drawn != self._tasks[:, 0]).any():
            self._draw_tables()
        self._state[lanes] = 0
        self._last[lanes] = -1.0, -1.0, 0.0

    def _draw_tables(self) -> None:
        """Of the tasks that lanes have, each once."""
        numbers, self._row = np.unique(self._tasks[:, 0], return_inverse=True)
        transitions, self._means = self.tables(numbers[:, None])
        self._cumulative = transitions.cumsum(axis=3)
        self._drawn = self._tasks[:, 0].copy()

    def _advance(self, actions: NDArray[Any], live: Bools | None) -> tuple[Floats, Bools | None]:
        row, state = self._row, self._state
        reward = self._means[row, state, actions] + normals(self._keys, self._steps)
        u = uniforms(self._keys, self._steps + _TRANSITION)
        following = (self._cumulative[row, state, actions] < u[:, None]).sum(axis=1)
        following = np.minimum(following, self._states - 1)  # the last sum is 1 but for rounding
        if live is not None:
            following = np.where(live, following, state)
        lanes = self._lanes if live is None else self._lanes[live]
        self._last[lanes] = np.stack([state, actions, reward], axis=1)[lanes]
        self._state = following
        return reward, None

    def _observe(self) -> Floats:
        return one_hot(self._state, self._states)

    # Pictures

    @property
    def render_fps(self) -> float | None:
        return 4.0

    def task_caption(self, task: Tasks) -> str:
        return f"MDP {task[0]:.0f}"

    def render_states(self, lanes: slice) -> Floats:
        """The state, the one before, the action that led here, and what it paid."""
        return np.concatenate([self._state[lanes, None], self._last[lanes]], axis=1)

    def renderer(self, width: int, height: int) -> MDPDrawing:
        return MDPDrawing(width, height, self._states)
