"""Train the oracle or the multitask policy with stable-baselines3's PPO."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env import VecMonitor, VecNormalize

from metarl import envs
from metarl.envs.vector import TaskVectorEnv
from metarl.errors import EnvironmentFailure, UserError
from metarl.evaluation.reference_kinds import TrainedKind
from metarl.random import Key
from metarl.references import storage
from metarl.references.settings import TrainingSettings
from metarl.references.vec_env import TaskVecEnv

_CURVE_POINTS = 100
_CHECKPOINT_INTERVAL_S = 60.0

Curve = list[tuple[int, float]]


class Progress(Protocol):
    """Shows how far a training is."""

    def update(self, env_steps: int, mean_return: float | None) -> None:
        """Env steps so far, and the mean return of the last episodes."""


def train_reference(
    kind: TrainedKind,
    env: TaskVectorEnv,
    definition: storage.Definition,
    settings: TrainingSettings,
    *,
    seed: int,
    place: Path,
    threads: int,
    circumstances: Mapping[str, Any],
    progress: Progress,
    stop: Sequence[int] = (),
) -> bool:
    """Train a reference and store it; go on with an interrupted training of it.

    The last policy is stored, never the best. The random streams of tasks and resets are keyed;
    action noise and minibatches are stable-baselines3's, from the global generators that it seeds.

    Args:
        kind: "oracle" sees the task vector, "multitask" does not.
        env: ``settings.lanes`` lanes, used by nothing else meanwhile.
        definition: Of the environment.
        settings: PPO's, with the budget.
        seed: Of everything.
        place: Where to store it.
        threads: Of torch in the update; rollouts use one.
        circumstances: Versions, command and commit, for the record.
        progress: Told after every rollout.
        stop: Not empty when the training is to end with what it has.

    Returns:
        True when it is finished and stored; False when it was stopped, and left what it goes on
        from.

    Raises:
        UserError: an interrupted training with other settings lies there.
        EnvironmentFailure: the training or the environment diverged, or nothing can be written.
    """
    asked = _plain({"seed": seed, "env": dict(definition), "settings": asdict(settings)})
    saved = storage.load_training(place)
    if saved is not None and saved.get("asked") != asked:
        raise UserError(
            f"{storage.training_file(place)} is an interrupted training with another seed, budget "
            f"or settings; go on with those, or begin anew with --again."
        )
    part = 0 if saved is None else int(saved["part"]) + 1
    key = Key(seed, adaptation_step=part)
    venv = VecNormalize(
        VecMonitor(TaskVecEnv(env, key, show_task=kind == "oracle")), gamma=settings.gamma
    )
    threads_before = torch.get_num_threads()
    try:
        model = make_ppo(venv, settings, env.horizon, int(key.generator("init").integers(2**31)))
        callback = _Training(model, venv, saved, asked, part, place, threads, progress, stop)
        if saved is not None:
            _restore(model, venv, saved)
        model.learn(
            settings.env_steps - model.num_timesteps,
            callback,
            log_interval=10**9,  # nothing reads them
            reset_num_timesteps=saved is None,
        )
        callback.check_finite()
    except envs.SimulationFailure as error:
        raise EnvironmentFailure(f"The training of the {kind} failed. {error}") from error
    finally:
        torch.set_num_threads(threads_before)
    if callback.stopped:
        callback.save()
        return False
    metadata = {
        "kind": kind,
        "made_with": "stable-baselines3 PPO",
        "env": dict(definition),
        "sees_task": kind == "oracle",
        "seed": seed,
        "env_steps_budget": settings.env_steps,
        "env_steps": callback.env_steps,  # whole rollouts, so the budget or a little more
        "interruptions": part,
        "seconds": round(callback.seconds, 1),
        "settings": asked["settings"],
        "training_curve": {
            "columns": ["env_steps", "mean stochastic return of the last 100 training episodes"],
            "rows": thin(callback.curve),
        },
        **circumstances,
    }
    storage.save(place, policy_state(model, venv, settings), metadata)
    storage.training_file(place).unlink(missing_ok=True)
    return True


def make_ppo(venv: VecNormalize, settings: TrainingSettings, horizon: int, seed: int) -> PPO:
    """PPO whose rollouts are a horizon of steps on every lane."""
    return PPO(
        "MlpPolicy",
        venv,
        learning_rate=lambda left: settings.learning_rate * max(left, 0.0),
        n_steps=horizon,
        batch_size=horizon * venv.num_envs // settings.minibatches,
        n_epochs=settings.epochs,
        gamma=settings.gamma,
        gae_lambda=settings.gae_lambda,
        clip_range=settings.clip_range,
        ent_coef=settings.entropy,
        policy_kwargs={
            "net_arch": list(settings.hidden_sizes),
            "activation_fn": {"tanh": torch.nn.Tanh, "relu": torch.nn.ReLU}[settings.activation],
            "log_std_init": settings.log_std_init,
        },
        seed=seed,
        device="cpu",
    )


def policy_state(model: PPO, venv: VecNormalize, settings: TrainingSettings) -> dict[str, Any]:
    """What is stored of a trained policy: tensors and builtins."""
    return {
        "architecture": {
            "hidden_sizes": list(settings.hidden_sizes),
            "activation": settings.activation,
        },
        "policy": dict(model.policy.state_dict()),
        "normaliser": {
            **_statistics("obs", venv.obs_rms),  # type: ignore[arg-type]
            **_statistics("return", venv.ret_rms),
            "clip_obs": float(venv.clip_obs),
            "clip_reward": float(venv.clip_reward),
            "epsilon": float(venv.epsilon),
        },
    }


def thin(curve: Sequence[tuple[int, float]]) -> list[list[float]]:
    """At most about a hundred points of a curve, the last one among them."""
    stride = max(1, -(-len(curve) // _CURVE_POINTS))
    kept = list(curve[::-1][::stride])[::-1]
    return [[steps, round(value, 3)] for steps, value in kept]


class _Training(BaseCallback):
    """Counts, watches and keeps: progress, the curve, checkpoints, torch's threads, requests."""

    def __init__(
        self,
        model: PPO,
        venv: VecNormalize,
        saved: Mapping[str, Any] | None,
        asked: Mapping[str, Any],
        part: int,
        place: Path,
        threads: int,
        progress: Progress,
        stop: Sequence[int],
    ) -> None:
        super().__init__()
        self.env_steps = 0 if saved is None else int(saved["env_steps"])
        self.curve: Curve = [] if saved is None else [(int(s), float(r)) for s, r in saved["curve"]]
        self.stopped = False
        self._venv, self._asked, self._part, self._place = venv, asked, part, place
        self._threads, self._progress, self._stop_requests = threads, progress, stop
        self._earlier = 0.0 if saved is None else float(saved["seconds"])
        self._ppo = model
        self._began = self._saved_at = time.monotonic()

    @property
    def seconds(self) -> float:
        """Of training, the interrupted parts included."""
        return self._earlier + time.monotonic() - self._began

    def check_finite(self) -> None:
        """Refuse to go on with a policy that has diverged."""
        vector = torch.nn.utils.parameters_to_vector(self._ppo.policy.parameters())
        if not bool(torch.isfinite(vector).all()):
            raise EnvironmentFailure(
                f"The training diverged: the policy is no longer finite after {self.env_steps} "
                f"env steps."
            )

    def save(self) -> None:
        """Keep what the training goes on from."""
        storage.save_training(
            self._place,
            {
                "asked": self._asked,
                "part": self._part,
                "env_steps": self.env_steps,
                "seconds": self.seconds,
                "curve": [list(point) for point in self.curve],
                "policy": dict(self._ppo.policy.state_dict()),
                "optimizer": self._ppo.policy.optimizer.state_dict(),
                **_statistics("obs", self._venv.obs_rms),  # type: ignore[arg-type]
                **_statistics("return", self._venv.ret_rms),
            },
        )
        self._saved_at = time.monotonic()

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
        torch.set_num_threads(self._threads)
        buffer = self._ppo.rollout_buffer
        if not np.isfinite(buffer.observations.sum(dtype=np.float64) + buffer.rewards.sum()):
            raise EnvironmentFailure(
                f"The training diverged: an observation or a reward is not finite after "
                f"{self.env_steps} env steps."
            )
        self.env_steps = self._ppo.num_timesteps
        episodes = self._ppo.ep_info_buffer or ()
        mean = float(np.mean([e["r"] for e in episodes])) if episodes else None
        if mean is not None:
            self.curve.append((self.env_steps, mean))
        self._progress.update(self.env_steps, mean)


