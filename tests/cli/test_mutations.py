"""Hundreds of wrong configs and command lines from fixed seeds: each is refused in one sentence."""

from __future__ import annotations

import functools
import random
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from metarl.algorithms import ALGORITHMS
from metarl.cli.main import main
from metarl.config.loading import flat, load_config

pytestmark = pytest.mark.slow

SEEDS = (1, 2, 3, 4)
MUTATIONS = 120  # of each seed
FILE = "exp.yaml"

IN_FILES = [
    *(
        "abc",
        "-1",
        "1.5",
        "true",
        "null",
        "[]",
        "[1, x]",
        "1e400",
        ".nan",
        ".inf",
        "-.inf",
        "9" * 25,
    ),
    *(
        "0",
        "''",
        "{a: 1}",
        "[[1]]",
        "x" * 3000,
        "²−±→",
        "99999999999",
        "-0.0",
        "1e-400",
        "~",
        "0x10",
    ),
    *("1_000", "[0.1, -0.1]", "maml_2017", "ppo", "none", "1:30", "no", r'"a\nb"', r'"\e[31mred"'),
]
"""Values as YAML writes them, wrong for most fields."""
ON_COMMAND_LINES = [
    *IN_FILES,
    *("", "a\nb", "\x1b[31mred", "\udcff", "a\x00b", "--x", "[1", "{", "'", '"', "*a", "&a b", " "),
    *("\t", "!!python/x y", "a,b,,c", "1,2,3", "\N{SLIGHTLY SMILING FACE}" * 50, "x" * 100_000),
]
EVALUATE = [
    *("--split", "--episodes", "--adaptation-steps", "--mode", "--seed", "--evaluation-seeds"),
    *(
        "--forget",
        "--checkpoint",
        "--output",
        "--tasks",
        "--device",
        "--run",
        "--agent",
        "--config",
    ),
    *("--trust-code", "--video", "--x"),
]
REFERENCES = [
    *("--kind", "--env-steps", "--seed", "--folder", "--split", "--episodes", "--adaptation-steps"),
    *("--axis", "--env.horizon", "--env.x", "--rollout.torch_threads"),
]
OF_PAIRS = ["1", "2", "3", "0.5", "true", "[1.0]", "[0.5, 0.5]"]
"""Right by themselves for many fields, wrong beside others."""


@dataclass(frozen=True)
class Mutation:
    """A command line, what the file `exp.yaml` holds, and where the sentence must say it stands."""

    argv: list[str]
    config: str | bytes
    origin: str = ""


Rng = random.Random


@functools.cache
def defaults(algorithm: str) -> dict[str, Any]:
    """Field ↦ value of an algorithm's whole config, without what is no value of its own."""
    fields = flat(load_config(None, ["--algorithm.name", algorithm]))
    return {name: value for name, value in fields.items() if name not in ("name", "run_dir")}


def drawn(rng: Rng, sections: tuple[str, ...] = ("",)) -> tuple[str, str]:
    """An algorithm and a field of its config."""
    algorithm = rng.choice(sorted(ALGORITHMS))
    names = [name for name in sorted(defaults(algorithm)) if name.startswith(sections)]
    return algorithm, rng.choice(names)


def file_with(rng: Rng, algorithm: str, name: str, written: str) -> tuple[str, str]:
    """A config with a field as it is written, among right ones; and the origin, its line."""
    fields = defaults(algorithm)
    kept = ("env.name", "algorithm.name", "device", "tracking", name)
    others = [other for other in sorted(fields) if not other.startswith(kept)]
    tree: dict[str, Any] = {"algorithm": {"name": algorithm}}
    for field, value in [*((o, fields[o]) for o in rng.sample(others, 6)), (name, "MARK")]:
        *sections, last = field.split(".")
        place = tree
        for section in sections:
            place = place.setdefault(section, {})
        place[last] = value
    text = yaml.safe_dump(tree, sort_keys=False)
    line = 1 + text[: text.index("MARK")].count("\n")
    return text.replace("MARK", written), rf"line {line}\b"


# --- kinds of mutations -----------------------------------------------------------------------


def value_in_file(rng: Rng) -> Mutation:
    algorithm, name = drawn(rng)
    text, origin = file_with(rng, algorithm, name, rng.choice(IN_FILES))
    return Mutation(["train", FILE], text, origin)


def field_in_file(rng: Rng) -> Mutation:
    algorithm, name = drawn(rng)
    text, origin = file_with(rng, algorithm, name[:-1] + rng.choice("xyz_"), "1")
    return Mutation(["train", FILE], text, origin)


def value_on_command_line(rng: Rng) -> Mutation:
    algorithm, name = drawn(rng)
    text = f"algorithm: {{name: {algorithm}}}\n"
    value = rng.choice(ON_COMMAND_LINES)
    words = rng.choice([[f"--{name}", value], [f"--{name}={value}"]])
    origin = rf"command line|--{re.escape(name)}|out of place|needs a value|UTF-8|argument"
    return Mutation(["train", FILE, *words], text, origin)


def value_over_that_of_file(rng: Rng) -> Mutation:
    algorithm, name = drawn(rng)
    right = yaml.safe_dump([defaults(algorithm)[name]], default_flow_style=True).strip()[1:-1]
    text, _ = file_with(rng, algorithm, name, right)
    word = f"--{name}={rng.choice(ON_COMMAND_LINES)}"
    origin = rf"command line|--{re.escape(name)}|UTF-8|argument"
    return Mutation(["train", FILE, word], text, origin)


