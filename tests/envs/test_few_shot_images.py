"""Classification of images from a folder or a dataset; the glyphs are synthetic."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from metarl.config.loading import config_from
from metarl.envs import make_tasks
from metarl.envs.few_shot_images import (
    ClassSubsets,
    FewShotClassification,
    FewShotImages,
    split_classes,
)
from metarl.envs.labelled_images import images_of_dataset, images_of_folder
from metarl.errors import UserError
from metarl.runs.build import make_worker
from tests.programs import tiny
from tests.synthetic_glyphs import draw_glyphs

ALPHABETS = {"Ada": 6, "Bel": 4, "Cid": 5}
SPLIT: dict[str, Any] = {"training": ["Ada"], "validation": ["Bel"], "held_out": ["Cid"]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sets side by side, as Omniglot's come; Bel lies in both."""
    top = tmp_path_factory.mktemp("glyphs")
    draw_glyphs(top / "one", {"Ada": 6, "Bel": 4})
    draw_glyphs(top / "two" / "deeper", {"Cid": 5})
    shutil.copytree(top / "one/Bel", top / "two/deeper/Bel")
    run = draw_glyphs(top / "all_runs", {"run01": 2}) / "run01"
    (run / "class_labels.txt").write_text("")
    return top


@pytest.fixture(scope="module")
def glyphs(folder: Path) -> FewShotImages:
    return FewShotImages(str(folder), 3, 2, **SPLIT, size=14)


def test_a_folder_is_read_at_any_depth_and_an_alphabet_counts_once(folder: Path) -> None:
    images = images_of_folder(str(folder), 20)
    assert [name.partition("/")[0] for name in images.names] == ["Ada"] * 6 + ["Bel"] * 4 + [
        "Cid"
    ] * 5
    assert images.names[0] == "Ada/character01"
    assert (images.counts == 4).all()
    path = folder / "one/Ada/character01/0001_02.png"
    with Image.open(path) as picture:
        ink = ~np.asarray(picture)
    np.testing.assert_array_equal(images.pixels[1, 0], 255 * ink)
    assert images_of_folder(str(folder), 20) is images, "a process reads it once"


def test_an_alphabet_that_lies_there_twice_and_differs_is_refused(tmp_path: Path) -> None:
    for which in ("one", "two"):
        draw_glyphs(tmp_path / which, {"Ada": 2})
    path = tmp_path / "two/Ada/character02/0002_01.png"
    picture = Image.open(path)
    picture.putpixel((3, 3), 1 - picture.getpixel((3, 3)))  # type: ignore[operator]
    picture.save(path)
    with pytest.raises(ValueError, match=r"The alphabet Ada lies in .*one/Ada and, with other ima"):
        images_of_folder(str(tmp_path), 20)


def test_the_classes_of_splits_are_disjoint_and_the_tasks_fixed(glyphs: FewShotImages) -> None:
    distribution = glyphs.task_distribution
    names = glyphs.images.names
    assert distribution.columns == ("class_1", "class_2", "class_3")
    for tasks, alphabet, number in (
        (distribution.validation(), "Bel", 4),  # of 4 classes there are 4 subsets of 3
        (distribution.held_out(), "Cid", 10),
    ):
        assert len(tasks) == number
        assert {names[int(c)].partition("/")[0] for c in tasks.ravel()} == {alphabet}
        assert len({frozenset(task) for task in tasks.tolist()}) == number
    many = ClassSubsets(
        5,
        range(100),
        split_classes(
            [str(i) for i in range(100)], {"training": 10, "validation": 30, "held_out": None}
        ),
    )
    assert many.validation().shape == (200, 5)
    assert many.held_out().shape == (600, 5)
    assert many.held_out()[0].tolist() == [69.0, 1.0, 83.0, 94.0, 38.0]


def test_training_tasks_have_turned_classes_and_no_class_twice(glyphs: FewShotImages) -> None:
    tasks = glyphs.task_distribution.sample(np.random.default_rng(0), 200).astype(int)
    turn, number = np.divmod(tasks, len(glyphs.images.names))
    assert set(turn.ravel()) == {0, 1, 2, 3}
    assert set(number.ravel()) == set(range(6))
    assert (np.diff(np.sort(number, axis=1), axis=1) > 0).all()
    assert glyphs.class_name(tasks[0, 0]) == glyphs.images.names[number[0, 0]] + (
        f" turned by {90 * turn[0, 0]}°" if turn[0, 0] else ""
    )
    plain = FewShotClassification(glyphs.images, 3, **SPLIT).task_distribution
    assert plain.sample(np.random.default_rng(0), 200).max() == 5


