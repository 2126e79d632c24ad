"""n-way k-shot classification of images: from any folder in Omniglot's layout, or any dataset."""

from __future__ import annotations

import copy
import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from gymnasium import spaces
from numpy.typing import ArrayLike, NDArray

from metarl.envs import checks
from metarl.envs.importing import unknown
from metarl.envs.labelled_images import LabelledImages, images_of_folder
from metarl.envs.supervised import Examples, SupervisedTasks
from metarl.envs.tasks import NUMBER, TaskDistribution, Tasks
from metarl.errors import UserError

NUM_VALIDATION, NUM_HELD_OUT = 200, 600
TURNS = 4
"""A class of training and the same turned by 90°, 180° and 270°."""

Indices = NDArray[np.int64]
Share = tuple[str, ...] | int | None
"""Of the classes: those of these names or groups, so many of the others, or all that are left."""


class ClassSubsets(TaskDistribution):
    """A task is n distinct classes, by their indices; the classes of a split are in no other.

    Validation and held-out sets are 200 and 600 fixed tasks, or as many as there are.

    Args:
        ways: n.
        names: Of the C classes, in a fixed order.
        splits: Indices of the classes of training, validation and held_out.
        turns: Class c turned by k·90° is the class c + k·C, of training alone; k is below this.

    Raises:
        ValueError: two splits share a class, or one has too few.
    """

    def __init__(
        self, ways: int, names: Sequence[str], splits: Mapping[str, Indices], turns: int = 1
    ) -> None:
        self.columns = tuple(f"class_{k}" for k in range(1, ways + 1))
        self.units = (NUMBER,) * ways
        self.ways, self.splits, self.turns, self.num_classes = ways, splits, turns, len(names)
        of_class: dict[int, str] = {}
        for split, classes in splits.items():
            least = ways if split == "training" else ways + 1  # an evaluation needs several tasks
            if len(classes) < least:
                raise ValueError(
                    f"{split} has {len(classes)} classes: {ways}-way tasks need at least {least}."
                )
            for c in classes.tolist():
                if (other := of_class.setdefault(c, split)) != split:
                    raise ValueError(
                        f"{other} and {split} share the class {names[c]}: they must be disjoint."
                    )

    def sample(self, rng: np.random.Generator, n: int) -> Tasks:
        classes = self.splits["training"]
        chosen = np.stack([rng.choice(classes, self.ways, replace=False) for _ in range(n)])
        # Turned one by one, so that a class that looks the same when turned is in no task twice.
        turned = chosen + self.num_classes * rng.integers(self.turns, size=chosen.shape)
        return turned.astype(np.float64)

    def validation(self) -> Tasks:
        return self._fixed("validation", NUM_VALIDATION, seed=1)

    def held_out(self) -> Tasks:
        return self._fixed("held_out", NUM_HELD_OUT, seed=2)

    def _fixed(self, split: str, n: int, seed: int) -> Tasks:
        """Tasks that are the same in every run; none has the same classes as another."""
        classes = self.splits[split]
        rng = np.random.RandomState(seed)  # which no version of NumPy changes
        tasks: dict[frozenset[int], list[int]] = {}
        while len(tasks) < min(n, math.comb(len(classes), self.ways)):
            task = rng.permutation(classes)[: self.ways].tolist()
            tasks.setdefault(frozenset(task), task)
        return np.array(list(tasks.values()), dtype=np.float64)

    def check(self, tasks: ArrayLike) -> Tasks:
        """As for every distribution; entries that are no distinct classes are refused too."""
        checked = super().check(tasks)
        last = self.num_classes * self.turns - 1
        for row, task in enumerate(checked.tolist()):
            if len(set(task) & set(range(last + 1))) < self.ways:
                raise ValueError(
                    f"Task {row} is {task}: it must be {self.ways} different whole numbers from 0 "
                    f"to {last}."
                )
        return checked


class FewShotClassification(SupervisedTasks):
    """n-way k-shot classification of labelled images; a task is n of their classes.

    Args:
        images: The images, kept by all who are given them; the other arguments are explained at
            :class:`FewShotImages`, whose alphabets are what stands before the "/" of class names.

    Raises:
        ValueError: there are no such classes, too few, or one is in two splits.
    """

    measure = "accuracy"
    task_distribution: ClassSubsets

    def __init__(  # noqa: PLR0913  # they are a config's fields
        self,
        images: LabelledImages,
        ways: int = 5,
        shots: int = 1,
        *,
        training: Share = None,
        validation: Share,
        held_out: Share,
        rotations: bool = False,
        augment: bool = False,
    ) -> None:
        ways = checks.integer("ways", ways, 2)
        self.shots = checks.integer("shots", shots, 1)
        self.images = images
        self.data_hash = images.hash
        self.augment = checks.switch("augment", augment)
        turns = TURNS if checks.switch("rotations", rotations) else 1
        height, width = images.pixels.shape[2:]
        if rotations and height != width:
            raise ValueError(f"rotations need square images: these are of {height}×{width} pixels.")
        shares = {"training": training, "validation": validation, "held_out": held_out}
        splits = split_classes(images.names, shares)
        self.task_distribution = ClassSubsets(ways, images.names, splits, turns)
        self.input_space = spaces.Box(0.0, 1.0, images.pixels.shape[1:], np.float32)
        self.target_space = spaces.Discrete(ways)

    def with_ways(self, ways: int) -> FewShotClassification:
        """The same training tasks of another number of classes, of the same images.

        Raises:
            ValueError: training has fewer classes.
        """
        own = self.task_distribution
        training = {"training": own.splits["training"]}
        other = copy.copy(self)
        other.target_space = spaces.Discrete(ways)
        other.task_distribution = ClassSubsets(ways, self.images.names, training, own.turns)
        return other

    def class_name(self, index: int) -> str:
        """Of one entry of a task: ``Greek/character01``, perhaps turned."""
        turn, number = divmod(int(index), len(self.images.names))
        return self.images.names[number] + (f" turned by {90 * turn}°" if turn else "")

    def draw(
        self, tasks: Tasks, rngs: Sequence[np.random.Generator], queries: int
    ) -> tuple[Examples, Examples]:
        turn, number = np.divmod(tasks.astype(np.int64), len(self.images.names))  # [M, ways]
        counts, needed = self.images.counts[number], self.shots + queries
        if (counts < needed).any():
            few = number[counts < needed][0]
            raise UserError(
                f"{self.images.names[few]} has {self.images.counts[few]} images: {self.shots} of "
                f"the support set and {queries} of the query set (queries of training, episodes of "
                f"an evaluation) are {needed}."
            )
        chosen = [
            [rng.permutation(count)[:needed] for count in row]
            for rng, row in zip(rngs, counts, strict=True)
        ]
        rows = self.images.starts[number][..., None] + np.array(chosen)  # [M, ways, images]
        pixels = self.images.pixels[rows]  # [M, ways, images, channels, height, width]
        for k in np.unique(turn[turn > 0]).tolist():
            pixels[turn == k] = np.rot90(pixels[turn == k], k, axes=(-2, -1))
        sets = pixels[:, :, : self.shots], pixels[:, :, self.shots :]
        support, query = (_examples(images) for images in sets)
        return support, query


