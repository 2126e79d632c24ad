"""Random numbers of many lanes at once, each a function of the lane's episode and of its purpose.

A generator's next number depends on all that were drawn before. These depend on nothing but a key
and an index, so that two agents which do the same at the same step of the same episode see the
same, whatever they did before, and a hundred thousand lanes cost one array operation.
"""

from __future__ import annotations

from abc import abstractmethod

import numpy as np
from numpy.typing import NDArray

from metarl.envs.vector import Floats, Lanes, TaskVectorEnv

Keys = NDArray[np.uint64]


def mixed(x: Keys) -> Keys:
    """Hashed 64-bit numbers, the finaliser of SplitMix64 (Steele et al. 2014)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def uniforms(keys: Keys, index: NDArray[np.integer]) -> Floats:
    """Numbers in (0, 1) by key and index >= 0, arrays that broadcast to each other."""
    # SplitMix64's own sequence: the state after so many steps of the golden ratio.
    state = keys + (index.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    top = mixed(state) >> np.uint64(11)
    return (top.astype(np.float64) + 0.5) * 2.0**-53


def normals(keys: Keys, index: NDArray[np.integer]) -> Floats:
    """Standard normal numbers by key and index (Box and Muller), from two uniform ones each."""
    radius = np.sqrt(-2.0 * np.log(uniforms(keys, 2 * index)))
    return radius * np.cos(2.0 * np.pi * uniforms(keys, 2 * index + 1))


class KeyedVectorEnv(TaskVectorEnv):
    """N lanes whose draws are computed from one key of each lane's episode.

    The key comes from the lane's own generator, so seeds mean what they do everywhere.
    """

    @abstractmethod
    def _start(self, lanes: Lanes) -> None:
        """Put these lanes into the initial state of their tasks; their keys are new."""

    def _reset_lanes(self, lanes: Lanes) -> None:
        if not hasattr(self, "_keys"):
            self._keys = np.zeros(self.num_envs, dtype=np.uint64)
        largest = np.iinfo(np.uint64).max
        self._keys[lanes] = [
            self._generator(lane).integers(largest, dtype=np.uint64) for lane in lanes.tolist()
        ]
        self._start(lanes)


def one_hot(index: NDArray[np.integer], size: int) -> Floats:
    """Rows [N, size] with a 1 at index [N]."""
    rows = np.zeros((len(index), size))
    rows[np.arange(len(index)), index] = 1.0
    return rows
