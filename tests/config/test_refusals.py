"""What bad input is told: one sentence that says what, where and what would be right."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from metarl.config.loading import (
    load_config,
)
from tests.config.fakes import FAKE, refused

FILES: list[tuple[str | bytes, list[str]]] = [
    ("", ["exp.yaml", "empty"]),
    ("# only a comment\n", ["exp.yaml", "empty"]),
    ("- 1\n- 2\n", ["exp.yaml", "a list", "mapping"]),
    ("just words\n", ["exp.yaml", "just words", "mapping"]),
    ("seed: 1\n  iterations: 2\n", ["exp.yaml, line 2, column 13", "not valid YAML"]),
    ("env: [1, 2\n", ["exp.yaml, line 2", "not valid YAML"]),
    ("seed: 1\n\tname: x", ["exp.yaml, line 2", "not valid YAML"]),
    ("seed: 1\nname: x\nseed: 2\n", ["line 3, column 1", "seed is given twice", "line 1"]),
    ("env: {length: 1, length: 2}\n", ["env.length is given twice"]),
    (b"name: \xff\xfe\n", ["exp.yaml", "UTF-8", "0xff"]),
    (b"name: a\x00b\n", ["exp.yaml", "line 1", "'\\x00'"]),
    ("seed: 1\n---\nseed: 2\n", ["exp.yaml", "line 2", "document"]),
    ("seed: !!python/object/apply:os.system [id]\n", ["line 1", "python/object", "not allowed"]),
    ("env: &a {x: *a}\n", ["exp.yaml", "alias"]),
    ("seed: *nothing\n", ["exp.yaml, line 1", "nothing"]),
    ("1: 2\n", ["line 1", "'1'", "not a name"]),
    ("? [a, b]\n: 1\n", ["line 1", "key"]),
    ("<<: {seed: 1}\n", ["<<"]),
    ("x: " + "[" * 5000 + "]" * 5000, ["exp.yaml", "nested too deeply"]),
    ("iteratons: 5\n", ["line 1", "iteratons", "the nearest is iterations"]),
    ("seed: 1\nenv:\n  lenght: 5\n", ["line 3", "env.lenght", "the nearest is env.length"]),
    ("algorithm: {stepps: 5}\n", ["algorithm.stepps", "nearest is algorithm.steps"]),
    ("algorithm: {inner_lr: 1, first_ordr: 1}", ["first_ordr", "algorithm.first_order"]),
    ("first_order: true\n", ["first_order", "nearest is algorithm.first_order"]),
    ("validation: {every: 3}\n", ["validation.every", "interval"]),
    ("seed: abc\n", ["line 1", "seed is 'abc'", "whole number"]),
    ("seed: '1'\n", ["seed is '1'", "whole number"]),
    ("seed: true\n", ["seed is true", "whole number"]),
    ("seed: 1.5\n", ["seed is 1.5", "whole number"]),
    ("seed: -1\n", ["seed is -1", "at least 0"]),
    (
        "seed: 99999999999999999999999\n",
        ["seed is 99999999999999999999999", "less than 4294967296"],
    ),
    (f"seed: {'9' * 20_000}\n", ["seed is '99999", "whole number"]),
    (f"env: {{length: {'9_' * 20_000}x}}\n", ["env.length is '9_9_", "number"]),
    (f"iterations: {2**63}\n", ["iterations is 92233", "at most 9223372036854775807"]),
    (f"env: {{length: {-(2**63)}}}\n", ["env.length is -92233", "at most 9223372036854775807"]),
    ("rollout: {workers: 100000}\n", ["rollout.workers is 100000", "at most 1024"]),
    ("rollout: {physics_threads: 100000}\n", ["physics_threads is 100000", "at most 1024"]),
    ("rollout: {torch_threads: 100000}\n", ["torch_threads is 100000", "at most 1024"]),
    ("seed: null\n", ["seed is null", "whole number"]),
    ("seed: [1]\n", ["seed is [1]", "whole number"]),
    ("iterations: 0\n", ["iterations is 0", "at least 1"]),
    ("iterations: -5\n", ["iterations is -5", "at least 1"]),
    ("max_env_steps: 0\n", ["max_env_steps is 0", "at least 1"]),
    ("algorithm: {low: .nan}\n", ["algorithm.low is nan", "finite"]),
    ("algorithm: {high: .inf}\n", ["algorithm.high is inf", "finite"]),
    ("env: {start: [0.0, -.inf]}\n", ["env.start[1] is -inf", "finite"]),
    ("algorithm: {high: 1e999}\n", ["algorithm.high is inf", "finite"]),
    ("algorithm: {low: 2.0, high: 1.0}\n", ["algorithm", "low must be below high"]),
    ("algorithm: {steps: 11}\n", ["algorithm.steps is 11", "at most 10"]),
    ("algorithm: {limit: 0}\n", ["algorithm.limit is 0", "greater than 0"]),
    ("algorithm: {rule: trop}\n", ["algorithm.rule is 'trop'", "trpo, ppo", "nearest is trpo"]),
    ("algorithm: {inner_lr: fast}\n", ["algorithm.inner_lr is 'fast'", "list", "number"]),
    ("algorithm: {inner_lr: [0.1, x]}\n", ["algorithm.inner_lr[1] is 'x'", "number"]),
    ("algorithm: {first_order: 1}\n", ["algorithm.first_order is 1", "true or false"]),
    ("validation: {enabled: yes}\n", ["validation.enabled is 'yes'", "true or false"]),
    ("validation: {interval: 0}\n", ["validation.interval is 0", "at least 1"]),
    ("validation: null\n", ["validation is null", "mapping"]),
    ("checkpoint: {keep: 0}\n", ["checkpoint.keep is 0", "at least 1"]),
    ("checkpoint: {interval: -1}\n", ["checkpoint.interval is -1", "at least 1"]),
    ("evaluation: {split: test}\n", ["evaluation.split is 'test'", "held_out"]),
    ("evaluation: {episodes: 0}\n", ["evaluation.episodes is 0", "at least 1"]),
    ("rollout: {workers: -1}\n", ["rollout.workers is -1", "at least 0"]),
    ("tracking: {wandb: of}\n", ["tracking.wandb is 'of'", "offline"]),
    ("tracking: {project: a/b}\n", ["tracking.project is 'a/b'", "W&B project"]),
    ("tracking: {tags: [1]}\n", ["tracking.tags[0] is 1", "text"]),
    ('tracking: {group: "\\ud800"}\n', ["tracking.group", "UTF-8"]),
    ("name: ../evil\n", ["name is '../evil'", "no path"]),
    ("name: ''\n", ["name is ''", "no path"]),
    ("name: ..\n", ["name is '..'", "no path"]),
    (f"name: {'x' * 101}\n", ["name is 'xxx", "at most 100"]),
    ("device: gpu\n", ["device is 'gpu'", "auto, cpu, cuda"]),
    ('run_dir: "a\\0b"\n', ["run_dir", "control characters"]),
    ("env: {start: [1.0, 2.0, 3.0]}\n", ["env.start", "at most 2"]),
    ("env: {start: [1.0]}\n", ["env.start[1] is missing"]),
    ("env: {length: long}\n", ["line 1", "env.length is 'long'", "number"]),
    ("env: {anything: 3}\n", ["env.anything is 3", "true or false"]),
    ("env: {preset: narow}\n", ["env.preset is 'narow'", "'narrow'", "wide"]),
    ("env: {preset: 3}\n", ["env.preset is 3", "narrow, wide"]),
    ("env: {tasks: 3}\n", ["env.tasks is 3", "text"]),
    ("seed: -1\niterations: 0\n", ["seed is -1", "1 more wrong"]),
]


@pytest.mark.parametrize(("text", "parts"), FILES, ids=lambda x: str(x)[:30])
def test_broken_files(text: str | bytes, parts: list[str], write) -> None:  # type: ignore[no-untyped-def]
    message = refused(lambda: load_config(write(text), FAKE))
    for part in parts:
        assert part in message, message


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("env: point_navigation\n", ["line 1", "env is 'point_navigation'", "{name: "]),
        ("env: {name: 3}\n", ["env.name is 3", "must be a name"]),
        (
            "env: {name: half_cheeta_vel}\n",
            ["half_cheeta_vel", "'half_cheetah_vel'", "point_navigation"],
        ),
        ("env: {name: 'no.such:Thing'}\n", ["env.name", "no.such", "ModuleNotFoundError"]),
        ("env: {name: 'pathlib:Path'}\n", ["env.name", "pathlib:Path"]),
        ("env: {name: 'tests.config.fakes:FakEnv'}\n", ["env.name", "FakEnv", "FakeEnv"]),
        (
            "algorithm: {name: malm}\n",
            ["line 1", "algorithm.name: unknown algorithm 'malm'", "'maml'"],
        ),
        ("algorithm: {name: 'json:JSONDecoder'}\n", ["algorithm.name", "json:JSONDecoder"]),
        ("algorithm: {name: ':'}\n", ["algorithm.name", "':'"]),
        ("algorithm: maml\n", ["algorithm is 'maml'", "{name: maml}"]),
    ],
)
def test_unknown_environments_and_algorithms(text: str, parts: list[str], write) -> None:  # type: ignore[no-untyped-def]
    message = refused(lambda: load_config(write(text), []))
    for part in parts:
        assert part in message, message


def test_a_module_that_fails_to_import_is_a_sentence(tmp_path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "broken_module.py").write_text("raise KeyError('boom\\nboom')\n")
    monkeypatch.chdir(tmp_path)
    message = refused(lambda: load_config(None, ["--env.name", "broken_module:Env"]))
    assert "env.name" in message
    assert "KeyError" in message


@pytest.mark.parametrize(
    ("path", "parts"),
    [("missing.yaml", ["no config file", "missing.yaml"]), ("folder", ["folder", "is a folder"])],
)
def test_no_file(path: str, parts: list[str], tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    message = refused(lambda: load_config(tmp_path / path, []))
    assert all(part in message for part in parts), message


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["stray"], ["'stray'", "--field value"]),
        (["-x", "1"], ["'-x'", "--field value"]),
        (["--"], ["'--'"]),
        (["--seed"], ["--seed needs a value"]),
        (["--seed", "--name", "x"], ["--seed needs a value"]),
        (["--seed=x"], ["command line", "seed is 'x'", "whole number"]),
        (["--seed="], ["seed is ''", "whole number"]),
        (["--sed", "1"], ["command line", "sed", "the nearest is seed"]),
        (["--env.lenth", "1"], ["env.lenth", "the nearest is env.length"]),
        (["--lenth", "1"], ["lenth", "the nearest is env.length"]),
        (["--env", "x"], ["env is a section", "--env.name"]),
        (["--env.length.x", "1"], ["env.length.x", "env.length is one value"]),
        (["--algorithm.inner_lr", "0.1,x"], ["command line", "algorithm.inner_lr[1] is 'x'"]),
        (["--algorithm.inner_lr", "[0.1"], ["--algorithm.inner_lr", "not valid YAML"]),
        (["--algorithm.steps", "nan"], ["algorithm.steps is 'nan'", "whole number"]),
        (["--algorithm.low", ".nan"], ["algorithm.low is nan", "finite"]),
        (["--validation.enabled", "no"], ["validation.enabled is 'no'", "true or false"]),
        (["--tracking.group", "\udcff"], ["tracking.group", "UTF-8"]),
        (["--name", "a b"], ["name is 'a b'", "letters"]),
        (["--..", "1"], ["there is no field"]),
        (["--algorithm.name", "null"], ["algorithm.name is null", "must be a name"]),
        (["--env.preset", "nothing"], ["env.preset is 'nothing'", "narrow, wide"]),
        (["--device", "tpu"], ["device is 'tpu'", "auto, cpu, cuda"]),
    ],
)
def test_broken_command_lines(words: list[str], parts: list[str], write) -> None:  # type: ignore[no-untyped-def]
    message = refused(lambda: load_config(write("seed: 1"), [*FAKE, *words]))
    for part in parts:
        assert part in message, message


@pytest.mark.parametrize(
    "words",
    [
        ["--algorithm.outer.max_kl", "-1"],
        ["--env.name", "half_cheetah_vel", "--env.velocity-high", "-1"],
        ["--device", "cpu", "--env.horizon", "0"],
        ["--help"],
    ],
)
def test_wrong_input_need_not_wait_for_torch(words: list[str]) -> None:
    """Which takes over a second to import."""
    code = (
        "import sys\n"
        "from metarl.cli.command_line import parse_train_arguments\n"
        "from metarl.errors import UserError\n"
        "try:\n"
        "    parse_train_arguments(['--config', 'quickstart', *sys.argv[1:]])\n"
        "except (UserError, SystemExit):\n"
        "    print('torch' in sys.modules)\n"
    )
    said = subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, check=True
    )
    assert said.stdout.endswith("False\n")