def field_on_command_line(rng: Rng) -> Mutation:
    algorithm, name = drawn(rng)
    at = rng.randrange(len(name))
    letter = rng.choice(["", "x", ".", "-", "é", "\n", " ", "="])
    wrong = name[:at] + letter + name[at + 1 :]
    return Mutation(["train", FILE, f"--{wrong}", "1"], f"algorithm: {{name: {algorithm}}}\n")


def pair(rng: Rng) -> Mutation:
    """Two values, of which each could be right, in the file and on the command line."""
    algorithm, name = drawn(rng, ("algorithm.", "env."))
    text, origin = file_with(rng, algorithm, name, rng.choice(OF_PAIRS))
    _, other = drawn(rng, ("algorithm.", "env."))
    words = [f"--{other}", rng.choice(OF_PAIRS)]
    return Mutation(["train", FILE, *words], text, rf"{origin}|command line|--{re.escape(other)}")


SHAPES: dict[str, Callable[[str, str], list[str]]] = {
    "gone": lambda line, last: [],
    "twice": lambda line, last: [line, line],
    "indented": lambda line, last: [" " + line],
    "tab": lambda line, last: ["\t" + line],
    "joined": lambda line, last: [line + last],
    "no colon": lambda line, last: [line.replace(":", "", 1)],
    "open quote": lambda line, last: [line + ' "'],
    "anchor": lambda line, last: [line + " &a *a"],
    "list": lambda line, last: ["- " + line],
}


def shape_of_file(rng: Rng) -> Mutation:
    algorithm, name = drawn(rng)
    lines = file_with(rng, algorithm, name, "1")[0].splitlines()
    at = rng.randrange(len(lines))
    lines[at : at + 1] = SHAPES[rng.choice(sorted(SHAPES))](lines[at], lines[-1])
    return Mutation(["train", FILE], "\n".join(lines))


def bytes_of_file(rng: Rng) -> Mutation:
    algorithm, _ = drawn(rng)
    tree = {"algorithm": {"name": algorithm}, "env": {"horizon": 9}, "seed": 3}
    data = bytearray(yaml.safe_dump(tree).encode())
    for _ in range(rng.randint(1, 4)):
        data[rng.randrange(len(data))] = rng.randrange(256)
    return Mutation(["train", FILE, "--iterations", "2"], bytes(data))


def evaluation(rng: Rng) -> Mutation:
    words = ["evaluate"] + ["nowhere"] * (rng.random() < 0.7)
    for option in rng.sample(EVALUATE, rng.randint(1, 3)):
        words += [option] + [rng.choice(ON_COMMAND_LINES)] * (rng.random() < 0.9)
    return Mutation(words, "")


def references(rng: Rng) -> Mutation:
    words = ["references", rng.choice(["quickstart", FILE, "nothing"])]
    for option in rng.sample(REFERENCES, rng.randint(1, 3)):
        words += [option, rng.choice(ON_COMMAND_LINES)]
    return Mutation(words, "algorithm: {name: maml}\n")


KINDS = [
    *(value_in_file, field_in_file, value_on_command_line, value_over_that_of_file),
    *(field_on_command_line, pair, shape_of_file, bytes_of_file, evaluation, references),
]


def faults(code: object, said: str, origin: str) -> list[str]:
    """What is wrong with an answer, one sentence of bounded length apart."""
    if code == 0:
        return []
    wrong = {
        f"code {code}": code != 2,
        "no error": not said.startswith("error: "),
        "not one line": said.count("\n") != 1 or not said.endswith("\n"),
        "unprintable": not said.rstrip("\n").isprintable(),
        f"{len(said)} characters": len(said) > 2100,
        "no end": not said.rstrip("\n").endswith((".", "]")),
        "traceback": "Traceback" in said,
        f"no origin {origin}": re.search(origin, said) is None,
    }
    return [fault for fault, is_there in wrong.items() if is_there]


@pytest.mark.parametrize("seed", SEEDS)
def test_each_is_accepted_or_refused_in_one_sentence(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Training is a stub, and references stop before their environments are made."""

    def stop(config: Any) -> None:
        raise SystemExit(0)

    monkeypatch.setattr("metarl.training.train.train", lambda config, **job: None)
    monkeypatch.setattr("metarl.runs.build.make_worker", stop)
    monkeypatch.chdir(tmp_path)
    rng, codes, found = Rng(seed), Counter[tuple[str, object]](), []
    for number in range(MUTATIONS):
        make = KINDS[number % len(KINDS)]
        mutation = make(rng)
        raw = mutation.config
        Path(FILE).write_bytes(raw if isinstance(raw, bytes) else raw.encode())
        code: object
        try:
            code = main(mutation.argv)
        except SystemExit as end:
            code = end.code
        except BaseException as error:
            code = repr(error)
        said = capsys.readouterr().err
        codes[make.__name__, code] += 1
        if wrong := faults(code, said, mutation.origin):
            found.append((wrong, [word[:80] for word in mutation.argv], raw[:600], said[:400]))
    print(dict(codes))
    assert found == []
    assert codes.total() == MUTATIONS
    for make in KINDS:  # most are wrong indeed
        assert codes[make.__name__, 2] >= MUTATIONS / len(KINDS) / 2, make.__name__


def test_there_are_hundreds() -> None:
    assert len(SEEDS) * MUTATIONS >= 400