def _examples(pixels: NDArray[np.uint8]) -> Examples:
    """From ``[M, ways, images, channels, height, width]``, classes one after the other."""
    num_tasks, ways, number = pixels.shape[:3]
    inputs = pixels.reshape(num_tasks, ways * number, *pixels.shape[3:]).astype(np.float32)
    inputs /= 255.0
    targets = np.broadcast_to(np.arange(ways).repeat(number), (num_tasks, ways * number))
    return Examples(inputs, targets.copy())


class FewShotImages(FewShotClassification):
    """n-way k-shot classification of a folder's images, .../alphabet/character/image.png.

    That is Omniglot's layout (Lake et al. 2015), at any depth: the folder may hold its sets side by
    side. Presets: `omniglot_small`, alphabets of the two small background sets (89 held-out
    characters); `omniglot`, 1,100 characters of the whole for training, 100 for validation and 423
    held out, as the figures of papers have it.

    Args:
        data: The folder. Ink is dark there.
        ways: n, classes of a task.
        shots: k, support images of each.
        training: Characters of training tasks: a list of alphabets, or of characters such as
            Greek/character01; a number of characters, in an order that their names decide; or null
            for all others.
        validation: Of the validation tasks.
        held_out: Of the held-out tasks.
        size: Height and width that images are resized to, in pixels.
        rotations: Whether training has every character also turned by 90°, 180° and 270°, as a
            class of its own.
        augment: Whether training images are distorted, each in its own way.

    Raises:
        ValueError: there is no such folder, alphabet or character, or too few of them.
    """

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "omniglot_small": {
            "training": ("Greek", "Latin", "Korean", "Balinese"),
            "validation": ("Early_Aramaic", "Tagalog"),
            "held_out": ("Japanese_(katakana)", "Sanskrit"),
        },
        "omniglot": {"training": None, "validation": 100, "held_out": 423},
    }

    def __init__(  # noqa: PLR0913  # they are a config's fields
        self,
        data: str = "omniglot",
        ways: int = 5,
        shots: int = 1,
        training: Share = None,
        validation: Share = 100,
        held_out: Share = 423,
        size: int = 28,
        rotations: bool = True,
        augment: bool = True,
    ) -> None:
        shares = (training, validation, held_out)
        named = [name for share in shares if isinstance(share, list | tuple) for name in share]
        all_named = all(isinstance(share, list | tuple) for share in shares)
        # Then indices of classes do not depend on what else lies in the folder.
        alphabets = {name.partition("/")[0] for name in named} if all_named else None
        super().__init__(
            images_of_folder(data, checks.integer("size", size, 4), alphabets),
            ways,
            shots,
            training=training,
            validation=validation,
            held_out=held_out,
            rotations=rotations,
            augment=augment,
        )


def split_classes(names: Sequence[str], shares: Mapping[str, Share]) -> dict[str, Indices]:
    """Indices of the classes of every split; numbers count in the order of a hash of the names.

    Raises:
        ValueError: a name is of no class, or there are not so many classes.
    """
    chosen = {
        split: [i for name in share for i in _of_name(names, name, split)]
        for split, share in shares.items()
        if isinstance(share, list | tuple)
    }
    taken = {i for classes in chosen.values() for i in classes}
    others = sorted(
        set(range(len(names))) - taken,
        key=lambda i: hashlib.sha256(names[i].encode()).digest(),
    )
    for split, share in shares.items():
        if split in chosen or share is None:
            continue
        number = checks.integer(split, share, 1)
        if number > len(others):
            raise ValueError(f"{split} is {number}: there are {len(others)} other classes.")
        chosen[split], others = others[:number], others[number:]
    for split in shares.keys() - chosen.keys():
        chosen[split] = others
    return {split: np.array(sorted(chosen[split]), dtype=np.int64) for split in shares}


def _of_name(names: Sequence[str], name: str, split: str) -> list[int]:
    """The classes of this name or group."""
    found = [i for i, known in enumerate(names) if known == name or known.startswith(f"{name}/")]
    if not found:
        groups = sorted({known.partition("/")[0] for known in names})
        raise ValueError(unknown(f"class or group of {split}", name, groups, "there are"))
    return found
