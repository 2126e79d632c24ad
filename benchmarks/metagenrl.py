"""MetaGenRL's updates against the same networks in bare torch: modules, autograd, torch's Adam.

    python -m benchmarks.metagenrl [--population 4] [--batch 32] [--width 64] [--json FILE]

Both learn on made-up sequences of HalfCheetah's sizes. The bare one is handed its batches ready,
checks nothing, and keeps no metrics; each agent has modules of its own, and the outer gradient is
autograd's through all of the update.
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
from torch.func import functional_call

from benchmarks.measurement import begin, count, parser, updates_beside_bare, write_json
from metarl.algorithms.metagenrl import MetaGenRL
from metarl.algorithms.settings.metagenrl import MetaGenRLSettings
from metarl.config.loading import resolve_device
from metarl.experience.chunks import Chunks
from metarl.process import run_program
from metarl.random import Key

OBSERVATION, ACTION = 17, 6


def made_up(options: argparse.Namespace) -> MetaGenRL:
    """MetaGenRL past its beginning, whose replay holds sequences of numbers within ±1."""
    sizes: dict[str, Any] = {
        "population": options.population,
        "batch": options.batch,
        "hidden_sizes": (options.width,) * 2,
        "capacity": 4000,
        "target_noise": 0.0,  # so that both can be shown to take the same steps
    }
    settings = MetaGenRLSettings(**sizes)
    observed, acted = (spaces.Box(-1.0, 1.0, (n,), np.float32) for n in (OBSERVATION, ACTION))
    made = MetaGenRL(settings, observed, acted, 0, options.device)
    rng = Key(0).generator("evaluation")
    (group,) = made.groups
    group.steps_kept = float(settings.anneal_steps)
    for agent in range(options.population):
        rows = {
            name: torch.from_numpy(rng.standard_normal((200, *shape), dtype=np.float32)).tanh()
            for name, shape in group.replay.fields.items()
        }
        rows |= {"terminated": torch.zeros(200, 20), "valid": torch.ones(200, 20)}
        rows["terminated"][:, -1] = 1.0
        group.replay.add(agent, rows)
    return made


def two_layers(n_in: int, n_out: int) -> nn.ModuleList:
    return nn.ModuleList([nn.Linear(n_in, 32), nn.Linear(32, n_out)])


class Objective(nn.Module):
    """The learned objective as a module."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.parts: Any = nn.ModuleDict(
            {"action": two_layers(2, 8), "step": two_layers(5, 8), "head": two_layers(width, 1)}
        )
        self.cell: Any = nn.LSTMCell(16, width)

    def layers(self, part: str, x: Tensor) -> Tensor:
        first, last = self.parts[part]
        rectified, squared = first(x).chunk(2, -1)
        out: Tensor = last(torch.cat([rectified.relu(), squared.square()], -1))
        return out

    def forward(self, data: Mapping[str, Tensor], policy_actions: Tensor) -> Tensor:
        """The mean loss of one agent's sequences ``[T, N]``."""
        action = self.layers("action", torch.stack([data["actions"], policy_actions], -1)).mean(-2)
        r, v, v_next = data["rewards"], data["values"], data["next_values"]
        delta = r + 0.99 * v_next - v
        place = (torch.arange(len(r)) / len(r)).to(r).unsqueeze(1).expand_as(r)
        centre, spread = v.mean(), v.std(correction=0)
        known = [(r - r.mean()) / r.std(correction=0), (v_next - centre) / spread]
        known += [(v - centre) / spread, delta / delta.square().mean().sqrt(), place]
        x = torch.cat([action, self.layers("step", torch.stack(known, -1).clamp(-5, 5))], -1)
        h = c = x.new_zeros(x.shape[1], self.cell.hidden_size)
        hidden = []
        for t in reversed(range(len(x))):
            h, c = self.cell(x[t], (h, c))
            hidden.append(h)
        losses = 1000 * torch.tanh(self.layers("head", torch.stack(hidden)).squeeze(-1) / 1000)
        return losses.mean()


class Member:
    """One agent of the bare population."""

    def __init__(self, options: argparse.Namespace) -> None:
        def network(n_in: int, n_out: int) -> nn.Sequential:
            sizes = (n_in, options.width, options.width)
            layers = [
                part for a, b in itertools.pairwise(sizes) for part in (nn.Linear(a, b), nn.ReLU())
            ]
            return nn.Sequential(*layers, nn.Linear(options.width, n_out)).to(options.device)

        self.gradient: Sequence[Tensor] = ()
        self.policy: Any = nn.Sequential(network(OBSERVATION, ACTION), nn.Tanh())
        self.critics: Any = nn.ModuleList([network(OBSERVATION + ACTION, 1) for _ in range(2)])
        self.begin()

    def begin(self) -> None:
        """Targets like the networks, and Adam anew."""
        self.targets: Any = copy.deepcopy((self.policy, self.critics))
        self.adams = [
            torch.optim.Adam(part.parameters(), lr=1e-3) for part in (self.policy, self.critics)
        ]

    def learn_critics(self, data: Chunks) -> None:
        policy, critics = self.targets
        with torch.no_grad():
            x = torch.cat([data.next_observations, policy(data.next_observations)], -1)
            q = torch.minimum(*(critic(x) for critic in critics)).squeeze(-1)
            y = data.rewards + 0.99 * ~data.terminated * q
        x = torch.cat([data.observations, data.actions], -1)
        loss: Any = sum((critic(x).squeeze(-1) - y).square().mean() for critic in self.critics)
        self.adams[1].zero_grad()
        loss.backward()
        self.adams[1].step()

    def q(self, observations: Tensor, actions: Tensor) -> Tensor:
        value: Tensor = self.critics[0](torch.cat([observations, actions], -1)).squeeze(-1)
        return value

    def move(self, gradient: Sequence[Tensor]) -> None:
        """One step of the policy, and of the targets."""
        for p, g in zip(self.policy.parameters(), gradient, strict=True):
            p.grad = g.detach().clone()
        nn.utils.clip_grad_norm_(self.policy.parameters(), 1.0)
        self.adams[0].step()
        with torch.no_grad():
            old, new = (
                itertools.chain(*(part.parameters() for part in parts))
                for parts in (self.targets, (self.policy, self.critics))
            )
            for target, online in zip(old, new, strict=True):
                target.lerp_(online, 0.005)


