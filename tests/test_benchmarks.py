"""Benchmarks: the limit they compare with is honest, and each writes what it promises."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import (
    crossover,
    evaluation,
    few_shot,
    growth,
    measurement,
    memory,
    memory_cores,
    meta_iteration,
    metagenrl,
    pearl,
    physics,
    rl2,
    rollout,
    setting,
    size,
    update,
)
from metarl import envs
from metarl.errors import UserError
from metarl.maths.params import stack
from metarl.networks.mlp import PolicyActor
from metarl.random import Key
from tests.programs import write_config

TINY = ["--tasks", "2", "--episodes", "2", "--horizon", "6", "--width", "4", "--threads", "1"]
PARTS = {"reference", "rollout", "adapt", "update", "iteration"}


@pytest.fixture(autouse=True)
def _torch_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def tiny_setting(env: str = "half_cheetah", **changes: Any) -> setting.Setting:
    sizes: dict[str, Any] = {"tasks": 2, "episodes": 3, "horizon": 8, "width": 4}
    rest = {"activation": "tanh", "adaptation_steps": 1, "curvature_every": 1, "threads": 1}
    return setting.Setting(**{"env": env, "device": "cpu", **sizes, **rest, **changes})


def measured(program: Any, tmp_path: Path, *argv: str, tiny: bool = True) -> dict[str, Any]:
    """The JSON that a benchmark writes."""
    path = tmp_path / "measured.json"
    assert program.run([*(TINY if tiny else []), *argv, "--json", str(path)]) == 0
    record: dict[str, Any] = json.loads(path.read_text())
    assert record["machine"]["cores"] >= 1
    assert record["machine"]["cpu"]
    assert {"torch", "mujoco", "numpy"} <= record["machine"]["versions"].keys()
    assert record["command"].startswith(f"python -m benchmarks.{record['benchmark']} ")
    assert record["settings"]["threads"] == 1
    assert record["rows"]
    return record


# The limit


def record_rollout(env_name: str, threads: int = 1) -> tuple[Any, physics.Recording]:
    size = tiny_setting(env_name, threads=threads)
    worker = size.worker()
    maml = size.maml(worker)
    actor = PolicyActor(maml.policy, stack(maml.params, 2))
    worker.collect(actor, worker.sample_tasks(2, Key(3)), 3, Key(3))
    return worker.env(6), worker.recordings[0]


@pytest.mark.parametrize(
    ("name", "threads"), [("half_cheetah", 1), ("half_cheetah", 2), ("walker", 1), ("ant", 1)]
)
def test_the_replayed_physics_ends_in_the_very_state_of_the_rollout(
    name: str, threads: int
) -> None:
    env, recording = record_rollout(name, threads)
    qpos, qvel = env._qpos.copy(), env._qvel.copy()
    assert np.abs(recording.actions()).max() > 1.0  # some are clipped
    env.set_tasks(env.task_distribution.held_out()[:6])
    env.reset(seed=99)
    assert not np.array_equal(env._qpos, qpos)
    assert physics.replay(env, recording) > 0.0
    np.testing.assert_array_equal(env._qpos, qpos)
    np.testing.assert_array_equal(env._qvel, qvel)


def test_navigation_replayed_ends_where_the_rollout_did() -> None:
    env, recording = record_rollout("navigation")
    position = env._position.copy()
    assert physics.replay(env, recording) > 0.0
    np.testing.assert_array_equal(env._position, position)


def test_lanes_that_ended_early_are_not_stepped_by_the_replay() -> None:
    env = envs.make("half_cheetah_vel", 2, num_threads=1, horizon=4)
    actions = Key(0).generator("action").uniform(-1, 1, (4, 2, 6))
    env.reset(seed=1)
    after_two = None
    for t, action in enumerate(actions):
        env.step(action)
        if t == 1:
            after_two = env._qpos[1].copy()  # type: ignore[attr-defined]
    whole = env._qpos[0].copy()  # type: ignore[attr-defined]
    env.reset(seed=1)
    valid = np.array([[True, True], [True, True], [True, False], [True, False]])
    physics.batch_seconds(env, actions, valid)  # type: ignore[arg-type]
    np.testing.assert_array_equal(env._qpos[0], whole)  # type: ignore[attr-defined]
    np.testing.assert_array_equal(env._qpos[1], after_two)  # type: ignore[attr-defined]


def test_every_meta_iteration_of_a_benchmark_plays_the_same_episodes() -> None:
    benchmark = meta_iteration.MetaIteration(tiny_setting())
    benchmark.parts()
    first = [recording.trajectory for recording in benchmark.worker.recordings]
    benchmark.bare()
    benchmark.parts()
    again = [recording.trajectory for recording in benchmark.worker.recordings]
    assert len(first) == len(again) == 2
    for a, b in zip(first, again, strict=True):
        assert torch.equal(a.actions, b.actions)
        assert torch.equal(a.observations, b.observations)


# Measuring


def test_a_ratio_is_to_the_mean_of_the_reference_before_and_after() -> None:
    references = iter([100.0, 1.0, 3.0, 5.0, 7.0, 9.0])  # the first warms up
    order = []

    def reference() -> float:
        order.append("r")
        return next(references)

    def part(name: str, seconds: float) -> Any:
        def call() -> dict[str, float]:
            order.append(name)
            return {"x": seconds}

        return call

    calls = {"a": part("a", 4.0), "b": part("b", 8.0)}
    rows = measurement.interleave(reference, calls, repeats=2)
    assert "".join(order) == "ab" + "rr" + "arbrarbr"
    assert [row["reference"] for row in rows] == [2.0, 4.0, 6.0, 8.0]
    summary = measurement.summarize([row for row in rows if row["name"] == "a"])
    assert summary["reference"] == {"seconds": 4.0}
    assert summary["x"] == pytest.approx(
        {"seconds": 4.0, "ratio": (2 + 2 / 3) / 2, "ratio_low": 2 / 3, "ratio_high": 2.0}
    )


def test_a_json_file_in_no_folder_is_refused_before_anything_is_measured(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--json .*nowhere"):
        meta_iteration.run(["--json", str(tmp_path / "nowhere" / "x.json")])


def test_an_unknown_option_is_refused() -> None:
    with pytest.raises(SystemExit) as ended:
        update.run(["--curvature", "5"])
    assert ended.value.code == 2


# The benchmarks


def test_rollout(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rivals = ["--rivals", "metarl", "sync", "--lanes", "2", "--steps", "5"]
    record = measured(rollout, tmp_path, *rivals, "--repeats", "2")
    summary = record["summary"]
    assert summary["rollout"]["share_of_bare"] == 1 / summary["rollout"]["rollout"]["ratio"]
    assert [row["name"] for row in record["rows"]] == ["rollout"] * 2 + ["metarl", "sync"] * 2
    assert {"env_steps_per_s", "share", "share_low", "share_high"} == set(summary["rivals"]["sync"])
    assert "Gymnasium SyncVectorEnv" in capsys.readouterr().out
    assert summary["rollout"]["env_steps"] == 2 * 2 * 6


def test_rollout_of_lanes_that_fall_counts_what_stands(tmp_path: Path) -> None:
    sizes = ["--tasks", "2", "--episodes", "2", "--horizon", "80", "--width", "4"]
    options = ["--env", "walker", *sizes, "--threads", "1", "--repeats", "1"]
    summary = measured(rollout, tmp_path, *options, tiny=False)["summary"]
    assert summary.keys() == {"rollout"}, "the rivals are HalfCheetah's"
    rollouts = summary["rollout"]
    assert 4 < rollouts["env_steps"] < 4 * 80
    assert rollouts["env_steps_per_s"] * rollouts["rollout"]["seconds"] == pytest.approx(
        rollouts["env_steps"]
    )


def test_a_rival_that_is_not_installed_has_a_row_that_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    rows, missing = rollout.rival_rows(["envpool"], lanes=1, steps=2, threads=1, repeats=1)
    assert (rows, missing) == ([], ["envpool"])
    summary = rollout.rivals_summary(rows, missing, env_steps=2)
    assert summary == {"envpool": None}
    assert rollout.rival_cells(summary["envpool"])[0] == "not installed"


@pytest.mark.slow
def test_rollout_against_environments_in_processes(tmp_path: Path) -> None:
    rivals = ["--rivals", "async", "sb3", "--lanes", "2", "--steps", "5"]
    record = measured(rollout, tmp_path, *rivals, "--repeats", "1")
    assert {"async", "sb3"} <= record["summary"]["rivals"].keys()


@pytest.mark.parametrize("env", ["half_cheetah", "navigation"])
def test_update(env: str, tmp_path: Path) -> None:
    record = measured(update, tmp_path, "--env", env, "--repeats", "2", "--curvature-every", "2")
    parts = {"meta_gradient", "curvature_product", "curvature_products", "line_search_evaluation"}
    assert set(record["rows"][0]["seconds"]) == parts | {"update"}
    for row in record["rows"]:  # ten steps of conjugate gradient and the length of the step
        seconds = row["seconds"]
        assert seconds["curvature_products"] == pytest.approx(11 * seconds["curvature_product"])
    assert record["summary"]["update"]["ratio"] > 0


@pytest.mark.parametrize(
    ("env", "algorithm"),
    [("half_cheetah", "maml"), ("navigation", "maml"), ("navigation", "promp")],
)
def test_meta_iteration(env: str, algorithm: str, tmp_path: Path) -> None:
    options = ["--env", env, "--algorithm", algorithm, "--repeats", "2"]
    record = measured(meta_iteration, tmp_path, *options)
    summary = record["summary"]
    assert summary.keys() == PARTS | {"env_steps", "env_steps_per_s", "peak_memory_bytes"}
    assert summary["env_steps"] == 2 * 2 * 6 * 2
    assert summary["peak_memory_bytes"] > 2**26  # with torch in it
    for row in record["rows"]:
        seconds = row["seconds"]
        parts = seconds["rollout"] + seconds["adapt"] + seconds["update"]
        assert seconds["iteration"] == pytest.approx(parts)
        assert min(seconds.values()) > 0


def test_evaluation_is_compared_with_the_physics_of_its_own_rounds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends: list[np.ndarray] = []
    bare = evaluation.RecordedEnv.bare

    def spied(env: evaluation.RecordedEnv) -> float:
        before = env._qpos.copy() if env.rounds and not ends else None
        seconds = bare(env)
        ends.extend([env._qpos.copy()] if before is None else [before, env._qpos.copy()])
        return seconds

    monkeypatch.setattr(evaluation.RecordedEnv, "bare", spied)
    record = measured(evaluation, tmp_path, "--held-out", "3", "--repeats", "1")
    assert record["summary"]["env_steps"] == 3 * 2 * 6 * 4  # tasks, episodes, horizon, rounds
    seconds = record["rows"][0]["seconds"]
    assert seconds["evaluation"] == pytest.approx(seconds["rounds"] + seconds["intervals"])
    np.testing.assert_array_equal(ends[0], ends[1])


def test_rl2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trials of two episodes, replayed to the very states in which they ended."""
    ends: list[np.ndarray] = []
    replayed = rl2.replay

    def spied(env: Any, recording: Any) -> float:
        if not ends:  # the lanes stand where the rollout left them
            ends.append(env._qpos.copy())
        seconds = replayed(env, recording)
        ends.append(env._qpos.copy())
        return seconds

    monkeypatch.setattr(rl2, "replay", spied)
    options = ["--tasks", "3", "--horizon", "6", "--width", "4", "--minibatches", "2"]
    options += ["--threads", "1"]
    record = measured(rl2, tmp_path, *options, "--repeats", "1", tiny=False)
    assert record["summary"]["env_steps"] == 3 * 6 * 2
    seconds = record["rows"][0]["seconds"]
    assert seconds["iteration"] == pytest.approx(seconds["rollout"] + seconds["update"])
    np.testing.assert_array_equal(ends[0], ends[1])


