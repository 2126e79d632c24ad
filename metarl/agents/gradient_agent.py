"""The agent of every gradient-based algorithm: it plays, and adapts by the training's own step."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from metarl.adaptation.inner_loop import Adaptation
from metarl.agents.rounds import PlaysRounds, Round
from metarl.experience.advantages import AdvantageEstimator
from metarl.maths.params import Params, stack, to_device
from metarl.maths.running_moments import RunningMoments
from metarl.random import Key
from metarl.types import ActionMode, AdaptationAxis, Trajectory


class GradientAgent(PlaysRounds):
    """A :class:`metarl.types.Agent` whose :meth:`adapt` is one gradient step a task.

    Args:
        adaptation: The gradient step.
        advantages: Makes its samples from a round of episodes.
        params: The meta-parameters, not stacked, on the CPU.
        mode: "stochastic" samples actions, "deterministic" takes the distribution's mode. Setting
            :attr:`mode` starts the round of episodes anew.
        key: Names the action noise.
        device: Where adaptation steps run; actions are chosen on the CPU.
        moments: By which observations are normalised; None: they are not.
    """

    adaptation_axis: AdaptationAxis = "gradient_step"
    privileged = False

    def __init__(
        self,
        adaptation: Adaptation,
        advantages: AdvantageEstimator,
        params: Params,
        mode: ActionMode,
        key: Key,
        device: torch.device | str = "cpu",
        moments: RunningMoments | None = None,
    ) -> None:
        super().__init__(mode, key)
        self.adaptation = adaptation
        self.advantages = advantages
        self.device = torch.device(device)
        self.moments = moments
        self.meta_params = params
        self.params: Params = {}
        self.adaptation_step = 0
        self._steps: list[dict[str, torch.Tensor]] = []
        self._round = Round((0, 0), key)  # nobody plays before begin()

    @property
    def step_sizes(self) -> list[float]:
        """Sizes of the first adaptation steps; the last repeats."""
        return list(self.adaptation.step_sizes)

    def begin(self, num_tasks: int, lanes: int, tasks: np.ndarray | None = None) -> None:
        """Start every one of the M tasks from the meta-parameters, with B lanes each."""
        self.params = stack(self.meta_params, num_tasks)
        self.adaptation_step = 0
        self._shape = (num_tasks, lanes)
        self._begin_round()

    def act(self, observation: np.ndarray, active: np.ndarray) -> np.ndarray:
        """Actions ``[M, B, a]`` (or int ``[M, B]``) for observations ``[M, B, o]``.

        Raises:
            ValueError: before :meth:`begin`, or see :meth:`Round.shown`.
        """
        if not self.params:
            raise ValueError("call begin(num_tasks, lanes) before act()")
        obs, valid = self._round.shown(observation, active)
        policy = self.adaptation.policy
        if deterministic := self._mode == "deterministic":
            noise = torch.zeros(*self._shape, policy.noise_dim)
        else:
            noise = self._round.noise(policy.draw_noise, policy.draw_episode_noise)
        with torch.no_grad():
            seen, noise = policy.with_noise(obs, noise)
            distribution = policy(self.params, seen)
            action = distribution.mode() if deterministic else distribution.sample(noise)
            log_prob = distribution.log_prob(action)
        step = {"observations": seen, "actions": action, "log_probs": log_prob, "valid": valid}
        self._steps.append(step)
        return action.numpy().copy()  # an environment may write into it

    def observe(
        self,
        action: np.ndarray,
        reward: np.ndarray,
        terminated: np.ndarray,
        truncated: np.ndarray,
        next_observation: np.ndarray,
    ) -> None:
        """Record what the last action brought, all ``[M, B]``."""
        valid, step = self._round.acted(terminated, truncated), self._steps[-1]
        rewards = torch.from_numpy(np.array(reward, dtype=np.float32))
        step["rewards"] = torch.where(valid, rewards, 0.0)
        step["terminated"] = torch.from_numpy(np.array(terminated, dtype=bool)) & valid
        step["truncated"] = torch.from_numpy(np.array(truncated, dtype=bool)) & valid

    def adapt(self) -> None:
        """One gradient step on the round that was just played.

        Raises:
            ValueError: if there is none, or its actions were deterministic: without noise a
                policy gradient has nothing to learn from.
        """
        if self._mode == "deterministic":
            raise ValueError("adapt() needs a round of stochastic actions: set mode first")
        if not self._steps or "rewards" not in self._steps[-1]:
            raise ValueError("adapt() needs a round of episodes: act() and observe() first")
        # [M, B] a step → [M, B, T]
        fields = {
            name: torch.stack([s[name] for s in self._steps], dim=2) for name in self._steps[0]
        }
        fields = _from_the_front(fields)
        samples = self.advantages.samples(Trajectory(**fields).to(self.device))
        theta = to_device(self.params, self.device)
        step = self.adaptation.step(theta, samples, self.adaptation_step)
        self.params = to_device(step.adapted, "cpu")
        self.adaptation_step += 1
        self._begin_round()

    def state_dict(self) -> dict[str, Any]:
        """What the agent has become: the parameters of every task, and the steps it has taken."""
        params = {name: p.clone() for name, p in self.params.items()}
        return {"params": params, "adaptation_step": self.adaptation_step, "shape": self._shape}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Become what :meth:`state_dict` described, at the start of a round."""
        num_tasks, lanes = state["shape"]
        self.begin(num_tasks, lanes)
        self.params = {name: state["params"][name] for name in self.meta_params}
        self.adaptation_step = int(state["adaptation_step"])
        self._begin_round()

    def _begin_round(self) -> None:
        self._steps = []
        self._round = Round(self._shape, self._key.at(self.adaptation_step), self.moments)


def _from_the_front(fields: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Steps ``[M, B, T, ...]``, those taken before the others in every lane: some begin later."""
    valid = fields["valid"]
    if not (valid[..., 1:] & ~valid[..., :-1]).any():
        return fields
    order = (~valid).to(torch.uint8).argsort(dim=2, stable=True)[..., : int(valid.sum(2).max())]
    return {
        name: x.gather(
            2, order.view(*order.shape, *(1,) * (x.ndim - 3)).expand(-1, -1, -1, *x.shape[3:])
        )
        for name, x in fields.items()
    }
