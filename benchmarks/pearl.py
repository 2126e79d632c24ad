"""PEARL's gradient steps against the same networks in bare torch: modules, autograd, torch's Adam.

    python -m benchmarks.pearl [--transitions 256] [--width 300] [--device cuda] [--json FILE]

Both learn on made-up transitions of HalfCheetah's sizes. The bare one is handed its batches ready,
draws its noise with torch, checks nothing, and keeps no metrics; its two critics are two modules.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from benchmarks.measurement import begin, count, parser, updates_beside_bare, write_json
from metarl.algorithms.pearl import PEARL
from metarl.algorithms.settings.pearl import PEARLSettings
from metarl.config.loading import resolve_device
from metarl.process import run_program
from metarl.random import Key

OBSERVATION, ACTION = 17, 6


def made_up(options: argparse.Namespace) -> PEARL:
    """PEARL whose buffers hold normal numbers."""
    sizes: dict[str, Any] = {
        "training_tasks": options.tasks,
        "tasks": 1,
        "batch_tasks": options.tasks,
        "transitions": options.transitions,
        "context": options.context,
        "encoder_sizes": (options.encoder_width,) * 3,
        "hidden_sizes": (options.width,) * 3,
        "replay_capacity": 1000,
    }
    observed, acted = (spaces.Box(-1.0, 1.0, (n,), np.float32) for n in (OBSERVATION, ACTION))
    pearl = PEARL(PEARLSettings(**sizes), observed, acted, 0, options.device)
    rng = Key(0).generator("evaluation")
    for task in range(options.tasks):
        rows = {
            name: torch.from_numpy(rng.standard_normal((1000, *shape), dtype=np.float32)).tanh()
            for name, shape in pearl.replay.fields.items()
        }
        rows["terminated"] = torch.zeros(1000)
        pearl.replay.add(task, rows)
        pearl.context.add(task, rows)
    return pearl


class Bare:
    """The same gradient step, as a script without a framework has it."""

    def __init__(self, pearl: PEARL, options: argparse.Namespace) -> None:
        self.config, device = pearl.config, options.device
        z = self.config.latent

        def network(n_in: int, n_out: int, width: int) -> nn.Module:
            sizes = (n_in, width, width, width)
            layers = [
                part for a, b in itertools.pairwise(sizes) for part in (nn.Linear(a, b), nn.ReLU())
            ]
            return nn.Sequential(*layers, nn.Linear(width, n_out)).to(device)

        self.encoder = network(OBSERVATION + ACTION + 1, 2 * z, options.encoder_width)
        self.critics = nn.ModuleList(
            [network(OBSERVATION + ACTION + z, 1, options.width) for _ in range(2)]
        )
        self.target = copy.deepcopy(self.critics)
        self.actor = network(OBSERVATION + z, 2 * ACTION, options.width)
        self.log_alpha = torch.zeros((), device=device, requires_grad=True)
        value = [*self.encoder.parameters(), *self.critics.parameters()]
        self.adams = [
            torch.optim.Adam(params, lr=self.config.lr)
            for params in (value, list(self.actor.parameters()), [self.log_alpha])
        ]
        tasks, rng = np.arange(options.tasks), np.random.default_rng(0)
        drawn = pearl.context.sample(tasks, self.config.context, rng)
        self.context = {name: part.to(device) for name, part in drawn.items()}
        drawn = pearl.replay.sample(tasks, self.config.transitions, rng)
        self.rows = {name: part.to(device) for name, part in drawn.items()}

    def networks(self) -> dict[str, list[Any]]:
        """By the beginning of PEARL's names for their parameters."""
        return {"encoder": [self.encoder], "critic": [*self.critics], "actor": [self.actor]}

    def parameters(self) -> dict[str, Tensor]:
        """By PEARL's names, as it has them: weights ``[in, out]``, critics stacked."""
        found = {"log_alpha": self.log_alpha}
        for name, several in self.networks().items():
            for i in range(4):
                layers = [network[2 * i] for network in several]
                weight = torch.stack([layer.weight.T for layer in layers])
                bias = torch.stack([layer.bias.unsqueeze(0) for layer in layers])
                alone = name != "critic"
                found[f"{name}{i}.weight"] = weight[0] if alone else weight
                found[f"{name}{i}.bias"] = bias[0] if alone else bias
        return found

    @torch.no_grad()
    def take(self, params: Mapping[str, Tensor]) -> None:
        """Begin with PEARL's parameters, and targets like them."""
        self.log_alpha.copy_(params["log_alpha"])
        for name, several in self.networks().items():
            for i in range(4):
                for n, network in enumerate(several):
                    weight, bias = params[f"{name}{i}.weight"], params[f"{name}{i}.bias"]
                    stacked = name == "critic"
                    network[2 * i].weight.copy_((weight[n] if stacked else weight).T)
                    network[2 * i].bias.copy_((bias[n] if stacked else bias)[0])
        self.target = copy.deepcopy(self.critics)

    def noise(self, like: Tensor) -> Tensor:
        """Standard normal."""
        return torch.randn_like(like)

    def act(self, observation: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_std = self.actor(torch.cat([observation, z], -1)).chunk(2, -1)
        std = log_std.clamp(-20, 2).exp()
        u = mean + std * self.noise(mean)
        action = u.tanh()
        squeezed = 2 * (np.log(2) - u - nn.functional.softplus(-2 * u))
        density = torch.distributions.Normal(mean, std, validate_args=False).log_prob(u)
        return action, (density - squeezed).sum(-1)

    def step(self) -> None:
        rows, n = self.rows, self.config.transitions
        raw, variance = self.encoder(
            torch.cat(
                [
                    self.context["observations"],
                    self.context["actions"],
                    self.context["rewards"].unsqueeze(-1),
                ],
                -1,
            )
        ).chunk(2, -1)
        precision = 1 / nn.functional.softplus(variance).clamp(min=1e-7)
        variance = 1 / precision.sum(1)
        mean = variance * (raw * precision).sum(1)
        z = mean + variance.sqrt() * self.noise(mean)
        kl = 0.5 * (variance + mean.square() - 1 - variance.log()).sum()
        z = z.unsqueeze(1).expand(-1, n, -1)
        alpha = self.log_alpha.detach().exp()
        with torch.no_grad():
            action, log_prob = self.act(rows["next_observations"], z)
            x = torch.cat([rows["next_observations"], action, z], -1)
            q = torch.minimum(*(critic(x) for critic in self.target)).squeeze(-1)
            y = 5 * rows["rewards"] + 0.99 * (1 - rows["terminated"]) * (q - alpha * log_prob)
        x = torch.cat([rows["observations"], rows["actions"], z], -1)
        loss = sum((critic(x).squeeze(-1) - y).square().mean() for critic in self.critics)
        self.descend(self.adams[0], loss + 0.1 * kl)
        z = z.detach()
        action, log_prob = self.act(rows["observations"], z)
        x = torch.cat([rows["observations"], action, z], -1)
        for p in self.critics.parameters():
            p.requires_grad_(False)
        q = torch.minimum(*(critic(x) for critic in self.critics)).squeeze(-1)
        self.descend(self.adams[1], (alpha * log_prob - q).mean())
        for p in self.critics.parameters():
            p.requires_grad_(True)
        self.descend(self.adams[2], -self.log_alpha * (log_prob.detach().mean() - ACTION))
        with torch.no_grad():
            target, online = ([*part.parameters()] for part in (self.target, self.critics))
            for old, new in zip(target, online, strict=True):
                old.lerp_(new, 0.005)

    @staticmethod
    def descend(adam: torch.optim.Optimizer, loss: Tensor) -> None:
        adam.zero_grad()
        loss.backward()
        adam.step()


def options_of(argv: Sequence[str]) -> argparse.Namespace:
    """The command line, read."""
    arguments = parser("pearl", __doc__)
    arguments.add_argument("--tasks", type=count, default=16, help="of a gradient step")
    arguments.add_argument("--transitions", type=count, default=256, help="of each task")
    arguments.add_argument("--context", type=count, default=100, help="of each task")
    arguments.add_argument("--width", type=count, default=300, help="of actor and critics")
    arguments.add_argument("--encoder-width", type=count, default=200)
    arguments.add_argument("--updates", type=count, default=20, help="of a measurement")
    arguments.add_argument("--device", choices=["auto", "cpu", "cuda"], default="cpu")
    options = begin(arguments, argv)
    options.device = resolve_device(options.device)
    return options


def run(argv: Sequence[str]) -> int:
    """Measure, print and write."""
    options = options_of(argv)
    pearl = made_up(options)
    bare, rng = Bare(pearl, options), np.random.default_rng(0)

    rows, summary = updates_beside_bare("pearl", options, lambda: pearl._step(rng), bare.step)
    write_json("pearl", options, rows, summary)
    return 0


if __name__ == "__main__":
    sys.exit(run_program(lambda: run(sys.argv[1:])))
