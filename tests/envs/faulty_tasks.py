"""Task distributions with one fault each, as users write them."""

# mypy: ignore-errors

from __future__ import annotations

import sys

import numpy as np

from metarl.envs import TaskDistribution


class Masses(TaskDistribution):
    """Nothing is wrong with this one."""

    columns, units = ("mass",), ("kg",)

    def sample(self, rng, n):
        return rng.uniform(size=(n, 1))

    def validation(self):
        return [[0.25], [0.75]]

    def held_out(self):
        return [[0.1], [0.5]]


class NoColumns(Masses):
    columns = None


class OneText(Masses):
    columns = "mass"


class SameNames(Masses):
    columns, units = ("mass", "mass"), ("kg", "kg")


class MoreUnits(Masses):
    units = ("kg", "m")


class SampleRaises(Masses):
    def sample(self, rng, n):
        return rng.uniform(size=n) / self.scale


class SampleExits(Masses):
    def sample(self, rng, n):
        sys.exit("no tasks")


class SampleOne(Masses):
    def sample(self, rng, n):
        return rng.uniform(size=(1, 1))


class SampleFlat(Masses):
    def sample(self, rng, n):
        return rng.uniform(size=n)


class SampleNan(Masses):
    def sample(self, rng, n):
        return np.full((n, 1), np.nan)


class SampleWithout(Masses):
    def sample(self):
        return np.zeros((2, 1))


class SampleText(Masses):
    def sample(self, rng, n):
        return [["heavy"]] * n


class SampleRagged(Masses):
    def sample(self, rng, n):
        return [[1.0], [1.0, 2.0]]


class ValidationOne(Masses):
    def validation(self):
        return [[0.25]]


class ValidationNone(Masses):
    def validation(self):
        pass


class ValidationEmpty(Masses):
    def validation(self):
        return np.zeros((0, 1))


class HeldOutTwice(Masses):
    def held_out(self):
        return [[0.1], [0.5], [0.1]]


class HeldOutWide(Masses):
    def held_out(self):
        return np.zeros((4, 2))


class HeldOutMoves(Masses):
    def held_out(self):
        return np.random.uniform(size=(4, 1))  # noqa: NPY002


class Overlap(Masses):
    def held_out(self):
        return [[0.1], [0.75]]


class LateNan(Masses):
    """Sound at first."""

    def sample(self, rng, n):
        return np.full((n, 1), np.nan if n > 2 else 1.0)


class BuildExits(Masses):
    def __init__(self):
        sys.exit()


class BuildNeeds(Masses):
    def __init__(self, low):
        pass
