"""An evaluation on HalfCheetah, intervals included, against the bare physics of its own rounds.

    python -m benchmarks.evaluation [--episodes 20] [--adaptation-steps 3] [--json FILE]

40 held-out tasks × 20 episodes after 0, 1, 2 and 3 gradient steps are 640,000 env steps. The agent
is an untrained MAML: what it earns does not matter here, and the physics plays the same again.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.measurement import (
    Seconds,
    begin,
    count,
    interleave,
    parser,
    print_parts,
    summarize,
    write_json,
)
from benchmarks.physics import batch_seconds
from benchmarks.setting import add_options, setting
from metarl.envs.locomotion.half_cheetah import HalfCheetahVel
from metarl.evaluation.plan import EvaluationPlan
from metarl.evaluation.protocol import evaluate
from metarl.evaluation.result import Provenance
from metarl.evaluation.summary import summarize as intervals
from metarl.process import run_program
from metarl.random import Key


class RecordedEnv(HalfCheetahVel):
    """HalfCheetah velocity that keeps the seeds and actions of its rounds."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.rounds: list[tuple[np.ndarray, list[np.ndarray]]] = []
        self.recording = True

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        """As the environment does."""
        if self.recording:
            self.rounds.append((np.asarray(seed), []))
        return super().reset(seed=seed, options=options)

    def step(self, actions: Any) -> Any:
        """As the environment does."""
        self.rounds[-1][1].append(np.array(actions))
        return super().step(actions)

    def bare(self) -> float:
        """Seconds of the simulator alone for all rounds."""
        self.recording = False
        seconds = 0.0
        for seeds, actions in self.rounds:
            self.reset(seed=seeds)
            seconds += batch_seconds(self, np.stack(actions))
        self.recording = True
        return seconds


def run(argv: Sequence[str]) -> int:
    """Measure, print and write."""
    arguments = parser("evaluation", __doc__)
    add_options(arguments)
    arguments.set_defaults(adaptation_steps=3)
    arguments.add_argument("--held-out", type=count, default=40, help="tasks evaluated at most")
    options = begin(arguments, argv)
    size = setting(options)
    maml = size.maml(size.worker())
    probe = HalfCheetahVel(1)
    tasks = probe.task_distribution.held_out()[: options.held_out]
    lanes = len(tasks) * size.episodes
    env = RecordedEnv(lanes, horizon=size.horizon, num_threads=size.threads)

    def measured() -> Seconds:
        env.rounds.clear()
        start = time.perf_counter()
        agent = maml.agent("stochastic", Key(0, evaluation=True))
        plan = EvaluationPlan("held_out", size.episodes, size.adaptation_steps)
        evaluation = evaluate(agent, env, tasks, plan)
        played = time.perf_counter()
        provenance = Provenance("maml", seeds=[0], checkpoint=0)
        intervals(evaluation, provenance=provenance, env="half_cheetah_vel", env_config={})
        end = time.perf_counter()
        return {"rounds": played - start, "intervals": end - played, "evaluation": end - start}

    rows = interleave(env.bare, {"evaluation": measured}, options.repeats)
    summary = {**summarize(rows), "env_steps": size.env_steps // size.tasks * len(tasks)}
    print_parts(summarize(rows), "physics")
    write_json("evaluation", options, rows, summary)
    return 0


if __name__ == "__main__":
    sys.exit(run_program(lambda: run(sys.argv[1:])))