def _restore(model: PPO, venv: VecNormalize, saved: Mapping[str, Any]) -> None:
    """Put back what :meth:`_Training.save` kept."""
    model.policy.load_state_dict(saved["policy"])
    model.policy.optimizer.load_state_dict(saved["optimizer"])
    model.num_timesteps = int(saved["env_steps"])
    for name, statistics in (("obs", venv.obs_rms), ("return", venv.ret_rms)):
        restore_statistics(statistics, name, saved)  # type: ignore[arg-type]


def _statistics(name: str, statistics: RunningMeanStd) -> dict[str, Any]:
    return {
        f"{name}_mean": torch.tensor(statistics.mean, dtype=torch.float64),
        f"{name}_var": torch.tensor(statistics.var, dtype=torch.float64),
        f"{name}_count": float(statistics.count),
    }


def restore_statistics(statistics: RunningMeanStd, name: str, saved: Mapping[str, Any]) -> None:
    """Put stored statistics back."""
    statistics.mean = saved[f"{name}_mean"].numpy().copy()
    statistics.var = saved[f"{name}_var"].numpy().copy()
    statistics.count = float(saved[f"{name}_count"])


def _plain(value: Any) -> Any:
    """Tuples as lists, so that what was stored equals what is asked."""
    if isinstance(value, Mapping):
        return {name: _plain(child) for name, child in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(child) for child in value]
    return value
