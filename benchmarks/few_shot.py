"""A training iteration of few-shot MAML against a torch.func script of the same loss, in turns.

    python -m benchmarks.few_shot [--ways 5] [--queries 1] [--device cuda] [--json FILE]

Four blocks of 64 filters on made-up 28 × 28 images; the iteration is the update alone, gradient and
step of Adam, since drawing the examples is the same for both. The script is what one would write
with torch.func: a module of torch's convolutions through functional_call, grad in vmap in grad. Its
batch normalisation is spelt out, because the second derivative of torch's own comes out wrong in
torch.func (by half a percent of the meta-gradient in torch 2.13).
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional as F

from benchmarks.measurement import (
    Seconds,
    begin,
    count,
    interleave,
    parser,
    peak_memory,
    print_parts,
    summarize,
    synchronize,
    write_json,
)
from metarl.algorithms.few_shot import FewShot
from metarl.algorithms.maml import GradientBatch
from metarl.algorithms.settings.few_shot import FewShotMAMLSettings
from metarl.config.loading import resolve_device
from metarl.experience.few_shot import FewShotSets
from metarl.maths.params import Params
from metarl.maths.samples import Samples
from metarl.networks.conv import BLOCKS
from metarl.process import run_program
from metarl.random import Key

SIDE = 28


class BatchNorm(nn.Module):
    """By the statistics of the images at hand."""

    def __init__(self, filters: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(filters, 1, 1))
        self.bias = nn.Parameter(torch.zeros(filters, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        var, mean = torch.var_mean(x, (0, 2, 3), keepdim=True, correction=0)
        return (x - mean) * (var + 1e-3).rsqrt() * self.weight + self.bias


class Network(nn.Module):
    """The four blocks and the last layer, by torch's own modules."""

    def __init__(self, ways: int, filters: int) -> None:
        super().__init__()
        blocks = []
        for i in range(BLOCKS):
            channels = filters if i else 1
            convolution = nn.Conv2d(channels, filters, 3, stride=2, padding=1, bias=False)
            blocks += [convolution, BatchNorm(filters), nn.ReLU()]
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(filters, ways)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(x).mean((2, 3)))


def torchs(params: Params) -> Params:
    """Our parameters under the names and in the shapes of :class:`Network`."""
    found = {"head.weight": params["head.weight"].T, "head.bias": params["head.bias"]}
    for i in range(BLOCKS):
        filters = params[f"block{i}.weight"].unflatten(0, (3, 3, -1)).permute(3, 2, 0, 1)
        found[f"blocks.{3 * i}.weight"] = filters
        found[f"blocks.{3 * i + 1}.weight"] = params[f"block{i}.scale"].view(-1, 1, 1)
        found[f"blocks.{3 * i + 1}.bias"] = params[f"block{i}.shift"].view(-1, 1, 1)
    return {name: p.contiguous() for name, p in found.items()}


