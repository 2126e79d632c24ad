"""Tagged unions: one of several models, chosen by its name."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field

from metarl.algorithms.settings.base import because
from metarl.config.help import config_lines
from metarl.config.loading import config_to_yaml, differences, load_config
from metarl.config.validation import split_options
from tests.config.fakes import refused

WALK = ["--algorithm.name", "tests.config.test_variants:Walk"]


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True)


class Bold(Frozen):
    name: Literal["bold"] = "bold"
    stride: float = Field(1.0, gt=0, description="length of a step")


class Careful(Frozen):
    name: Literal["careful"] = "careful"
    stride: float = Field(0.1, gt=0, description="length of a step")
    looks: tuple[int, ...] = Field((1, 2), description="when to look")


class Lame(Frozen):
    name: Literal["lame"] = "lame"


class WalkConfig(BaseModel):
    gait: Bold | Careful | Lame = Field(Careful(), description="how it walks")
    crawl: Annotated[Lame, because("whoever crawls is lame")] = Lame()
    length: int = 3


class Walk:
    config_class: ClassVar[type[BaseModel]] = WalkConfig

    def collect(self) -> None: ...
    def update(self) -> None: ...
    def state_dict(self) -> None: ...
    def load_state_dict(self) -> None: ...
    def agent(self) -> None: ...


def write(folder: Path, text: str) -> Path:
    (folder / "walk.yaml").write_text(text)
    return folder / "walk.yaml"


@pytest.mark.parametrize(
    ("text", "words", "gait"),
    [
        ("", "", Careful()),
        ("gait: bold", "", Bold()),
        ("gait: {name: bold}", "", Bold()),
        ("gait: {name: bold, stride: 2}", "", Bold(stride=2)),
        ("gait: {stride: 2.0}", "", Careful(stride=2)),
        ("", "gait bold", Bold()),
        ("", "gait.name bold", Bold()),
        ("", "gait lame --algorithm.gait=bold --algorithm.gait.stride 3", Bold(stride=3)),
        ("", "gait.looks 5,6", Careful(looks=(5, 6))),
        ("gait: {stride: 2.0}", "gait.looks 5", Careful(stride=2, looks=(5,))),
        ("gait: {name: careful, stride: 2.0}", "gait careful", Careful(stride=2)),
        ("gait: {stride: 2.0}", "gait careful", Careful(stride=2)),
        # In whatever order they are given.
        ("gait: {name: lame}", "gait.stride 3 --algorithm.gait bold", Bold(stride=3)),
        # Another one chosen on the command line replaces the file's, settings and all.
        ("gait: {name: careful, stride: 2.0, looks: [3]}", "gait bold", Bold()),
        ("gait: {name: lame}", "gait.name bold --algorithm.gait.stride 2", Bold(stride=2)),
    ],
)
def test_a_variant_is_chosen(text: str, words: str, gait: Frozen, tmp_path: Path) -> None:
    path = write(tmp_path, f"seed: 1\nalgorithm: {{length: 4, {text}}}")
    words = f"--algorithm.{words}" if words else ""
    config = load_config(path, [*WALK, *words.split()])
    assert config.algorithm.gait == gait
    assert isinstance(config.algorithm, WalkConfig)
    assert config.algorithm.crawl == Lame()
    # What is written reads back as it was.
    again = load_config(write(tmp_path, config_to_yaml(config)), ["--name", "walk"])
    assert again == config
    assert type(again) is type(config)
    assert differences(config, again) == []


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "gait: bald",
            "{path}, line 2: algorithm.gait is 'bald', but must be one of bold, careful, lame "
            "(the nearest is bold).",
        ),
        (
            "gait: {name: x}",
            "{path}, line 2: algorithm.gait is 'x', but must be one of bold, careful, lame.",
        ),
        (
            "gait: [bold]",
            "{path}, line 2: algorithm.gait is ['bold'], but must be one of bold, careful, lame.",
        ),
        (
            "gait: null",
            "{path}, line 2: algorithm.gait is null, but must be one of bold, careful, lame.",
        ),
        (
            "crawl: bold",
            "{path}, line 2: algorithm.crawl is 'bold', but must be lame: whoever crawls is lame.",
        ),
        (
            "gait: {name: bold, looks: [1]}",
            "{path}, line 2: there is no field algorithm.gait.looks with gait bold; there are: "
            "name, stride.",
        ),
        (
            "gait: {name: bold, strid: 1}",
            "{path}, line 2: there is no field algorithm.gait.strid with gait bold; the nearest is "
            "algorithm.gait.stride.",
        ),
        (
            "stride: 1",
            "{path}, line 2: there is no field algorithm.stride; the nearest is "
            "algorithm.gait.stride.",
        ),
        (
            "gait: {name: bold, stride: 0}",
            "{path}, line 2: algorithm.gait.stride is 0, but must be greater than 0.0.",
        ),
        (
            "gait: {stride: fast}",
            "{path}, line 2: algorithm.gait.stride is 'fast', but must be a number.",
        ),
    ],
)
def test_a_wrong_variant_or_setting(text: str, sentence: str, tmp_path: Path) -> None:
    path = write(tmp_path, f"seed: 1\nalgorithm: {{{text}}}")
    assert refused(lambda: load_config(path, WALK)) == sentence.format(path=path)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            "--algorithm.gait=bald",
            "command line: algorithm.gait is 'bald', but must be one of bold, careful, lame (the "
            "nearest is bold).",
        ),
        (
            "--algorithm.gait=bold --algorithm.gait.looks=1",
            "command line: there is no field algorithm.gait.looks with gait bold; there are: name, "
            "stride.",
        ),
        (
            "--algorithm.gait.stride=-1",
            "command line: algorithm.gait.stride is -1, but must be greater than 0.0.",
        ),
    ],
)
def test_a_wrong_variant_on_the_command_line(words: str, sentence: str, tmp_path: Path) -> None:
    path = write(tmp_path, "algorithm:\n  gait:\n    name: careful\n    stride: 1.0\n")
    assert refused(lambda: load_config(path, [*WALK, *words.split()])) == sentence


def test_help_lists_the_fields_of_the_variant_chosen() -> None:
    text = "\n".join(config_lines(None, split_options([*WALK, "--algorithm.gait", "bold"])))
    assert "--algorithm.gait bold|careful|lame" in text
    assert "how it walks (here bold)" in text
    assert "--algorithm.gait.stride NUMBER" in text
    assert "(default 1.0; > 0)" in text
    assert "looks" not in text
    assert "gait.name" not in text


def test_changes_of_a_variant_are_told() -> None:
    careful, bold = (load_config(None, [*WALK, "--algorithm.gait", x]) for x in ("careful", "bold"))
    assert "algorithm.gait.name was 'careful' and is 'bold' now" in differences(careful, bold)
