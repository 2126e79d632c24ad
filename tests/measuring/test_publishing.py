"""What follows an evaluation: `--video`, and copies to the W&B run that it belongs to."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import evaluate
import train
from metarl.envs import rendering
from metarl.envs.rendering import RendererMissing, backend
from metarl.measuring import publishing
from metarl.report import evaluation_plots, figures, training_plots
from metarl.report.page import is_complete
from tests.programs import files, write_config
from tests.tracking.test_tracking import (
    FakeRun,
    _no_account,  # noqa: F401  # for every test here
    history,
    online,  # noqa: F401
    read_wandb,
    run_dir,  # noqa: F401
    wandb_files,
)

AT_END = {"at_end": True}
EVALUATION = "evaluation/held_out/"


def trained(folder: Path, **changes: Any) -> Path:
    config = write_config(folder, **{"iterations": 1, **changes})
    assert train.main(["--config", str(config), "--run-dir", str(folder / "run")]) == 0
    return folder / "run"


@pytest.fixture(scope="module")
def cheetah(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained HalfCheetah of short episodes."""
    env = {"name": "half_cheetah_vel", "horizon": 12}
    return trained(tmp_path_factory.mktemp("cheetah"), env=env)


def report_of(output: Path) -> dict[str, bytes]:
    """What an evaluation wrote, the video apart."""
    return {k: v for k, v in files(output, "").items() if Path(k).stem != "adaptation"}