def script_gradient(
    maml: FewShot, batch: GradientBatch, network: nn.Module, params: Params, chunk: int | None
) -> Params:
    """The meta-gradient by torch.func, so many tasks at a time."""
    steps, size = maml.config.adaptation_steps, maml.config.inner_lr[0]

    def loss(params: Params, images: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(functional_call(network, params, (images,)), labels)

    def task_loss(params: Params, support: tuple[Tensor, Tensor], query: Any) -> Tensor:
        for _ in range(steps):
            gradient = grad(loss)(params, *support)
            params = {name: p - size * gradient[name] for name, p in params.items()}
        return loss(params, *query)

    sets = [
        (s.observations.unflatten(2, (1, SIDE, SIDE)), s.actions)
        for s in (batch.data[0], batch.data[-1])
    ]
    every = vmap(task_loss, in_dims=(None, 0, 0), chunk_size=chunk)
    return grad(lambda p: every(p, *sets).mean())(params)


class Script:
    """The training loop of the script: parameters, and torch's Adam."""

    def __init__(self, maml: FewShot, batch: GradientBatch, chunk: int | None) -> None:
        self.maml, self.batch, self.chunk = maml, batch, chunk
        self.network = Network(maml.policy.classes, maml.policy.filters).to(maml.device)
        self.params = {n: nn.Parameter(p.clone()) for n, p in torchs(maml.params).items()}
        self.adam = torch.optim.Adam(self.params.values(), lr=maml.config.outer.lr)

    def update(self) -> None:
        """One iteration."""
        params: Params = {n: p.detach() for n, p in self.params.items()}
        gradient = script_gradient(self.maml, self.batch, self.network, params, self.chunk)
        for name, p in self.params.items():
            p.grad = gradient[name]
        self.adam.step()


def made_up(options: argparse.Namespace) -> tuple[FewShot, GradientBatch]:
    """An untrained MAML, and a meta-iteration's examples."""
    config = FewShotMAMLSettings.model_validate(
        {
            "tasks": options.tasks,
            "queries": options.queries,
            "adaptation_steps": options.adaptation_steps,
            "inner_lr": [0.4],
            "network": {"name": "conv", "filters": options.filters},
        }
    )
    images, classes = spaces.Box(0, 1, (1, SIDE, SIDE)), spaces.Discrete(options.ways)
    maml = FewShot(config, images, classes, seed=0, device=options.device)
    rng = np.random.default_rng(0)

    def examples(per_class: int) -> Samples:
        n = options.ways * per_class
        inputs = rng.random((options.tasks, n, SIDE * SIDE), dtype=np.float32)
        labels = torch.arange(options.ways).repeat_interleave(per_class).repeat(options.tasks, 1)
        ones = torch.ones(options.tasks, n)
        return Samples(torch.from_numpy(inputs), labels, ones, ones / n)

    sets = FewShotSets(examples(options.shots), examples(options.queries))
    source: Any = SimpleNamespace(
        sample_tasks=lambda n, key: np.zeros((n, 1)),
        examples=lambda tasks, queries, key, augment: sets,
    )
    return maml, maml.collect(source, Key(0, 1))


def arguments() -> argparse.ArgumentParser:
    """What can be chosen."""
    arguments = parser("few_shot", __doc__, repeats=5)
    arguments.add_argument("--tasks", type=count, default=32)
    arguments.add_argument("--ways", type=count, default=5)
    arguments.add_argument("--shots", type=count, default=1, help="support images of a class")
    arguments.add_argument("--queries", type=count, default=1, help="query images of a class")
    arguments.add_argument("--filters", type=count, default=64, help="of each of the four blocks")
    arguments.add_argument("--adaptation-steps", type=count, default=1)
    arguments.add_argument("--chunk", type=count, default=8, help="tasks of torch.func in chunks")
    arguments.add_argument("--device", choices=["auto", "cpu", "cuda"], default="cpu")
    return arguments


def run(argv: Sequence[str]) -> int:
    """Measure, print and write."""
    options = begin(arguments(), argv)
    options.device = resolve_device(options.device)
    maml, batch = made_up(options)
    whole, chunked = Script(maml, batch, None), Script(maml, batch, options.chunk)

    def seconds(update: Callable[[], object]) -> float:
        synchronize(options.device)
        start = time.perf_counter()
        update()
        synchronize(options.device)
        return time.perf_counter() - start

    def measured() -> Seconds:
        ours = seconds(lambda: maml.update(batch))
        return {"metarl": ours, "torch.func in chunks": seconds(chunked.update)}

    rows = interleave(lambda: seconds(whole.update), {"few_shot": measured}, options.repeats)
    summary: dict[str, object] = {**summarize(rows), "peak_memory_bytes": peak_memory()}
    print_parts(summarize(rows), "torch.func")
    print(
        f"{options.tasks} tasks, {options.ways}-way, {options.shots} support and {options.queries} "
        f"query images a class, 4 × {options.filters} filters, {options.device}, "
        f"{options.threads} threads; peak memory {peak_memory() / 2**30:.2f} GiB"
    )
    write_json("few_shot", options, rows, summary)
    return 0


if __name__ == "__main__":
    sys.exit(run_program(lambda: run(sys.argv[1:])))