def test_metagenrl(tmp_path: Path) -> None:
    options = ["--population", "2", "--batch", "3", "--width", "4", "--updates", "1"]
    record = measured(metagenrl, tmp_path, *options, "--repeats", "1", "--threads", "1", tiny=False)
    shares = record["summary"]["share_of_bare"] * record["summary"]["metagenrl"]["ratio"]
    assert shares == pytest.approx(1.0)
    speeds = [record["summary"][name] for name in ("env_steps_per_s", "updates_per_s")]
    assert speeds[0] == pytest.approx(2 * 2 * speeds[1])


def test_the_bare_update_is_that_of_metagenrl(monkeypatch: pytest.MonkeyPatch) -> None:
    """From the same parameters and batches the two move every network alike."""
    words = ["--population", "2", "--batch", "4", "--width", "8", "--threads", "1"]
    options = metagenrl.options_of(words)
    ours = metagenrl.made_up(options)
    (group,) = ours.groups
    params = group.learned["actor"].params  # with last layers that matter
    large = {n: 50.0 * p if n.startswith("actor2") else p for n, p in params.items()}
    group.learned["actor"].params = large
    group.target = large | group.learned["critic"].params
    bare = metagenrl.Bare(ours, options)
    before = ours.state_dict()["params"]
    bare.take(before)
    batches = itertools.cycle(bare.batches)
    monkeypatch.setattr(group, "sample", lambda rng: next(batches))
    for _ in range(3):
        ours._step([np.random.default_rng(0)])
        bare.step()
    after = ours.state_dict()["params"]
    moved = metagenrl.Bare(ours, options)
    moved.take(after)
    for name, (part, expected) in {
        "objective": (bare.objective, moved.objective),
        "policy": (bare.members[1].policy, moved.members[1].policy),
        "critics": (bare.members[0].critics, moved.members[0].critics),
    }.items():
        for p, q in zip(part.parameters(), expected.parameters(), strict=True):
            torch.testing.assert_close(p, q, rtol=1e-3, atol=1e-5, msg=name)
    for name, p in after.items():
        assert not torch.equal(p, before[name]), name