def test_support_and_query_are_different_images_of_the_tasks_classes(glyphs: FewShotImages) -> None:
    base = len(glyphs.images.names)
    tasks = np.array([[0.0, 4.0, 2.0], [base + 1.0, 3.0, 3 * base + 5.0]])
    support, query = glyphs.draw(tasks, [np.random.default_rng(m) for m in (7, 8)], 2)
    assert support.inputs.shape == (2, 6, 1, 14, 14)
    assert support.targets.tolist() == [[0, 0, 1, 1, 2, 2]] * 2
    for m, task in enumerate(tasks.astype(int)):
        for k, index in enumerate(task):
            turn, number = divmod(index, base)
            start = glyphs.images.starts[number]
            images = np.rot90(glyphs.images.pixels[start : start + 4], turn, axes=(2, 3)) / 255.0
            drawn = np.concatenate([part.inputs[m, 2 * k : 2 * k + 2] for part in (support, query)])
            # All four, each once.
            matches = np.abs(drawn[:, None] - images[None]).max(axis=(2, 3, 4)) < 1e-6
            np.testing.assert_array_equal(np.sort(matches.argmax(1)), range(4))
            assert matches.sum() == 4
    alone, _ = glyphs.draw(tasks[1:], [np.random.default_rng(8)], 2)
    np.testing.assert_array_equal(alone.inputs[0], support.inputs[1])


def test_too_few_images_are_told_of_before_training(glyphs: FewShotImages) -> None:
    said = r"Ada/character01 has 4 images: 2 of the support set and 3 of the query set \(.*\) are 5"
    with pytest.raises(UserError, match=said):
        glyphs.draw(np.zeros((1, 3)), [np.random.default_rng(0)], 3)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"data": "/nowhere"},
            r"data is '/nowhere': there is no such folder\. Omniglot's ",
        ),
        (
            {"training": ["Adda"]},
            r"Unknown alphabet 'Adda': did you mean 'Ada'\? .* has Ada, Be",
        ),
        (
            {"training": ["Ada/x"]},
            r"Unknown class or group of training 'Ada/x': did you mean",
        ),
        (
            {"validation": ["Bel", "Ada/character02"]},
            "training and validation share the class Ada",
        ),
        ({"ways": 4}, "validation has 4 classes: 4-way tasks need at least 5"),
        ({"ways": 7}, "training has 6 classes: 7-way tasks need at least 7"),
        ({"validation": 12}, "validation is 12: there are 4 other classes"),
        ({"validation": 0}, "validation is 0: it must be an integer of at least 1"),
        ({"ways": 1}, "ways is 1: it must be an integer of at least 2"),
        ({"size": 2}, "size is 2"),
        ({"rotations": 4}, "rotations is 4: it must be true or false"),
    ],
)
def test_what_cannot_be_is_a_sentence(folder: Path, changes: Any, sentence: str) -> None:
    options = {"data": str(folder), "ways": 3} | SPLIT | changes
    with pytest.raises(ValueError, match=sentence):
        FewShotImages(**options)


