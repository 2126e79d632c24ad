"""A learned objective out of its run, for a training loop of one's own."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from pydantic import ValidationError
from torch import Tensor

from metarl.algorithms.settings.metagenrl import MetaGenRLSettings
from metarl.config.loading import resolve_device
from metarl.config.yaml_text import read_yaml
from metarl.errors import UserError, message_of
from metarl.maths.params import Params, check_state, to_device
from metarl.networks.objective import ObjectiveNetwork, Steps
from metarl.storage.checkpoint import load_checkpoint
from metarl.storage.run_folder import holds_run

if TYPE_CHECKING:
    from metarl.config.fields import DeviceName


class LearnedObjective:
    """The loss of a policy with continuous actions, on sequences of its experience.

    It is differentiated through ``policy_actions``: take a step of the policy down the gradient, as
    down any loss. It knows neither the policy nor the environment, and its own parameters stay.

    Attributes:
        discount: γ of the temporal differences that it has learned with.
        sequence: Steps of the sequences that it has learned with.
    """

    def __init__(
        self, network: ObjectiveNetwork, params: Params, discount: float, sequence: int
    ) -> None:
        self.discount, self.sequence = discount, sequence
        self._network, self._params = network, params

    def __call__(
        self,
        actions: Tensor,
        policy_actions: Tensor,
        rewards: Tensor,
        values: Tensor,
        next_values: Tensor,
        terminated: Tensor,
        valid: Tensor | None = None,
    ) -> Tensor:
        """The mean loss of a batch of N sequences of T consecutive steps, a scalar.

        Rewards and values are normalised over the batch, so it should be a large one.

        Args:
            actions: As they were played, each dimension in [-1, 1], ``[N, T, a]``.
            policy_actions: What the policy does now in the same states, ``[N, T, a]``.
            rewards: ``[N, T]``.
            values: What the critic thinks of the states, ``[N, T]``.
            next_values: And of those that followed, ``[N, T]``; where the task's own rule ended the
                episode they do not count, where a time limit did they do.
            terminated: Ended by the task's own rule, bool or 0 and 1 ``[N, T]``.
            valid: bool ``[N, T]``, False on the tail of sequences that are shorter; None: nowhere.

        Raises:
            ValueError: shapes do not go together.
        """
        if valid is None:
            valid = torch.ones_like(rewards, dtype=torch.bool)
        rows = {"rewards": rewards, "values": values, "next_values": next_values}
        rows |= {"terminated": terminated, "valid": valid}
        for name, x in rows.items():
            if x.shape != actions.shape[:2]:
                found = f"{name} is {list(x.shape)}"
                raise ValueError(f"{found}, where actions of {list(actions.shape)} want [N, T]")
        if policy_actions.shape != actions.shape:
            found = f"policy_actions are {list(policy_actions.shape)}"
            raise ValueError(f"{found}, where actions are {list(actions.shape)}")

        def of_one_policy(x: Tensor) -> Tensor:
            """``[N, T, ...] -> [1, T, N, ...]``."""
            return x.transpose(0, 1).unsqueeze(0)

        after = torch.where(terminated.bool(), 0.0, next_values.detach())
        parts = (actions, policy_actions, rewards, values.detach(), after, valid.bool())
        a, pi, r, v, v_next, there = map(of_one_policy, parts)
        steps = Steps(a, pi, r, v, v_next, there, self.discount)
        return steps.mean(self._network(self._params, [steps])[0]).squeeze(0)


def load_objective(
    run: str | Path,
    checkpoint: int | Literal["latest"] = "latest",
    device: DeviceName = "cpu",
) -> LearnedObjective:
    """What a run of MetaGenRL has learned; nothing that its config names is imported.

    Args:
        run: Its folder.
        checkpoint: An iteration, or the latest.
        device: Where it computes.

    Raises:
        UserError: there is no such run, or it is of another algorithm.
    """
    run_dir = Path(os.path.expanduser(run))
    if not holds_run(run_dir):
        raise UserError(f"{run_dir} is no run: it has no config.yaml.")
    section: Any = read_yaml(run_dir / "config.yaml")[0].get("algorithm")
    name = section.get("name") if isinstance(section, Mapping) else section
    if name != "metagenrl":
        raise UserError(f"{run_dir} is a run of {name}: only metagenrl learns an objective.")
    try:
        settings = MetaGenRLSettings.model_validate(section)
        network = ObjectiveNetwork(settings.objective_width)
        saved = load_checkpoint(run_dir, checkpoint).state["algorithm"]["params"]
        params = {
            own.removeprefix("objective."): p
            for own, p in saved.items()
            if own.startswith("objective.")
        }
        check_state({"objective": params}, {"objective": network.init(np.random.default_rng(0))})
    except (ValidationError, ValueError, KeyError, TypeError, AttributeError) as error:
        said = message_of(error).splitlines()[0]
        raise UserError(f"{run_dir} holds no objective of metagenrl: {said}.") from error
    params = to_device(params, resolve_device(device))
    return LearnedObjective(network, params, settings.discount, settings.sequence)