def test_pearl(tmp_path: Path) -> None:
    options = ["--tasks", "2", "--transitions", "3", "--context", "3", "--width", "4"]
    options += ["--encoder-width", "4", "--updates", "1", "--repeats", "1", "--threads", "1"]
    record = measured(pearl, tmp_path, *options, tiny=False)
    shares = record["summary"]["share_of_bare"] * record["summary"]["pearl"]["ratio"]
    assert shares == pytest.approx(1.0)
    assert record["settings"]["transitions"] == 3


def test_the_bare_gradient_step_is_that_of_pearl(monkeypatch: pytest.MonkeyPatch) -> None:
    """From the same parameters, batch and noise the two move every network alike."""
    words = ["--tasks", "3", "--transitions", "5", "--context", "4", "--width", "8"]
    options = pearl.options_of([*words, "--encoder-width", "8", "--threads", "1"])
    ours = pearl.made_up(options)
    bare = pearl.Bare(ours, options)
    before = ours.state_dict()["params"]
    bare.take(before)
    monkeypatch.setattr(ours.replay, "sample", lambda *_: bare.rows)
    monkeypatch.setattr(ours.context, "sample", lambda *_: bare.context)
    monkeypatch.setattr(ours, "_noise", lambda rng, *shape: torch.full(shape, 0.3))
    monkeypatch.setattr(bare, "noise", lambda like: torch.full_like(like, 0.3))
    for _ in range(3):
        ours._step(np.random.default_rng(0))
        bare.step()
    after = ours.state_dict()["params"]
    assert bare.parameters().keys() == after.keys()
    for name, value in bare.parameters().items():
        assert not torch.equal(after[name], before[name])
        torch.testing.assert_close(value.detach(), after[name], rtol=1e-3, atol=2e-6)


