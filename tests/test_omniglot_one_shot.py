"""The official one-shot test: read from runs of synthetic glyphs, measured with a known agent."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image

from benchmarks import omniglot_one_shot
from metarl.errors import UserError
from metarl.maths.distributions import Categorical
from metarl.maths.samples import Samples
from tests.synthetic_glyphs import draw_glyphs


@pytest.fixture(scope="module")
def official(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs, in which item i is class (i + 3·run) mod 20, but for the first two of run 2."""
    folder = tmp_path_factory.mktemp("official")
    glyphs = draw_glyphs(folder / "glyphs", {"Ada": 20}, images=1)
    for number in (1, 2):
        run = folder / f"run{number:02}"
        (run / "test").mkdir(parents=True)
        (run / "training").mkdir()
        lines = []
        for item in range(20):
            label = (item + 3 * number) % 20
            glyph = Image.open(glyphs / f"Ada/character{label + 1:02}/{label + 1:04}_01.png")
            training, test = f"training/class{label + 1:02}.png", f"test/item{item + 1:02}.png"
            glyph.save(run / training)
            glyph.save(run / test)
            lines.append(f"{run.name}/{test} {run.name}/{training}\n")
        if number == 2:
            first, second = (line.split() for line in lines[:2])
            lines[:2] = [f"{first[0]} {second[1]}\n", f"{second[0]} {first[1]}\n"]
        (run / "class_labels.txt").write_text("".join(lines))
    return folder


class Nearest:
    """Knows the nearest support image after its adaptation step, and nothing before."""

    adaptation_axis = "support_set"

    def begin(self, support: Samples) -> None:
        self.support, self.adapted = support, False

    def adapt(self) -> None:
        self.adapted = True

    def predict(self, inputs: torch.Tensor) -> Any:
        distances = torch.cdist(inputs, self.support.observations)
        return Categorical(-distances if self.adapted else torch.zeros_like(distances))


def test_the_error_is_that_of_wrong_labels(official: Path) -> None:
    sets = omniglot_one_shot.official_runs(official, 14)
    assert sets.support.observations.shape == (2, 20, 14 * 14)
    assert sets.support.actions[0].tolist() == list(range(20))
    assert sets.query.actions[0].tolist() == [(item + 3) % 20 for item in range(20)]
    assert torch.equal(sets.query.observations[0, 0], sets.support.observations[0, 3])
    run: Any = SimpleNamespace(agent=lambda mode: Nearest())
    before, after = omniglot_one_shot.errors(run, sets, 5)
    assert before == [0.95, 0.95]
    assert after == [0.0, 0.1]


def test_what_is_not_there_is_a_sentence(official: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"has no run01/class_labels\.txt: give the unzipped all_"):
        omniglot_one_shot.official_runs(tmp_path, 14)
    with pytest.raises(UserError, match="was not trained on 20-way 1-shot tasks of images"):
        omniglot_one_shot.run(["results/maml_navigation/seed_1", str(official)])
