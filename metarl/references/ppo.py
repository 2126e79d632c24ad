"""stable-baselines3's PPO with the settings of a reference, and what is stored of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

from metarl.envs.spaces import choices
from metarl.references.settings import PPOSettings, TrainingSettings


def make_ppo(settings: PPOSettings, env: VecEnv | None, **options: Any) -> PPO:
    """PPO (Schulman et al. 2017) on the CPU; the options are those of its constructor."""
    return PPO(
        "MlpPolicy",
        env,  # type: ignore[arg-type]  # None is what load() gives
        n_epochs=settings.epochs,
        gamma=settings.gamma,
        gae_lambda=settings.gae_lambda,
        clip_range=settings.clip_range,
        policy_kwargs={
            "net_arch": list(settings.hidden_sizes),
            "activation_fn": {"tanh": torch.nn.Tanh, "relu": torch.nn.ReLU}[settings.activation],
            "log_std_init": settings.log_std_init,
        },
        device="cpu",
        **options,
    )


def make_training_ppo(
    settings: TrainingSettings, venv: VecNormalize, horizon: int, seed: int
) -> PPO:
    """PPO whose rollouts are a horizon of steps on every lane, its step size falling to 0."""
    return make_ppo(
        settings,
        venv,
        learning_rate=lambda left: settings.learning_rate * max(left, 0.0),
        n_steps=horizon,
        batch_size=horizon * venv.num_envs // settings.minibatches,
        ent_coef=settings.entropy,
        seed=seed,
    )


def with_choices(space: spaces.Space) -> spaces.Space:
    """The action space as a policy is made for it: binary choices as choices among two."""
    if isinstance(space, spaces.MultiBinary):
        return spaces.MultiDiscrete(choices(space)[0])
    return space


def policy_state(
    model: PPO, normaliser: Mapping[str, Any], settings: PPOSettings
) -> dict[str, Any]:
    """What is stored of a trained policy: tensors and builtins."""
    architecture: dict[str, Any] = {
        "hidden_sizes": list(settings.hidden_sizes),
        "activation": settings.activation,
    }
    if isinstance(model.action_space, spaces.MultiDiscrete):
        architecture["choices"] = model.action_space.nvec.tolist()
    return {
        "architecture": architecture,
        "policy": dict(model.policy.state_dict()),
        "normaliser": dict(normaliser),
    }


def normaliser_state(venv: VecNormalize) -> dict[str, Any]:
    """Running statistics of observations and returns, as tensors and numbers, and the bounds."""
    state: dict[str, Any] = {}
    for name, statistics in (("obs", venv.obs_rms), ("return", venv.ret_rms)):
        assert isinstance(statistics, RunningMeanStd)  # a dict only for dicts of observations
        state[f"{name}_mean"] = torch.tensor(statistics.mean, dtype=torch.float64)
        state[f"{name}_var"] = torch.tensor(statistics.var, dtype=torch.float64)
        state[f"{name}_count"] = float(statistics.count)
    bounds = {name: float(getattr(venv, name)) for name in ("clip_obs", "clip_reward", "epsilon")}
    return state | bounds


def restore_statistics(statistics: RunningMeanStd, name: str, saved: Mapping[str, Any]) -> None:
    """Put back what :func:`normaliser_state` has under this name."""
    statistics.mean = saved[f"{name}_mean"].numpy().copy()
    statistics.var = saved[f"{name}_var"].numpy().copy()
    statistics.count = float(saved[f"{name}_count"])
