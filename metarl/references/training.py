"""Train the oracle or the multitask policy with stable-baselines3's PPO."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecMonitor, VecNormalize

from metarl import envs
from metarl.envs.vector import TaskVectorEnv
from metarl.errors import EnvironmentFailure, UserError
from metarl.evaluation.reference_kinds import TrainedKind
from metarl.process import enough_memory
from metarl.random import Key
from metarl.references import storage
from metarl.references.ppo import (
    make_training_ppo,
    normaliser_state,
    policy_state,
    restore_statistics,
)
from metarl.references.settings import TrainingSettings
from metarl.references.storage import Definition
from metarl.references.vec_env import TaskVecEnv
from metarl.storage.files import replace_file, writing
from metarl.storage.tensors import read_plain, write_plain

_CURVE_POINTS = 100
_CURVE_COLUMNS = ["env_steps", "mean stochastic return of the last 100 training episodes"]
_CHECKPOINT_INTERVAL_S = 60.0

Progress = Callable[[Mapping[str, Any]], None]
"""Told after every rollout: its ``iteration``, ``env_steps``, pace, and the return of late."""


@dataclass(frozen=True)
class ReferenceTraining:
    """What is to be trained, and where it is stored.

    Attributes:
        kind: "oracle" sees the task vector, "multitask" does not.
        definition: Of the environment.
        settings: PPO's, with the budget.
        seed: Of everything.
        place: The reference's folder.
        threads: Of torch in the update; rollouts use one.
        circumstances: Versions, command and commit, for the record.
    """

    kind: TrainedKind
    definition: Definition
    settings: TrainingSettings
    seed: int
    place: Path
    threads: int
    circumstances: Mapping[str, Any]

    @property
    def asked(self) -> dict[str, Any]:
        """What decides the result: an interrupted training goes on with the very same."""
        settings = storage.as_json(asdict(self.settings))
        return {"seed": self.seed, "env": self.definition.fields, "settings": settings}

    @property
    def unfinished(self) -> Path:
        """The file that an interrupted training leaves, beside the reference's folder."""
        return self.place.with_name(f"{self.place.name}.training.pt")

    def interrupted(self) -> dict[str, Any] | None:
        """What an interrupted training left, None if there is nothing.

        Raises:
            UserError: it is damaged, or of another seed, budget or settings.
        """
        path = self.unfinished
        if not path.exists():
            return None
        saved = read_plain(storage.read(path), f"interrupted training {path}")
        if saved.get("asked") != self.asked:
            raise UserError(
                f"{path} is an interrupted training with another seed, budget or settings; go on "
                f"with those, or begin anew with --again."
            )
        return saved


@enough_memory("The training of a reference", "free some, or let it run on another machine")
def train_reference(
    training: ReferenceTraining, env: TaskVectorEnv, progress: Progress, stop: Sequence[int] = ()
) -> bool:
    """Train a reference and store it; go on with an interrupted training of it.

    The last policy is stored, never the best. The random streams of tasks and resets are keyed;
    action noise and minibatches are stable-baselines3's, from the global generators that it seeds.

    Args:
        training: What, how and where.
        env: ``settings.lanes`` lanes, used by nothing else meanwhile.
        progress: Told after every rollout.
        stop: Not empty when the training is to end with what it has.

    Returns:
        True when it is finished and stored; False when it was stopped, and can be gone on with.

    Raises:
        UserError: an interrupted training with other settings lies there.
        EnvironmentFailure: the training or the environment diverged, or nothing can be written.
    """
    kind, settings = training.kind, training.settings
    saved = training.interrupted()
    part = 0 if saved is None else int(saved["part"]) + 1
    key = Key(training.seed, adaptation_step=part)
    lanes = VecMonitor(TaskVecEnv(env, key, show_task=kind == "oracle"))
    venv = VecNormalize(lanes, gamma=settings.gamma)
    threads_before = torch.get_num_threads()
    try:
        seed = int(key.generator("init").integers(2**31))
        model = make_training_ppo(settings, venv, env.horizon, seed)
        watch = _Watch(training, model, venv, part, progress, stop)
        if saved is not None:
            watch.restore(saved)
        left, anew = settings.env_steps - model.num_timesteps, saved is None
        # Nothing reads its logs.
        model.learn(left, watch, log_interval=10**9, reset_num_timesteps=anew)
        watch.check_finite()
    except envs.SimulationFailure as error:
        raise EnvironmentFailure(f"The training of the {kind} failed. {error}") from error
    finally:
        torch.set_num_threads(threads_before)
    if watch.stopped:
        watch.save()
        return False
    metadata = {
        "kind": kind,
        "made_with": "stable-baselines3 PPO",
        "env": training.definition.fields,
        "sees_task": kind == "oracle",
        "seed": training.seed,
        "env_steps_budget": settings.env_steps,
        **watch.record,
        "settings": training.asked["settings"],
        **training.circumstances,
    }
    storage.save(training.place, policy_state(model, normaliser_state(venv), settings), metadata)
    training.unfinished.unlink(missing_ok=True)
    return True