def test_a_folder_without_images_or_with_a_broken_one(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no images in Omniglot's layout, alphabet/character/im"):
        images_of_folder(str(tmp_path), 28)
    draw_glyphs(tmp_path, {"Ada": 1})
    path = tmp_path / "Ada/character01/0001_01.png"
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(ValueError, match=r"The image .*0001_01\.png cannot be read: "):
        images_of_folder(str(tmp_path), 28)


def test_presets_and_a_config(folder: Path) -> None:
    data = tiny() | {
        "env": {"name": "few_shot_images", "preset": "omniglot_small", "data": str(folder)},
        "algorithm": {"name": "tests.few_shot_toys:Mean"},
    }
    config = config_from(data)
    assert config.env.held_out == ("Japanese_(katakana)", "Sanskrit")
    with pytest.raises(UserError, match=r"env: Unknown alphabet 'Balinese': .* has Ada, Bel, Cid"):
        make_worker(config)
    data["env"] |= SPLIT | {"ways": 3}
    tasks: Any = make_worker(config_from(data)).tasks
    assert tasks.ways == 3
    assert tasks.input_space.shape == (1, 28, 28)


def test_a_number_of_classes_is_taken_in_an_order_that_their_names_decide() -> None:
    names = [f"{group}/{k}" for group in "abc" for k in range(20)]
    shares = {"training": None, "validation": 15, "held_out": 20}
    splits = split_classes(names, shares)
    assert [len(part) for part in splits.values()] == [25, 15, 20]
    assert sorted(np.concatenate(list(splits.values()))) == list(range(60))
    assert {names[i][0] for i in splits["held_out"]} == set("abc")
    assert splits["validation"][:3].tolist() == [2, 3, 16], "in every version"
    mixed = split_classes(names, {"training": ("a",), "validation": 4, "held_out": ("b/3", "b/1")})
    assert mixed["held_out"].tolist() == [21, 23]
    assert not {0, 21, 23} & set(mixed["validation"])


class Letters:
    """A dataset as torchvision has them."""

    def __init__(self, kind: str) -> None:
        rng = np.random.default_rng(0)
        self.items = [
            (rng.integers(256, size=(3, 6, 5), dtype=np.uint8), k // 4) for k in range(48)
        ]
        self.kind = kind

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        import torch

        pixels, label = self.items[index]
        if self.kind == "pil":
            return Image.fromarray(np.moveaxis(pixels, 0, 2)), label
        if self.kind == "tensor":
            return torch.from_numpy(pixels) / 255, torch.tensor(label)
        return pixels, f"letter {label}"


@pytest.mark.parametrize("kind", ["pil", "tensor", "array"])
def test_a_dataset_with_labels(kind: str) -> None:
    dataset = Letters(kind)
    tasks = FewShotClassification(images_of_dataset(dataset), 2, 3, validation=4, held_out=4)
    assert tasks.input_space.shape == (3, 6, 5)
    assert len(tasks.images.names) == 12
    first = tasks.images.names.index("letter 0" if kind == "array" else "0")
    rows = slice(tasks.images.starts[first], tasks.images.starts[first + 1])
    wanted = [pixels for pixels, label in dataset.items if label == 0]
    np.testing.assert_array_equal(tasks.images.pixels[rows], wanted)
    support, query = tasks.draw(np.array([[first, 5.0]]), [np.random.default_rng(0)], 1)
    assert (support.inputs.shape, query.targets.tolist()) == ((1, 6, 3, 6, 5), [[0, 1]])
    with pytest.raises(ValueError, match="rotations need square images: these are of 6×5 pixels"):
        FewShotClassification(tasks.images, validation=4, held_out=4, rotations=True)


class LetterTasks(FewShotClassification):
    """What a user writes to train on a dataset.

    Args:
        ways: Classes of a task.
    """

    def __init__(self, ways: int = 2) -> None:
        images = images_of_dataset(Letters("array"))
        super().__init__(images, ways, validation=4, held_out=4)


def test_a_users_class_over_a_dataset_by_import_path() -> None:
    tasks: Any = make_tasks("tests.envs.test_few_shot_images:LetterTasks", ways=3)
    assert (tasks.ways, tasks.measure) == (3, "accuracy")


@pytest.mark.parametrize(
    ("images", "sentence"),
    [
        ([np.zeros((4, 4)), np.zeros((5, 4))], r"Image 1 has the shape \[1, 5, 4\] and image 0"),
        ([np.full((4, 4), 3.0)], r"Image 0 is float64: it must be uint8 or within \[0, 1\]"),
        ([np.zeros(4)], "Image 0 has 1 axes: it must have 2 or 3"),
        ([], "The dataset has no images"),
    ],
)
def test_a_dataset_that_will_not_do(images: list[Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        images_of_dataset([(image, 0) for image in images])


def test_tasks_of_a_file_are_held_against_the_classes(glyphs: FewShotImages) -> None:
    check = glyphs.task_distribution.check
    assert check([[0, 1, 2]]).tolist() == [[0.0, 1.0, 2.0]]
    for task in ([0, 1, 1], [0, 1, 60], [0.5, 1, 2], [-1, 0, 1]):
        with pytest.raises(ValueError, match="it must be 3 different whole numbers from 0 to 59"):
            check([task])
