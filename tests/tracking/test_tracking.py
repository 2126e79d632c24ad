from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import platform
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
import yaml
from rich.console import Console

from metarl.config.loading import config_from
from metarl.errors import EnvironmentFailure
from metarl.storage.provenance import _git_state, metadata
from metarl.storage.run_folder import truncate_metrics
from metarl.tracking import connection, console, wandb_run
from metarl.tracking.tracker import Tracker
from metarl.tracking.wandb_folders import set_aside
from metarl.tracking.wandb_run import Media

ROOT = Path(__file__).parents[2]
KEY = "a" * 40
NAME = "the_run"


@pytest.fixture(autouse=True)
def _no_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No W&B account, no proxy and no network, whatever the machine has."""
    for variable in list(os.environ):
        if variable.startswith("WANDB_") or variable.lower().endswith("_proxy"):
            monkeypatch.delenv(variable)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("NETRC", str(home / ".netrc"))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(home / "config"))
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")  # nothing listens there
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "runs" / "a run"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def tarpit(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A server that takes connections and never answers."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(64)
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{server.getsockname()[1]}")
        yield


def open_tracker(
    run_dir: Path,
    config: dict[str, Any],
    iterations: int,
    *,
    name: str = NAME,
    resume: bool = False,
    console: Console | None = None,
    **tracking: Any,
) -> Tracker:
    """The tracker of a run in a folder, with the fields of its TrackingConfig."""
    own = {"name": name, "run_dir": str(run_dir), "iterations": iterations, "tracking": tracking}
    return Tracker(config_from(config | own), resume=resume, console=console)


def plain_console() -> Console:
    return Console(file=io.StringIO(), force_terminal=False)


def terminal() -> Console:
    return Console(file=io.StringIO(), force_terminal=True, width=80, _environ={})


def shown(output: Console) -> str:
    text: str = output.file.getvalue()  # type: ignore[attr-defined]
    return text


def warnings(output: Console) -> list[str]:
    return [line for line in shown(output).splitlines() if "warning" in line]


def row(iteration: int, **more: Any) -> dict[str, Any]:
    return {
        "iteration": iteration,
        "env_steps": 1000 * iteration,
        "wall_time_s": 0.5 * iteration,
        "return/pre": -40.0 + iteration,
        "return/post": -10.0 + iteration,
        "env_steps_per_s": 31234.5,
        **more,
    }


def lines(path: Path) -> list[dict[str, Any]]:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    text = path.read_text()
    assert text.endswith("\n")
    return [json.loads(line, parse_constant=refuse) for line in text.splitlines()]


def core_pid() -> int:
    """The process that W&B runs as a child of this one."""
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, _, fields = status.read_text().partition("(")[2].rpartition(")")
        except OSError:
            continue
        state, parent = fields.split()[:2]
        if name.startswith("wandb-core") and state != "Z" and int(parent) == os.getpid():
            return int(status.parent.name)
    raise AssertionError("W&B's process does not run")


def read_wandb(path: Path) -> list[Any]:
    """The records of a `.wandb` file: LevelDB's log format after a header of 7 bytes.

    Blocks of 32 KiB hold chunks of (CRC 4 bytes, length 2, type 1, data); a record is one chunk
    of type 1, or several of types 2, 3.., 4.
    """
    from wandb.proto import wandb_internal_pb2

    data = path.read_bytes()
    position, parts, records = 7, b"", []
    while position + 7 <= len(data):
        room = 32768 - position % 32768
        if room < 7:
            position += room
            continue
        length = int.from_bytes(data[position + 4 : position + 6], "little")
        kind = data[position + 6]
        if kind == 0:
            break
        parts += data[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(parts)
            records.append(record)
            parts = b""
    return records


def history(records: list[Any]) -> list[dict[str, Any]]:
    return [
        {
            "/".join(item.nested_key) if item.nested_key else item.key: json.loads(item.value_json)
            for item in record.history.item
        }
        for record in records
        if record.WhichOneof("record_type") == "history"
    ]


def wandb_files(run_dir: Path) -> list[Path]:
    return sorted(run_dir.glob("wandb/*run-*/run-*.wandb"))


# -------------------------------------------------------------------------------------- the record


def test_metrics_are_one_strict_json_line_an_iteration(run_dir: Path) -> None:
    with open_tracker(run_dir, {}, 2, wandb="disabled", console=plain_console()) as tracker:
        tracker.log(
            row(1)
            | {
                "loss/outer": float("nan"),
                "kl": float("inf"),
                "numpy": np.float32(0.5),
                "array": np.array([1.0, np.nan]),
                "tensor": torch.tensor(2.5),
                "count": np.int64(3),
            }
        )
        # Handed over before log returns: a kill right after it loses nothing.
        first = lines(run_dir / "metrics.jsonl")
        tracker.log(row(2))
    expected = row(1) | {"loss/outer": None, "kl": None, "numpy": 0.5, "array": [1.0, None]}
    assert first == [expected | {"tensor": 2.5, "count": 3}]
    written = lines(run_dir / "metrics.jsonl")
    assert [line["iteration"] for line in written] == [1, 2]
    assert list(written[1]) == list(row(2))
    assert not (run_dir / "validation.jsonl").exists()


def test_validation_never_touches_the_metrics(run_dir: Path) -> None:
    with open_tracker(run_dir, {}, 2, wandb="disabled", console=plain_console()) as tracker:
        tracker.log(row(1))
        tracker.log_validation({"iteration": 1, "env_steps": 1000, "returns": [[-4.0, -2.0]]})
    assert lines(run_dir / "metrics.jsonl") == [row(1)]
    assert lines(run_dir / "validation.jsonl") == [
        {"iteration": 1, "env_steps": 1000, "returns": [[-4.0, -2.0]]}
    ]


def test_a_second_tracker_appends(run_dir: Path) -> None:
    for iteration in (1, 2):
        with open_tracker(run_dir, {}, 2, wandb="disabled", console=plain_console()) as tracker:
            tracker.log(row(iteration))
    assert lines(run_dir / "metrics.jsonl") == [row(1), row(2)]


@pytest.mark.parametrize("missing", ["iteration", "env_steps"])
def test_a_row_without_its_axes_is_refused(run_dir: Path, missing: str) -> None:
    incomplete = row(1)
    del incomplete[missing]
    with (
        open_tracker(run_dir, {}, 1, wandb="disabled", console=plain_console()) as tracker,
        pytest.raises(ValueError, match=f"needs {missing}"),
    ):
        tracker.log(incomplete)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_an_environment_failure(run_dir: Path) -> None:
    (run_dir / "metrics.jsonl").symlink_to("/dev/full")
    with (
        open_tracker(run_dir, {}, 1, wandb="disabled", console=plain_console()) as tracker,
        pytest.raises(EnvironmentFailure, match=r"metrics\.jsonl cannot be written: No space left"),
    ):
        tracker.log(row(1))


def test_a_line_that_is_taken_in_parts_is_whole(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda file, data: write(file, data[:7]))
    with open_tracker(run_dir, {}, 1, wandb="disabled", console=plain_console()) as tracker:
        tracker.log(row(1))
    assert lines(run_dir / "metrics.jsonl") == [row(1)]


# ------------------------------------------------------------------------------------- the console


def test_plain_output_has_no_control_characters_and_a_limited_rate(run_dir: Path) -> None:
    output = plain_console()
    with open_tracker(run_dir, {}, 500, wandb="disabled", console=output) as tracker:
        for iteration in range(1, 501):
            tracker.log(row(iteration))
        tracker.print("checkpoint [1] written")
    text = shown(output)
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", text)
    progress = [line for line in text.splitlines() if line.startswith("iteration")]
    assert progress[0].startswith("iteration 1/500  1,000 env steps  31,234 env steps/s")
    assert "return/pre -39.00  return/post -9.00" in progress[0]
    assert progress[-1].startswith("iteration 500/500  500,000 env steps")
    assert progress[-1].endswith("0:00:00 left")
    assert 2 <= len(progress) <= 10
    assert "checkpoint [1] written" in text.splitlines()


def test_plain_lines_come_once_a_second(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: clock[0])
    output = plain_console()
    with open_tracker(run_dir, {}, 100, wandb="disabled", console=output) as tracker:
        for iteration in range(1, 8):
            clock[0] += 0.4
            tracker.log(row(iteration))
    # At 0.4, 1.6, 2.8 s, each the first at least a second after the one before.
    numbers = re.findall(r"iteration (\d+)/100 .* (\S+) left", shown(output))
    assert numbers == [("1", "0:00:40"), ("4", "0:00:38"), ("7", "0:00:37")]


def test_the_time_left_may_be_longer_than_a_calendar_holds(run_dir: Path) -> None:
    output = plain_console()
    with open_tracker(run_dir, {}, 2**62, wandb="disabled", console=output) as tracker:
        tracker.log(row(1))
    assert "years left" in shown(output)


def test_the_first_and_last_return_are_shown_for_any_algorithm(run_dir: Path) -> None:
    output = plain_console()
    metrics = {"iteration": 1, "env_steps": 10}
    metrics |= {f"return/episode_{k}": float(k) for k in range(1, 13)}
    with open_tracker(run_dir, {}, 1, wandb="disabled", console=output) as tracker:
        tracker.log(metrics)
    assert "return/episode_1 1.00  return/episode_12 12.00" in shown(output)
    assert "episode_2 " not in shown(output)


def test_a_terminal_gets_a_live_display_with_notes_above_it(run_dir: Path) -> None:
    output = terminal()
    with open_tracker(run_dir, {}, 2, wandb="disabled", name="cheetah", console=output) as tracker:
        tracker.log(row(1))
        tracker.print("a note [bold]as is[/bold]")
        tracker.log(row(2))
    text = shown(output)
    assert "\x1b[?25l" in text  # the cursor is hidden while it lives,
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")  # and shown again at the end
    final = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)
    assert "cheetah" in final
    assert "iteration 2/2" in final
    assert "return/pre -38.00  return/post -8.00  31,234 env steps/s" in final
    assert "a note [bold]as is[/bold]" in final
    assert final.index("a note") < final.rindex("iteration 2/2")


def test_the_live_display_ends_with_an_exception(run_dir: Path) -> None:
    output = terminal()
    tracker = open_tracker(run_dir, {}, 2, wandb="disabled", console=output)
    tracker.log(row(1))
    with pytest.raises(ValueError, match="iteration"), tracker:
        tracker.log({})
    assert "\x1b[?25h" in shown(output)


def test_a_pipe_is_no_terminal_even_where_colors_are_forced(run_dir: Path) -> None:
    program = (
        "from metarl.tracking.tracker import Tracker; import sys\n"
        "from metarl.config.loading import config_from\n"
        "own = {'run_dir': sys.argv[1], 'iterations': 1, 'tracking': {'wandb': 'disabled'}}\n"
        "with Tracker(config_from(own)) as tracker:\n"
        "    tracker.log({'iteration': 1, 'env_steps': 5, 'return/pre': 1.0})\n"
        "print('wandb' in sys.modules)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", program, str(run_dir)],
        cwd=ROOT,
        env={**os.environ, "FORCE_COLOR": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    progress, imported = result.stdout.splitlines()
    assert progress == "iteration 1/1  5 env steps  return/pre 1.00  0:00:00 left"
    assert imported == "False"  # wandb takes half a second to import: never when it is disabled


def test_a_terminal_that_is_gone_does_not_stop_a_run(run_dir: Path) -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

        flush = write  # type: ignore[assignment]

    output = Console(file=Gone(), force_terminal=True, width=100)
    with open_tracker(run_dir, {}, 2, wandb="disabled", console=output) as tracker:
        for iteration in (1, 2):
            tracker.log(row(iteration))
            tracker.print("a note")
    assert len(lines(run_dir / "metrics.jsonl")) == 2


def test_a_closed_pipe_does_not_stop_a_run(run_dir: Path) -> None:
    class Closed(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    output = Console(file=Closed(), force_terminal=False)
    with open_tracker(run_dir, {}, 2, wandb="disabled", console=output) as tracker:
        tracker.log(row(1))
        tracker.log(row(2))
    assert len(lines(run_dir / "metrics.jsonl")) == 2


# ---------------------------------------------------------------------------------------- offline


def test_an_offline_run_read_back_holds_what_was_logged(
    run_dir: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from PIL import Image

    Image.new("RGB", (4, 4)).save(run_dir / "curve.png")
    (run_dir / "checkpoint").mkdir()
    (run_dir / "checkpoint" / "parameters.pt").write_bytes(b"weights")
    config = {"seed": 7, "algorithm": {"name": "maml", "inner_lr": (0.5, 0.25)}}
    output = plain_console()
    with open_tracker(
        run_dir, config, 2, wandb="offline", project="p", tags=("t",), console=output
    ) as tracker:
        tracker.log(row(1, loss=float("nan")))
        tracker.log_validation(
            {"iteration": 1, "env_steps": 1000, "return/post": -3.5, "returns": [[-4.0]]},
            Media(
                {"adaptation": run_dir / "curve.png"},
                {"returns": (("task", "pre", "post"), [[0, -40.0, -3.5], [1, -39.0, -4.0]])},
            ),
        )
        tracker.log(row(2))
        tracker.log_checkpoint(run_dir / "checkpoint", 2)
        tracker.log_evaluation("held_out", {"delta": 30.5, "verdict": "helps"}, Media(), 2000)
        wandb_id = tracker.wandb_id

    assert warnings(output) == []
    assert lines(run_dir / "metrics.jsonl")[1] == row(2)
    (path,) = wandb_files(run_dir)
    assert str(path.parent) in shown(output)
    records = read_wandb(path)
    (run,) = [r.run for r in records if r.WhichOneof("record_type") == "run"]
    assert (run.run_id, run.project, run.display_name) == (wandb_id, "p", NAME)
    assert (run.run_group, list(run.tags)) == (NAME, ["t"])
    logged = {item.key: json.loads(item.value_json) for item in run.config.update}
    assert logged["seed"] == 7
    assert logged["algorithm"].items() >= {"name": "maml", "inner_lr": [0.5, 0.25]}.items()
    axes = [r.metric for r in records if r.WhichOneof("record_type") == "metric"]
    assert [m.step_metric for m in axes if m.glob_name == "*"] == ["env_steps"]

    first, validation, second, evaluation = history(records)
    own = ("_step", "_timestamp", "_runtime")
    assert {k: v for k, v in first.items() if k not in own} == row(1)
    assert {k: v for k, v in second.items() if k not in own} == row(2)
    assert validation["validation/return_post"] == -3.5
    assert validation["env_steps"] == 1000
    assert evaluation["evaluation/held_out/delta"] == 30.5
    assert evaluation["env_steps"] == 2000
    image = path.parent / "files" / validation["validation/adaptation/path"]
    assert image.read_bytes() == (run_dir / "curve.png").read_bytes()
    table = json.loads((path.parent / "files" / validation["validation/returns/path"]).read_text())
    assert table["columns"] == ["task", "pre", "post"]
    assert table["data"] == [[0, -40.0, -3.5], [1, -39.0, -4.0]]
    artifacts = [r.artifact for r in records if r.WhichOneof("record_type") == "artifact"]
    names = [artifact.name for artifact in artifacts if artifact.type == "model"]
    assert names == [f"checkpoint-{wandb_id}"]
    # Nothing of W&B's lies outside the run folder, nor on the console.
    assert capfd.readouterr() == ("", "")
    assert [p.name for p in Path(os.environ["HOME"]).rglob("*") if p.is_file()] == []
    assert "WANDB_DATA_DIR" not in os.environ


def test_auto_without_a_key_is_offline_without_a_question(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Asked(io.StringIO):
        def isatty(self) -> bool:
            return True

        def readline(self, *_: Any) -> str:
            raise AssertionError("a prompt")

        read = readline  # type: ignore[assignment]

    monkeypatch.setattr(sys, "stdin", Asked())
    output = plain_console()
    with open_tracker(run_dir, {}, 1, wandb="auto", console=output) as tracker:
        tracker.log(row(1))
    assert warnings(output) == []
    assert len(wandb_files(run_dir)) == 1
    assert json.loads((run_dir / "wandb.json").read_text())["mode"] == "offline"


def test_segments_of_one_second_are_all_set_aside(tmp_path: Path) -> None:
    for _ in range(3):
        (tmp_path / "offline-run-20261126_120000-id").mkdir()
        (tmp_path / "offline-run-20261126_120000-id" / "run-id.wandb").touch()
        set_aside(tmp_path, "id")
    assert len(list(tmp_path.glob("superseded/*/run-id.wandb"))) == 3


def test_the_last_segment_of_an_offline_run_holds_all_of_it(run_dir: Path) -> None:
    """After a crash, and a resume from an earlier iteration: each once, in one run to upload."""
    ids = set()
    for first, last in ((1, 4), (3, 5), (6, 6)):  # iterations 3 and 4 are computed again
        resume = first > 1
        for name in ("metrics.jsonl", "validation.jsonl"):
            truncate_metrics(run_dir / name, first - 1)
        with open_tracker(
            run_dir, {}, 6, wandb="offline", resume=resume, console=plain_console()
        ) as tracker:
            ids.add(tracker.wandb_id)
            for i in range(first, last + 1):
                tracker.log(row(i))
                if i % 2 == 0:
                    means = {"iteration": i, "env_steps": 1000 * i, "return/post": -3.0 - i}
                    tracker.log_validation(means)
    assert len(ids) == 1
    (path,) = wandb_files(run_dir)  # the only one that `wandb sync` finds
    assert len(list(run_dir.glob("wandb/superseded/offline-run-*/*.wandb"))) == 2
    logged = history(read_wandb(path))
    own = ("_step", "_timestamp", "_runtime")
    iterations = [{k: v for k, v in x.items() if k not in own} for x in logged if "iteration" in x]
    assert iterations == [row(i) for i in range(1, 7)]
    validated = [x["env_steps"] for x in logged if "validation/return_post" in x]
    assert validated == [2000, 4000, 6000]
    assert [x["_step"] for x in logged] == list(range(9))


# ----------------------------------------------------------------------------------------- online


def test_online_without_a_key_goes_offline_with_one_warning(run_dir: Path) -> None:
    output = plain_console()
    with open_tracker(run_dir, {}, 1, wandb="online", console=output) as tracker:
        tracker.log(row(1))
    (warning,) = warnings(output)
    assert "no API key" in warning
    assert len(wandb_files(run_dir)) == 1


def test_a_key_and_no_network_goes_offline_with_one_warning(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    output = plain_console()
    start = time.monotonic()
    with open_tracker(run_dir, {}, 1, wandb="auto", console=output) as tracker:
        tracker.log(row(1))
    assert time.monotonic() - start < 10
    (warning,) = warnings(output)
    assert "no connection to http://127.0.0.1:9" in warning
    assert capfd.readouterr() == ("", "")
    assert history(read_wandb(wandb_files(run_dir)[0]))[0]["return/post"] == -9.0


@pytest.mark.usefixtures("tarpit")
def test_a_server_that_never_answers_is_waited_for_with_a_limit(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setattr(wandb_run, "INIT_TIMEOUT_S", 2.0)
    output = plain_console()
    start = time.monotonic()
    with open_tracker(run_dir, {}, 1, wandb="auto", console=output) as tracker:
        tracker.log(row(1))
    assert time.monotonic() - start < 15
    assert len(warnings(output)) == 1
    (offline,) = run_dir.glob("wandb/offline-run-*/*.wandb")
    assert history(read_wandb(offline))[0]["return/post"] == -9.0


class FakeRun:
    resumed = False
    summary: ClassVar[dict[str, Any]] = {}

    def __init__(self, folder: Path, **options: Any) -> None:
        self.logged: list[dict[str, Any]] = []
        self.options = options
        self.id = options["id"]
        self.url = f"https://example.org/{self.id}"
        self.dir = str(folder / "files")
        self.artifacts: list[int] = []
        self.exit_code: int | None = None

    def define_metric(self, name: str, step_metric: str | None = None) -> None: ...

    def log(self, payload: dict[str, Any]) -> None:
        self.logged.append(payload)

    def log_artifact(self, artifact: Any, aliases: list[str]) -> None:
        self.artifacts.append(artifact.metadata["iteration"])

    def finish(self, exit_code: int) -> None:
        self.exit_code = exit_code


@pytest.fixture
def online(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> list[FakeRun]:
    """The runs that were begun on a server that is always there."""
    import wandb

    runs: list[FakeRun] = []

    def init(**options: Any) -> FakeRun:
        runs.append(FakeRun(run_dir, **options))
        return runs[-1]

    settings = SimpleNamespace(base_url="https://example.org", api_key=None)
    monkeypatch.setattr(wandb, "init", init)
    monkeypatch.setattr(wandb, "setup", lambda _: SimpleNamespace(settings=settings))
    monkeypatch.setattr(wandb_run, "connect", lambda url: None)
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    return runs


def test_a_resumed_online_run_keeps_its_id(run_dir: Path, online: list[FakeRun]) -> None:
    for resume, mode in ((False, "auto"), (True, "offline"), (True, "online"), (False, "auto")):
        open_tracker(run_dir, {}, 1, wandb=mode, resume=resume, console=plain_console()).finish()  # type: ignore[arg-type]
    first, segment, resumed, new = online
    assert [run.options["mode"] for run in online] == ["online", "offline", "online", "online"]
    assert (resumed.id, resumed.options["resume"]) == (first.id, "allow")
    assert first.options["resume"] is None
    assert segment.id != first.id  # whole in itself, beside the one online
    assert new.id != first.id  # another run in the folder starts afresh
    assert {run.options["group"] for run in online} == {NAME}


def test_a_resumed_online_run_is_told_what_it_lacks(
    run_dir: Path, online: list[FakeRun], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither what it has already, from beyond the checkpoint, nor less: a crash loses the last."""

    def segment(iterations: range, resume: bool) -> list[Any]:
        with open_tracker(run_dir, {}, 9, resume=resume, console=plain_console()) as tracker:
            for i in iterations:
                tracker.log(row(i))
                tracker.log_validation({"iteration": i, "env_steps": 1000 * i, "return/post": -3.0})
        return [x.get("iteration", x.get("validation/last_iteration")) for x in online[-1].logged]

    assert segment(range(1, 6), resume=False) == [1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    monkeypatch.setattr(FakeRun, "resumed", True)
    for known, last_validation, told in ((4, 3, [4, 5, 5]), (2, 2, [3, 3, 4, 4, 5, 5])):
        there = {"iteration": known, "validation/last_iteration": last_validation}
        monkeypatch.setattr(FakeRun, "summary", there)
        for name in ("metrics.jsonl", "validation.jsonl"):
            truncate_metrics(run_dir / name, 3)
        assert segment(range(4, 6), resume=True) == told


def test_a_sweep_names_and_numbers_its_runs_itself(
    run_dir: Path, online: list[FakeRun], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_SWEEP_ID", "s")
    monkeypatch.setenv("WANDB_RUN_ID", "given")
    open_tracker(run_dir, {}, 1, console=plain_console()).finish()
    options = online[0].options
    assert (options["id"], options["name"], options["group"]) == ("given", None, None)


def test_checkpoints_go_up_at_a_bounded_rate_and_the_last_at_the_end(
    run_dir: Path, online: list[FakeRun], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr(wandb_run.time, "monotonic", lambda: clock[0])
    checkpoint = run_dir / "parameters.pt"
    checkpoint.write_bytes(b"weights")
    with open_tracker(run_dir, {}, 1, console=plain_console()) as tracker:
        for iteration in range(1, 26):
            clock[0] += 60.0
            tracker.log_checkpoint(checkpoint, iteration)
    assert online[0].artifacts == [1, 11, 21, 25]


@pytest.mark.parametrize(
    ("error", "code"), [(None, 0), (KeyboardInterrupt(), 130), (SystemExit(2), 2), (OSError(), 1)]
)
def test_wandb_learns_how_the_run_ended(
    run_dir: Path, online: list[FakeRun], error: BaseException | None, code: int
) -> None:
    with contextlib.suppress(BaseException), open_tracker(run_dir, {}, 1, console=plain_console()):
        if error is not None:
            raise error
    assert online[0].exit_code == code


def test_keys_are_found_where_wandb_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    url = "https://api.wandb.ai"
    assert not connection.has_key(url, None)
    assert connection.has_key(url, KEY)
    Path(os.environ["NETRC"]).write_text(f"machine api.wandb.ai login user password {KEY}\n")
    assert connection.has_key(url, None)
    assert not connection.has_key("https://wandb.example.org", None)
    Path(os.environ["NETRC"]).write_text("machine broken broken broken\n")
    assert not connection.has_key(url, None)
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    assert connection.has_key(url, None)


@pytest.mark.parametrize(
    ("mode", "disabled", "meant", "warned"),
    [
        ("disabled", "", "disabled", []),
        (" OFFLINE ", "", "offline", []),
        ("Online", "false", "online", []),
        ("dryrun", "", "offline", []),
        ("", "true", "disabled", []),
        ("online", "1", "disabled", []),
        ("", "", "auto", []),
        ("nonsense", "", "auto", ["WANDB_MODE is 'nonsense', but must be online, offline or"]),
    ],
)
def test_wandb_mode_decides_where_the_config_leaves_it_open(
    mode: str, disabled: str, meant: str, warned: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", mode)
    monkeypatch.setenv("WANDB_DISABLED", disabled)
    said: list[str] = []
    assert connection.requested_mode("auto", said.append) == meant
    assert [line[: len(part)] for line, part in zip(said, warned, strict=True)] == warned
    assert connection.requested_mode("offline", said.append) == "offline"


def test_variables_that_wandb_would_stumble_over(
    run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One sentence each, and W&B goes on; afterwards they are as they were."""
    given = {"WANDB_MODE": "OFFLINE!", "WANDB_DIR": "/proc/none", "WANDB_DATA_DIR": "/proc/none"}
    given |= {"WANDB_CACHE_DIR": str(run_dir / "file")}
    (run_dir / "file").touch()
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    output = plain_console()
    with open_tracker(run_dir, {}, 1, wandb="offline", console=output) as tracker:
        tracker.log(row(1))
        tracker.log_checkpoint(run_dir / "file", 1)
    said = warnings(output)
    for line, part in zip(
        said,
        (
            "WANDB_MODE is 'OFFLINE!', but must be online, offline or disabled",
            "WANDB_DATA_DIR is /proc/none, which cannot be written (No such file or directory)",
            f"WANDB_CACHE_DIR is {run_dir / 'file'}, which cannot be written (File exists); W&B",
        ),
        strict=True,
    ):
        assert part in line
    (path,) = wandb_files(run_dir)
    records = read_wandb(path)
    assert history(records)[0]["return/post"] == -9.0
    assert [r.WhichOneof("record_type") for r in records].count("artifact") == 1
    assert {name: os.environ[name] for name in given} == given


# --------------------------------------------------------------------------------------- failures


def test_a_killed_process_costs_one_warning(run_dir: Path) -> None:
    output = plain_console()
    with open_tracker(run_dir, {}, 20, wandb="offline", console=output) as tracker:
        tracker.log(row(1))
        os.kill(core_pid(), signal.SIGKILL)
        for iteration in range(2, 21):
            tracker.log(row(iteration))
            time.sleep(0.01)
        start = time.monotonic()
    assert time.monotonic() - start < 5
    (warning,) = warnings(output)
    assert "switched off" in warning
    assert lines(run_dir / "metrics.jsonl") == [row(iteration) for iteration in range(1, 21)]


@pytest.mark.slow
def test_a_stopped_process_is_waited_for_with_a_limit(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wandb_run, "FINISH_TIMEOUT_S", {"offline": 1.0})
    output = plain_console()
    with open_tracker(run_dir, {}, 3, wandb="offline", console=output) as tracker:
        pid = core_pid()
        os.kill(pid, signal.SIGSTOP)
        for iteration in range(1, 4):
            tracker.log(row(iteration))
        start = time.monotonic()
    elapsed = time.monotonic() - start
    os.kill(pid, signal.SIGKILL)
    assert elapsed < 15
    assert len(warnings(output)) == 1
    assert len(lines(run_dir / "metrics.jsonl")) == 3


def test_a_file_in_place_of_the_folder_costs_one_warning(run_dir: Path) -> None:
    (run_dir / "wandb").write_text("in the way")
    output = plain_console()
    with open_tracker(run_dir, {}, 2, wandb="offline", console=output) as tracker:
        tracker.log(row(1))
        tracker.log(row(2))
        assert tracker.wandb_id is None
    assert len(warnings(output)) == 1
    assert len(lines(run_dir / "metrics.jsonl")) == 2


def test_a_full_folder_costs_one_warning(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = plain_console()
    with open_tracker(run_dir, {}, 3, wandb="offline", console=output) as tracker:
        tracker.log(row(1))
        write_bytes = Path.write_bytes

        def full(path: Path, data: bytes) -> int:
            if run_dir / "wandb" in path.parents:
                raise OSError(errno.ENOSPC, "No space left on device")
            return write_bytes(path, data)

        monkeypatch.setattr(Path, "write_bytes", full)
        tracker.log(row(2))
        tracker.log(row(3))
    (warning,) = warnings(output)
    assert "No space left on device" in warning
    assert len(lines(run_dir / "metrics.jsonl")) == 3


def test_an_exception_in_wandb_costs_one_warning(run_dir: Path) -> None:
    output = plain_console()
    with open_tracker(run_dir, {}, 2, wandb="offline", console=output) as tracker:
        record = {"iteration": 1, "env_steps": 1000}
        tracker.log_validation(record, Media({"missing": run_dir / "missing.png"}))
        tracker.log_validation(record, Media({"missing": run_dir / "missing.png"}))
        tracker.log(row(1))
    assert len(warnings(output)) == 1
    assert len(lines(run_dir / "metrics.jsonl")) == 1


def test_a_call_that_hangs_costs_one_wait_and_one_warning(
    run_dir: Path, online: list[FakeRun], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wandb_run, "CALL_TIMEOUT_S", 0.2)
    monkeypatch.setattr(FakeRun, "log", lambda self, payload: time.sleep(30))
    output = plain_console()
    start = time.monotonic()
    with open_tracker(run_dir, {}, 5, console=output) as tracker:
        for iteration in range(1, 6):
            tracker.log(row(iteration))
    assert time.monotonic() - start < 5
    (warning,) = warnings(output)
    assert "no answer within 0.2 s" in warning


def test_an_attempt_to_end_the_program_is_an_exception_like_others(
    run_dir: Path, online: list[FakeRun], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeRun, "log", lambda self, payload: sys.exit(3))
    output = plain_console()
    with open_tracker(run_dir, {}, 1, console=output) as tracker:
        tracker.log(row(1))
    assert len(warnings(output)) == 1


# ------------------------------------------------------------------------------ meta.json, sweep


def test_metadata_describes_the_run_in_builtins() -> None:
    described = metadata("cpu", 2, 4, wandb_id="abc")
    assert json.loads(json.dumps(described)) == described
    versions = described["versions"]
    assert versions["torch"] == torch.__version__
    assert versions["numpy"] == np.__version__
    assert all(versions[name] for name in ("metarl", "python", "gymnasium", "mujoco"))
    assert versions["stable_baselines3"]
    assert (described["torch_threads"], described["physics_threads"]) == (2, 4)
    assert (described["device"], described["wandb_id"]) == ("cpu", "abc")
    assert described["device_name"] == described["processor"]
    assert described["platform"] == platform.system()
    assert platform.release() not in json.dumps(described)


def test_the_commit_is_that_of_the_tree_that_holds_the_package(tmp_path: Path) -> None:
    def git(*arguments: str) -> str:
        identity = ["-c", "user.name=n", "-c", "user.email=e"]
        return subprocess.run(
            ["git", "-C", str(tmp_path), *identity, *arguments],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()

    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    assert _git_state(package) is None
    git("init")
    assert _git_state(package) is None  # inside a repository that does not hold it
    git("add", ".")
    git("commit", "-m", "c")
    assert _git_state(package) == {"commit": git("rev-parse", "HEAD"), "dirty": False}
    (package / "__init__.py").write_text("changed = True\n")
    assert _git_state(package) == {"commit": git("rev-parse", "HEAD"), "dirty": True}


def test_the_sweep_runs_the_program_in_a_folder_of_its_own(tmp_path: Path) -> None:
    """What `wandb agent` would start, with a stand-in that prints the words it was given."""
    from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args

    from metarl.algorithms.settings.gradient import MAMLSettings
    from metarl.config.validation import split_options

    sweep = yaml.safe_load((ROOT / "configs" / "sweep_maml_navigation.yaml").read_text())
    assert sweep["program"] == "train.py"
    assert sweep["method"] in ("bayes", "random")
    assert sweep["metric"] == {"name": "validation/return_step_3", "goal": "maximize"}
    values = {
        name: spec["values"][0] if "values" in spec else spec["min"]
        for name, spec in sweep["parameters"].items()
    }
    assert "algorithm.inner_lr" in values
    for name in values:
        assert name == "seed" or name.removeprefix("algorithm.") in MAMLSettings.model_fields

    words = create_sweep_command_args({"args": {k: {"value": v} for k, v in values.items()}})
    macros = {"env": ["/usr/bin/env"], "args": words["args"], "program": [sweep["program"]]}
    command: list[str] = []
    for chunk in create_sweep_command(sweep["command"]):
        command += macros[chunk[2:-1]] if chunk.startswith("${") else [chunk]
    stand_in = tmp_path / "python"
    stand_in.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    stand_in.chmod(0o755)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "WANDB_RUN_ID": "x1y2"}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    program, *given = result.stdout.splitlines()
    assert program == "train.py"
    options = {option.name: option.text for option in split_options(given)}
    assert options.pop("config") == "configs/maml_navigation.yaml"
    assert options.pop("run_dir") == "runs/sweep/x1y2"
    assert {name: float(str(text)) for name, text in options.items()} == values
