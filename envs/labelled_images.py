"""Images of many classes in memory, once: from a folder in Omniglot's layout or from a dataset."""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from metarl.envs.importing import unknown

WHERE = (
    "Omniglot's images are to be had from https://github.com/brendenlake/omniglot, or by "
    "torchvision.datasets.Omniglot"
)
_SUFFIXES = (".png", ".jpg", ".jpeg")

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class LabelledImages:
    """The images of C classes, one class after the other.

    Attributes:
        names: Of the classes, sorted; where they stand in groups, "group/class".
        pixels: uint8 ``[n, channels, height, width]``.
        starts: The row of each class's first image, and the number of rows, ``[C + 1]``.
    """

    names: tuple[str, ...]
    pixels: Pixels
    starts: NDArray[np.int64]

    @classmethod
    def of(cls, classes: Mapping[str, Pixels]) -> LabelledImages:
        """From the images of every class, uint8 ``[n, channels, height, width]``."""
        names = tuple(sorted(classes))
        counts = [len(classes[name]) for name in names]
        pixels = np.concatenate([classes[name] for name in names])
        return cls(names, pixels, np.cumsum([0, *counts]))

    @property
    def counts(self) -> NDArray[np.int64]:
        """How many images each class has, ``[C]``."""
        return np.diff(self.starts)

    @property
    def hash(self) -> str:
        """SHA-256 of names and pixels."""
        parts = (repr(self.names).encode(), self.starts.tobytes(), self.pixels.tobytes())
        return hashlib.sha256(b"\0".join(parts)).hexdigest()


def images_of_dataset(dataset: Any) -> LabelledImages:
    """The images of a dataset in PyTorch's manner, read once.

    Args:
        dataset: Has a length, and at each index an image and its label: a PIL image, or an array or
            tensor ``[height, width]`` or ``[channels, height, width]``, uint8 or within [0, 1].

    Raises:
        ValueError: there are none, an image is something else, or they differ in shape.
    """
    classes: dict[Any, list[Pixels]] = {}
    shape: tuple[int, ...] | None = None
    for index in range(len(dataset)):
        image, label = dataset[index]
        pixels = _pixels(image, index)
        if pixels.shape != (shape := shape or pixels.shape):
            raise ValueError(
                f"Image {index} has the shape {list(pixels.shape)} and image 0 {list(shape)}: "
                "let the dataset's transform make them alike."
            )
        name = str(label.item() if hasattr(label, "item") else label)
        classes.setdefault(name, []).append(pixels)
    if not classes:
        raise ValueError("The dataset has no images.")
    return LabelledImages.of({name: np.stack(images) for name, images in classes.items()})


def _pixels(image: Any, index: int) -> Pixels:
    """uint8 ``[channels, height, width]``."""
    values = np.asarray(image)
    if hasattr(image, "getbands") and values.ndim == 3:  # PIL's channels stand last
        values = np.moveaxis(values, 2, 0)
    values = values[None] if values.ndim == 2 else values
    if values.dtype != np.uint8:
        within = values.dtype.kind in "bf" and bool(((values >= 0) & (values <= 1)).all())
        if not within:
            raise ValueError(f"Image {index} is {values.dtype}: it must be uint8 or within [0, 1].")
        values = np.round(values * 255.0).astype(np.uint8)
    if values.ndim != 3:
        raise ValueError(f"Image {index} has {values.ndim} axes: it must have 2 or 3.")
    return values


def images_of_folder(
    folder: str, size: int, alphabets: Iterable[str] | None = None
) -> LabelledImages:
    """The images of a folder in Omniglot's layout, .../alphabet/character/image.png at any depth.

    They are made grey and resized, and ink is 255. A process reads them once. An alphabet that lies
    in the folder twice counts once, as Greek and Latin of Omniglot's two small background sets. The
    official one-shot runs, if they lie there too, are no alphabets.

    Args:
        folder: The folder.
        size: Height and width that the images are resized to.
        alphabets: Read these alone; None: all.

    Raises:
        ValueError: there is no such folder or alphabet, or no image; one cannot be read; or an
            alphabet lies there twice with different images.
    """
    root = os.path.realpath(os.path.expanduser(folder))
    if not os.path.isdir(root):
        raise ValueError(f"data is {folder!r}: there is no such folder. {WHERE}.")
    return _read(root, size, None if alphabets is None else tuple(sorted(alphabets)))


@functools.cache
def _read(root: str, size: int, alphabets: tuple[str, ...] | None) -> LabelledImages:
    places: dict[str, dict[Path, list[Path]]] = {}  # alphabet ↦ its folders ↦ their characters'
    for path, folders, files in os.walk(root):
        folders[:] = sorted(name for name in folders if name[0] != "." and name != "__MACOSX")
        if "class_labels.txt" in files:  # a one-shot run
            folders.clear()
        elif any(map(_is_image, files)):
            character = Path(path)
            by_folder = places.setdefault(character.parent.name, {})
            by_folder.setdefault(character.parent, []).append(character)
    if not places:
        raise ValueError(
            f"data is {root!r}: it has no images in Omniglot's layout, "
            f"alphabet/character/image.png. {WHERE}."
        )
    classes: dict[str, Pixels] = {}
    for alphabet in places if alphabets is None else alphabets:
        if alphabet not in places:
            raise ValueError(unknown("alphabet", alphabet, sorted(places), f"{root} has"))
        (first, characters), *others = places[alphabet].items()
        found = _characters(characters, size)
        for other, again in others:
            if not _equal(found, _characters(again, size)):
                raise ValueError(
                    f"The alphabet {alphabet} lies in {first} and, with other images, in {other}: "
                    "leave one of them out."
                )
        classes |= {f"{alphabet}/{name}": images for name, images in found.items()}
    return LabelledImages.of(classes)


def _is_image(name: str) -> bool:
    return name.lower().endswith(_SUFFIXES) and name[0] != "."


def _characters(folders: Iterable[Path], size: int) -> dict[str, Pixels]:
    """The images of an alphabet's characters, by the names of their folders."""
    found = {folder: sorted(filter(_is_image, os.listdir(folder))) for folder in folders}
    return {
        folder.name: np.stack([grey_image(folder / name, size) for name in names])
        for folder, names in found.items()
    }


def grey_image(path: Path, size: int) -> Pixels:
    """uint8 ``[1, size, size]``, ink 255."""
    try:
        with Image.open(path) as image:
            grey = image.convert("L").resize((size, size), Image.Resampling.LANCZOS)
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"The image {path} cannot be read: {error}.") from error
    return 255 - np.asarray(grey)[None]


def _equal(one: Mapping[str, Pixels], other: Mapping[str, Pixels]) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[k], other[k]) for k in one)