def test_a_video_of_the_cheetah_changes_no_number(
    cheetah: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        backend()
    except RendererMissing as error:
        pytest.skip(str(error))
    before = files(cheetah)
    with_video, without = tmp_path / "with", tmp_path / "without"
    words = ["--run", str(cheetah)]
    assert evaluate.main([*words, "--output", str(with_video), "--video"]) == 0
    assert f"Video: {with_video / 'adaptation.gif'} and adaptation.mp4" in capsys.readouterr().out
    assert evaluate.main([*words, "--output", str(without)]) == 0
    assert report_of(with_video) == report_of(without)
    assert files(cheetah) == before
    assert not (without / "adaptation.gif").exists()
    with Image.open(with_video / "adaptation.gif") as gif:
        assert gif.n_frames == 7  # 12 steps and the start, every second one
        assert gif.size == (664, 620)
        gif.seek(6)
        last = gif.convert("RGB")
    # Below the text, the pictures of three tasks before and after are six different ones.
    panels = [
        last.crop((8 + 328 * column, 80 + 188 * row, 328 + 328 * column, 210 + 188 * row)).tobytes()
        for row in range(3)
        for column in range(2)
    ]
    assert len(set(panels)) == 6


def test_without_a_renderer_nothing_is_measured(
    cheetah: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(rendering, "backend", backend.__wrapped__)
    monkeypatch.setattr(rendering, "_works", lambda name: False)
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    output = tmp_path / "out"
    assert evaluate.main(["--run", str(cheetah), "--output", str(output), "--video"]) == 1
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    assert "MuJoCo cannot draw off screen" in captured.err
    assert "libegl1" in captured.err
    assert "Nothing was measured." in captured.err
    assert not output.exists()


def test_an_environment_that_cannot_be_shown_is_refused_with_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write_config(tmp_path, iterations=1)
    lines = config.read_text().replace("  horizon: 10\n", "")
    config.write_text(lines.replace("point_navigation", "tests.envs.user_envs:Reach"))
    run = tmp_path / "run"
    assert train.main(["--config", str(config), "--run-dir", str(run)]) == 0
    assert evaluate.main(["--run", str(run), "--video", "--trust-code"]) == 2
    assert (
        "Reach cannot be shown: --video needs the render mode rgb_array" in capsys.readouterr().err
    )
    assert not (run / "evaluation" / "held_out").exists()


def test_what_is_needed_later_is_checked_before_the_measurement(
    cheetah: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = tmp_path / "run"
    shutil.copytree(cheetah, run)
    monkeypatch.setattr(publishing, "measure", None)
    (run / "evaluation").write_text("a file in the way")
    assert evaluate.main(["--run", str(run)]) == 1
    assert "Choose another place with --output." in capsys.readouterr().err
    (run / "metrics.jsonl").write_text("{\n{\n")
    assert evaluate.main(["--run", str(run), "--output", str(tmp_path / "out")]) == 2
    assert "metrics.jsonl cannot be read" in capsys.readouterr().err


def test_a_picture_that_cannot_be_drawn_costs_a_warning(
    cheetah: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise RuntimeError("no\nfont")

    monkeypatch.setattr(figures, "new_figure", fails)
    for module in (evaluation_plots, training_plots):
        if hasattr(module, "new_figure"):
            monkeypatch.setattr(module, "new_figure", fails)
    monkeypatch.setattr(publishing, "write_video", fails)
    monkeypatch.setattr(publishing, "check_pictures", lambda env: None)
    argv = ["--run", str(cheetah), "--output", str(tmp_path / "out"), "--video"]
    assert evaluate.main([*argv, "--episodes", "2"]) == 0
    said = capsys.readouterr().err
    assert "warning: the adaptation curve cannot be drawn; all else is there. Run" in said
    assert "warning: the video cannot be drawn; all else is there. RuntimeError: no font" in said
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "evaluation.json",
        "report.md",
        "report.html",
    }
    assert is_complete(tmp_path / "out")


def test_a_report_without_its_end_is_no_report(tmp_path: Path) -> None:
    (tmp_path / "report.md").write_text("![a](curve.png)\n")
    (tmp_path / "report.html").write_text("<html></html>\n")
    assert not is_complete(tmp_path)
    (tmp_path / "curve.png").touch()
    assert is_complete(tmp_path)
    (tmp_path / "report.html").write_text("<html></ht")
    assert not is_complete(tmp_path)


# --- Weights & Biases -------------------------------------------------------------------------


def logged(folder: Path) -> tuple[Any, dict[str, Any], Path]:
    """Of the one W&B run in a folder: its record, the evaluation's row, where its files are."""
    (path,) = wandb_files(folder)
    records = read_wandb(path)
    (run,) = [r.run for r in records if r.WhichOneof("record_type") == "run"]
    (row,) = [r for r in history(records) if any(key.startswith(EVALUATION) for key in r)]
    return run, row, path.parent / "files"


def check_row(row: dict[str, Any], place: Path, report: Path) -> None:
    """Numbers, tables and plots are those of the report."""
    content = json.loads((report / "evaluation.json").read_text())
    assert row["env_steps"] == 180  # of training: 3 rounds × 2 tasks × 3 episodes × 10 steps
    for k, mean in enumerate(content["mean"]):
        assert row[f"{EVALUATION}return_step_{k}"] == pytest.approx(mean)

    def table(name: str) -> dict[str, Any]:
        content: dict[str, Any] = json.loads((place / row[f"{EVALUATION}{name}/path"]).read_text())
        return content

    summary = table("summary")
    column = summary["columns"].index
    assert [r[column("mean")] for r in summary["data"]] == pytest.approx(content["mean"])
    lows = [r[column("ci95_low")] for r in summary["data"]]
    assert lows == pytest.approx([low for low, _ in content["ci95"]])
    assert [r[column("episodes_used")] for r in summary["data"]] == content["episodes_used"]
    returns = table("returns")
    assert returns["columns"] == ["goal_x", "goal_y", "step_0", "step_1"]
    assert len(returns["data"]) == 40
    assert returns["data"][7] == pytest.approx(
        [*content["tasks"][7], content["returns"][0][7], content["returns"][1][7]]
    )
    assert [row[0] for row in table("references")["data"]] == ["random", "optimum"]
    plot = place / row[f"{EVALUATION}adaptation_curve/path"]
    assert plot.read_bytes() == (report / "adaptation_curve.png").read_bytes()


def test_an_evaluation_is_copied_to_the_run_at_the_end_of_training_and_afterwards(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = trained(tmp_path, tracking={"wandb": "offline"}, evaluation=AT_END)
    at_end, row, place = logged(run)
    report = run / "evaluation" / "held_out"
    check_row(row, place, report)

    before = files(run)
    capsys.readouterr()
    assert evaluate.main(["--run", str(run), "--video", "--seed", "3"]) == 0
    captured = capsys.readouterr()
    assert "warning" not in captured.out + captured.err
    assert "W&B: offline; upload with: wandb sync" in captured.out
    assert files(run) == before  # its segment lies with the evaluation
    afterwards, row, place = logged(report)
    assert afterwards.run_id != at_end.run_id
    assert (afterwards.run_group, afterwards.project) == (at_end.run_group, at_end.project)
    check_row(row, place, report)
    video = place / row[f"{EVALUATION}adaptation/path"]
    assert video.read_bytes() == (report / "adaptation.mp4").read_bytes()
    assert "WANDB_DATA_DIR" not in os.environ


def test_an_online_run_is_gone_on_with(
    run_dir: Path,  # noqa: F811
    online: list[FakeRun],  # noqa: F811
    tmp_path: Path,
) -> None:
    run = trained(tmp_path, tracking={"wandb": "auto"})
    assert evaluate.main(["--run", str(run)]) == 0
    first, second = online
    assert second.id == first.id
    assert second.options["resume"] == "allow"
    assert second.exit_code == 0


def test_a_run_without_wandb_stays_without(tmp_path: Path) -> None:
    run = trained(tmp_path)
    assert evaluate.main(["--run", str(run)]) == 0
    assert not list(run.rglob("wandb*"))


def test_wandb_that_fails_costs_one_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = trained(tmp_path, tracking={"wandb": "offline"})
    (run / "evaluation" / "held_out").mkdir(parents=True)
    (run / "evaluation" / "held_out" / "wandb").write_text("in the way")
    capsys.readouterr()
    assert evaluate.main(["--run", str(run)]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert captured.out.count("warning: W&B is switched off") == 1
    assert (run / "evaluation" / "held_out" / "report.html").exists()