class Bare:
    """The same updates, as a script without a framework has them."""

    def __init__(self, made: MetaGenRL, options: argparse.Namespace) -> None:
        self.objective = Objective(made.config.objective_width).to(options.device)
        self.adam = torch.optim.Adam(self.objective.parameters(), lr=3e-3)
        self.members = [Member(options) for _ in range(options.population)]
        rng = np.random.default_rng(0)
        self.batches = [made.groups[0].sample(rng) for _ in range(2)]

    @torch.no_grad()
    def take(self, params: Mapping[str, Tensor]) -> None:
        """Begin with MetaGenRL's parameters."""
        for name, part in self.objective.parts.items():
            for i, layer in enumerate(part):
                layer.weight.copy_(params[f"objective.{name}{i}.weight"].T)
                layer.bias.copy_(params[f"objective.{name}{i}.bias"])
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
            getattr(self.objective.cell, name).copy_(params[f"objective.memory.{name}"])
        for m, member in enumerate(self.members):
            named = {"actor_0.actor": [(m, member.policy[0])]}
            named["critic_0.critic"] = [(2 * m + i, part) for i, part in enumerate(member.critics)]
            for name, several in named.items():
                for place, network in several:
                    for i in range(3):
                        network[2 * i].weight.copy_(params[f"{name}{i}.weight"][place].T)
                        network[2 * i].bias.copy_(params[f"{name}{i}.bias"][place, 0])
            member.begin()

    def step(self) -> None:
        worth = []
        for m, member in enumerate(self.members):
            inner, outer = (Chunks(*(part[m] for part in batch)) for batch in self.batches)
            member.learn_critics(inner)
            member.learn_critics(outer)
            actions = member.policy(inner.observations)
            with torch.no_grad():
                after = member.policy(inner.next_observations)
                after = member.q(inner.next_observations, after) * ~inner.terminated
                values = member.q(inner.observations, actions)
            data = {"actions": inner.actions, "rewards": inner.rewards}
            loss = self.objective(data | {"values": values, "next_values": after}, actions)
            params = dict(member.policy.named_parameters())
            gradient = torch.autograd.grad(loss, list(params.values()), create_graph=True)
            changed = {n: p - g for (n, p), g in zip(params.items(), gradient, strict=True)}
            seen = torch.cat([inner.observations, outer.observations], 1)
            with torch.no_grad():
                unit = member.q(seen, member.policy(seen)).std(correction=0)
            q = member.q(seen, functional_call(member.policy, changed, (seen,)))
            worth.append(q.mean() / unit)
            given = member.policy[0](inner.observations).square().mean()  # of tanh
            back = torch.autograd.grad(given, list(params.values()))
            member.gradient = [g + 0.01 * b for g, b in zip(gradient, back, strict=True)]
        own = list(self.objective.parameters())
        loss = -torch.stack(worth).mean()
        for p, g in zip(own, torch.autograd.grad(loss, own), strict=True):
            p.grad = g
        nn.utils.clip_grad_norm_(own, 1.0)
        for member in self.members:
            member.move(member.gradient)
        self.adam.step()


def options_of(argv: Sequence[str]) -> argparse.Namespace:
    """The command line, read."""
    arguments = parser("metagenrl", __doc__)
    arguments.add_argument("--population", type=count, default=4, help="agents")
    arguments.add_argument("--batch", type=count, default=32, help="sequences of each, of 20 steps")
    arguments.add_argument("--width", type=count, default=64, help="of policies and critics")
    arguments.add_argument("--updates", type=count, default=10, help="of a measurement")
    arguments.add_argument("--device", choices=["auto", "cpu", "cuda"], default="cpu")
    options = begin(arguments, argv)
    options.device = resolve_device(options.device)
    return options


def run(argv: Sequence[str]) -> int:
    """Measure, print and write."""
    options = options_of(argv)
    made = made_up(options)
    bare, rngs = Bare(made, options), [np.random.default_rng(0)]

    rows, summary = updates_beside_bare("metagenrl", options, lambda: made._step(rngs), bare.step)
    # An update of the policies, and as many env steps of each agent as it has critic updates.
    env_steps = summary["updates_per_s"] * made.config.policy_delay * options.population
    summary["env_steps_per_s"] = env_steps
    print(f"learning from {env_steps:.4g} env steps a second")
    write_json("metagenrl", options, rows, summary)
    return 0


if __name__ == "__main__":
    sys.exit(run_program(lambda: run(sys.argv[1:])))