def test_growth(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With made-up points: an update whose ratio to the physics grows by a half, all else even."""
    asked = []

    def measure(of: str, axis: str, value: int, options: list[str]) -> dict[str, Any]:
        assert of == "meta_iteration"
        asked.append((axis, value, options))
        even = {"seconds": 2.0, "ratio": 1.0, "ratio_low": 0.9, "ratio_high": 1.1}
        summary = dict.fromkeys(PARTS, even) | {"reference": {"seconds": 2.0}}
        if (axis, value) == ("tasks", 4):
            summary["update"] = even | {"ratio": 1.5, "ratio_high": 1.6}
        summary |= {"env_steps": 40, "env_steps_per_s": 10.0, "peak_memory_bytes": 2**30}  # type: ignore[dict-item]
        row = {"name": "meta_iteration", "seconds": {}}
        return {"settings": {"tasks": value, "device": "cpu"}, "summary": summary, "rows": [row]}

    monkeypatch.setattr(growth, "measure", measure)
    options = ["--axes", "tasks", "threads", "--tasks", "2", "4", "--threads", "1"]
    picture = tmp_path / "growth.png"
    record = measured(
        growth,
        tmp_path,
        *options,
        "--width",
        "8",
        "--env",
        "navigation",
        "--plot",
        str(picture),
        tiny=False,
    )
    fixed = ["--repeats", "2", "--threads", "1", "--env", "navigation", "--width", "8"]
    assert asked == [("tasks", 2, fixed), ("tasks", 4, fixed), ("threads", 1, fixed)]
    assert record["summary"]["last_over_first"]["tasks"]["update"] == 1.5
    assert record["summary"]["last_over_first"]["tasks"]["rollout"] == 1.0
    assert record["summary"]["points"][1]["seconds_per_task"] == 0.5  # 2 s for 4 tasks
    assert record["summary"]["points"][1]["physics_steps_per_s"] == 20.0  # 40 in 2 s
    assert "update × 1.500" in capsys.readouterr().out
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_several_values_of_what_is_no_axis_are_refused() -> None:
    with pytest.raises(UserError, match="--width has 2 values: name it in --axes"):
        growth.run(["--axes", "tasks", "--width", "4", "8"])


def test_thread_counts_double_up_to_the_cores() -> None:
    assert growth.doubling(1) == [1]
    assert growth.doubling(6) == [1, 2, 4, 6]
    assert growth.doubling(8) == [1, 2, 4, 8]


@pytest.mark.slow
def test_a_point_of_growth_is_measured_in_a_process_of_its_own(tmp_path: Path) -> None:
    options = ["--episodes", "2", "--horizon", "5", "--repeats", "1", "--threads", "1"]
    record = growth.measure("meta_iteration", "tasks", 3, options)
    assert record["summary"]["env_steps"] == 3 * 2 * 5 * 2
    with pytest.raises(UserError, match=r"The point tasks 0 failed: .*0 is less than 1"):
        growth.measure("meta_iteration", "tasks", 0, options)
    short = ["--minibatches", "1", "--horizon", "5", "--repeats", "1", "--threads", "1"]
    record = growth.measure("rl2", "episodes", 3, [*short, "--tasks", "2"])
    assert growth.point("rl2", "episodes", 3, record)["env_steps"] == 2 * 3 * 5


def test_memory(tmp_path: Path) -> None:
    config = write_config(tmp_path)
    argv = ["--config", str(config), "--iterations", "3", "--threads", "1"]
    record = measured(memory, tmp_path, *argv, "--algorithm.episodes", "2", tiny=False)
    assert [row["iteration"] for row in record["rows"]] == [1, 2, 3]
    summary = record["summary"]
    resident = [row["resident_bytes"] for row in record["rows"]]
    assert summary["resident_bytes_last"] == resident[-1] <= summary["peak_memory_bytes"]
    assert summary["growth_bytes_per_iteration"] == memory.growth(resident)


def test_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    point = ["--horizon", "7", "--lanes", "3", "--observations", "5", "--threads", "1"]
    row = measured(size, tmp_path, *point, tiny=False)["rows"][0]
    assert row["data_bytes"] == 4 * 2 * 3 * 7 * 5
    assert row["advantages_seconds"] > 0
    assert row["iteration_seconds"] > 0
    assert row["peak_memory_bytes"] > row["advantages_memory_bytes"] >= 0
    asked = []

    def measure(of: str, axis: str, value: int, options: list[str]) -> dict[str, Any]:
        asked.append((of, axis, value, options))
        return {"rows": [row]}

    monkeypatch.setattr(size, "measure", measure)
    monkeypatch.setattr(size, "POINTS", [(2, 9, 4)])
    assert measured(size, tmp_path, "--threads", "1", tiny=False)["rows"] == [row]
    options = ["--threads", "1", "--lanes", "2", "--observations", "4"]
    assert asked == [("size", "horizon", 9, options)]


def test_growth_of_memory_is_the_slope_of_the_second_half() -> None:
    assert memory.growth([0.0, 90.0, 10.0, 13.0, 16.0, 19.0]) == pytest.approx(3.0)
    assert memory.growth([5.0]) == 0.0


def test_crossover_without_a_gpu_is_one_sentence() -> None:
    with pytest.raises(UserError, match="--device is the CPU"):
        crossover.run(["--device", "cpu"])
    if not torch.cuda.is_available():
        with pytest.raises(UserError, match="no CUDA device"):
            crossover.run([])


def test_crossover_compares_two_devices_and_finds_where_the_other_wins() -> None:
    rows = crossover.compare(tiny_setting(), "cpu", repeats=1)
    (row,) = rows
    seconds = row["seconds"]
    assert seconds["both"] == seconds["update"] + seconds["transfer"]
    assert (row["width"], row["tasks"]) == (4, 2)
    ratios = {(64, 5): 2.0, (64, 10): 0.9, (64, 20): 0.5, (32, 5): 0.9, (32, 10): 1.1}
    points = [{"width": w, "tasks": m, "both": {"ratio": r}} for (w, m), r in ratios.items()]
    assert crossover.crossovers(points) == {"64": 10, "32": None}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu(tmp_path: Path) -> None:
    record = measured(meta_iteration, tmp_path, "--device", "cuda", "--repeats", "1")
    assert record["summary"].keys() >= PARTS | {"to_device", "to_host"}
    sizes = ["--widths", "4", "--meta-batches", "2"]
    assert measured(crossover, tmp_path, *sizes, "--repeats", "1")["summary"]["points"]


# Few-shot learning

SMALL = ["--tasks", "2", "--ways", "3", "--filters", "4", "--threads", "1"]


def test_the_torch_func_script_takes_the_gradient_of_the_same_loss() -> None:
    options = few_shot.arguments().parse_args([*SMALL, "--adaptation-steps", "2"])
    maml, batch = few_shot.made_up(options)
    expected = few_shot.torchs(
        maml.meta.unflatten(maml.objective(batch).loss_and_gradient()[1]).policy
    )
    for chunk in (None, 1):
        script = few_shot.Script(maml, batch, chunk)
        found = few_shot.script_gradient(maml, batch, script.network, script.params, chunk)
        for name, gradient in expected.items():
            torch.testing.assert_close(found[name], gradient, rtol=1e-3, atol=1e-5)


def test_few_shot(tmp_path: Path) -> None:
    record = measured(few_shot, tmp_path, *SMALL, "--repeats", "1", tiny=False)
    assert set(record["rows"][0]["seconds"]) == {"metarl", "torch.func in chunks"}
    assert record["summary"]["metarl"]["ratio"] > 0


def test_memory_cores(tmp_path: Path) -> None:
    options = ["--tasks", "2", "--episodes", "2", "--horizon", "3", "--width", "4"]
    options += ["--minibatches", "1", "--repeats", "2"]
    record = measured(memory_cores, tmp_path, *options, tiny=False)
    assert record["summary"].keys() == memory_cores.KINDS.keys()
    assert len(record["rows"]) == 2 * len(memory_cores.KINDS)
    assert all(s > 0 for row in record["rows"] for s in row["seconds"].values())