def thin(curve: Sequence[tuple[int, float]]) -> list[list[float]]:
    """At most about a hundred points of a curve, the last one among them."""
    stride = max(1, -(-len(curve) // _CURVE_POINTS))
    return [[steps, round(value, 3)] for steps, value in curve[::-1][::stride][::-1]]


class _Watch(BaseCallback):
    """Counts, watches and keeps: progress, the curve, checkpoints, torch's threads, requests."""

    def __init__(
        self,
        training: ReferenceTraining,
        model: PPO,
        venv: VecNormalize,
        part: int,
        progress: Progress,
        stop: Sequence[int],
    ) -> None:
        super().__init__()
        self.stopped = False
        self._training, self._ppo, self._venv, self._part = training, model, venv, part
        self._progress, self._stop_requests = progress, stop
        self._env_steps = 0
        self._curve: list[tuple[int, float]] = []
        self._began = self._saved_at = self._rollout_at = time.monotonic()

    @property
    def record(self) -> dict[str, Any]:
        """What is told of a finished training."""
        return {
            "env_steps": self._env_steps,  # whole rollouts, so the budget or a little more
            "interruptions": self._part,
            "seconds": round(time.monotonic() - self._began, 1),
            "training_curve": {"columns": _CURVE_COLUMNS, "rows": thin(self._curve)},
        }

    def check_finite(self) -> None:
        """Refuse to go on with a policy that has diverged."""
        vector = torch.nn.utils.parameters_to_vector(self._ppo.policy.parameters())
        if not bool(torch.isfinite(vector).all()):
            raise EnvironmentFailure(
                f"The training diverged: the policy is no longer finite after {self._env_steps} "
                f"env steps."
            )

    def save(self) -> None:
        """Keep what the training goes on from."""
        state = {
            "asked": self._training.asked,
            "part": self._part,
            "env_steps": self._env_steps,
            "seconds": time.monotonic() - self._began,
            "curve": self._curve,
            "policy": dict(self._ppo.policy.state_dict()),
            "optimizer": self._ppo.policy.optimizer.state_dict(),
            **normaliser_state(self._venv),
        }
        path = self._training.unfinished
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            replace_file(path, write_plain(state))
        self._saved_at = time.monotonic()

    def restore(self, saved: Mapping[str, Any]) -> None:
        """Put back what :meth:`save` kept."""
        self._env_steps = self._ppo.num_timesteps = int(saved["env_steps"])
        self._began -= saved["seconds"]  # of the interrupted parts
        self._curve = saved["curve"]
        self._ppo.policy.load_state_dict(saved["policy"])
        self._ppo.policy.optimizer.load_state_dict(saved["optimizer"])
        restore_statistics(self._venv.obs_rms, "obs", saved)  # type: ignore[arg-type]
        restore_statistics(self._venv.ret_rms, "return", saved)

    def _on_rollout_start(self) -> None:
        # After an update, so what is kept is whole.
        self.check_finite()
        if time.monotonic() - self._saved_at > _CHECKPOINT_INTERVAL_S:
            self.save()
        torch.set_num_threads(1)  # idle OpenMP threads spin, and slow the physics threads

    def _on_step(self) -> bool:
        self.stopped = bool(self._stop_requests)
        return not self.stopped

    def _on_rollout_end(self) -> None:
        torch.set_num_threads(self._training.threads)
        buffer = self._ppo.rollout_buffer
        if not np.isfinite(buffer.observations.sum(dtype=np.float64) + buffer.rewards.sum()):
            raise EnvironmentFailure(
                f"The training diverged: an observation or a reward is not finite after "
                f"{self._env_steps} env steps."
            )
        now, steps = time.monotonic(), buffer.buffer_size * buffer.n_envs
        self._env_steps = self._ppo.num_timesteps
        row = {
            "iteration": self._env_steps // steps,
            "env_steps": self._env_steps,
            "env_steps_per_s": steps / (now - self._rollout_at),
        }
        self._rollout_at = now
        episodes = self._ppo.ep_info_buffer
        if episodes:
            row["return/mean"] = float(np.mean([e["r"] for e in episodes]))
            self._curve.append((self._env_steps, row["return/mean"]))
        self._progress(row)
