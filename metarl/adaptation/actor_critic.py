"""Deterministic policies and their critics, whose update is somebody else's objective.

Critics learn as in TD3 (Fujimoto et al. 2018). What the policies descend is handed in: a learned
objective, or one written by hand, see :mod:`metarl.networks.objective`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from metarl.experience.chunks import Chunks, chunk_fields, chunk_rows
from metarl.experience.replay import Replay, Rows
from metarl.maths.adam import Learned
from metarl.maths.params import Params, flatten, to_device, unflatten
from metarl.maths.soft_q import critic_errors, polyak, soft_targets
from metarl.networks.critics import Critics, DeterministicActor
from metarl.networks.objective import Steps, mean_of_valid

Objective = Callable[[Sequence[Steps]], list[Tensor]]
"""The steps of policies in several environments ↦ the loss of each step ``[M, T, N]``."""


class Recipe(NamedTuple):
    """How policies and critics learn.

    Attributes:
        hidden_sizes: Of a policy and of each critic.
        actor_lr: Adam's step size of the policies.
        critic_lr: Adam's step size of the critics.
        discount: γ.
        target_rate: τ, by which targets follow.
        target_noise: Deviation of the noise of target actions.
        target_noise_clip: Its bound.
        policy_delay: Critic updates to one of policies and targets.
        sequence: T, steps of a chunk.
        batch: N, chunks of an update, of each policy.
        capacity: Chunks kept of each policy.
        saturation_weight: Of the mean square of what a policy's tanh is given, which it descends
            beside its objective: where tanh is flat, no objective has a gradient.
        max_gradient_norm: Longer gradients of a policy are shortened to it.
        exploration_noise: Deviation of the noise of actions.
        random_steps: Env steps before which a policy acts at random.
        updates_per_step: Critic updates to one env step of a policy.
    """

    hidden_sizes: tuple[int, ...]
    actor_lr: float
    critic_lr: float
    discount: float
    target_rate: float
    target_noise: float
    target_noise_clip: float
    policy_delay: int
    sequence: int
    batch: int
    capacity: int
    saturation_weight: float
    max_gradient_norm: float
    exploration_noise: float
    random_steps: int
    updates_per_step: float

    def rounds(self, env_steps: float) -> int:
        """How often policies are updated after so many new env steps of each."""
        return max(round(env_steps * self.updates_per_step / self.policy_delay), 1)


class ActorCritics:
    """M policies in one kind of environment, with two critics, targets and replay each.

    Their parameters are stacked, so that all learn by one call; they share nothing.

    Args:
        recipe: How they learn.
        sizes: o and a, numbers of an observation and of an action.
        rngs: Of each one's initial parameters; there are M.
        device: Where updates run.

    Attributes:
        learned: The ``actor``, weights ``[M, in, out]``, and the ``critic``, ``[2M, in, out]``.
        target: Parameters of the targets of both.
        replay: Of chunks, a buffer for each.
        steps_kept: How many env steps it was ever given, mean over the policies.
    """

    def __init__(
        self,
        recipe: Recipe,
        sizes: tuple[int, int],
        rngs: Sequence[np.random.Generator],
        device: torch.device,
    ) -> None:
        self.recipe, self.device, self.count = recipe, device, len(rngs)
        observed, acted = sizes
        self.policy = DeterministicActor(observed, acted, recipe.hidden_sizes)
        self.critics = Critics(observed + acted, recipe.hidden_sizes)
        self.learned: dict[str, Learned] = {}
        self.target: Params = {}
        self.begin_policies(rngs)
        critics = _together([self.critics.init(rng) for rng in rngs], torch.cat)
        self.learned["critic"] = Learned(critics, device)
        self.target |= self.learned["critic"].params
        fields = chunk_fields(recipe.sequence, observed, acted)
        self.replay = Replay(fields, self.count, recipe.capacity)
        self.steps_kept = 0.0

    @property
    def actors(self) -> Params:
        """The policies' parameters ``[M, ...]``, on the CPU."""
        return to_device(self.learned["actor"].params, "cpu")

    @property
    def phi(self) -> Tensor:
        """The policies' parameters as one vector ``[P]``."""
        return flatten(self.learned["actor"].params)

    def begin_policies(self, rngs: Sequence[np.random.Generator]) -> None:
        """Policies that know nothing, in the place of those that are there; the critics stay."""
        actors = _together([self.policy.init(rng) for rng in rngs], torch.stack)
        self.learned["actor"] = Learned(actors, self.device)
        self.target |= self.learned["actor"].params

    def keep(self, episodes: Sequence[Rows]) -> None:
        """Put each policy's episodes ``[L, S, ...]`` into its replay."""
        for m, rows in enumerate(episodes):
            self.replay.add(m, chunk_rows(rows, self.recipe.sequence))
            self.steps_kept += float(rows["valid"].sum()) / self.count

    def sample(self, rng: np.random.Generator) -> Chunks:
        """A batch of each policy's chunks, uniformly and with replacement."""
        rows = self.replay.sample(np.arange(self.count), self.recipe.batch, rng)
        return Chunks.of(rows).to(self.device)

    def q(self, params: Mapping[str, Tensor], observations: Tensor, actions: Tensor) -> Tensor:
        """Both critics of every policy, ``[2, M, ...]``."""
        x = torch.cat([observations, actions], dim=-1)
        rows = x.flatten(1, -2).repeat_interleave(2, dim=0)  # [2M, rows, o + a]
        q = self.critics.rows(params, rows)
        return q.view(self.count, 2, *x.shape[1:-1]).transpose(0, 1)

    def value(self, observations: Tensor, actions: Tensor) -> Tensor:
        """What the first critic of every policy thinks, ``[M, ...]``."""
        x = torch.cat([observations, actions], dim=-1)
        first = {name: p[::2] for name, p in self.learned["critic"].params.items()}
        return self.critics.rows(first, x.flatten(1, -2)).view(x.shape[:-1])

    def learn_critics(self, chunks: Chunks, rng: np.random.Generator) -> Tensor:
        """One update of the critics; their mean error.

        Raises:
            FloatingPointError: the gradient is not finite.
        """
        y = self.targets(chunks, rng)
        seen: list[Tensor] = []

        def loss(params: Params) -> Tensor:
            q = self.q(params, chunks.observations, chunks.actions)
            errors = mean_of_valid(critic_errors(q, y), chunks.valid)
            seen.append(errors.detach().mean())
            return errors.sum()

        self.learned["critic"].step("the critics' loss", loss, self.recipe.critic_lr)
        return seen[0]

    @torch.no_grad()
    def targets(self, chunks: Chunks, rng: np.random.Generator) -> Tensor:
        """r + γ (1 − terminated) min_i Q̄_i(s′, π̄(s′) + ε) ``[M, T, N]``, ε normal and clipped."""
        recipe = self.recipe
        noise = torch.from_numpy(rng.standard_normal(chunks.actions.shape, dtype=np.float32))
        bound = recipe.target_noise_clip
        noise = (recipe.target_noise * noise.to(self.device)).clamp(-bound, bound)
        following = chunks.next_observations
        action = (self.policy(self.target, following) + noise).clamp(-1.0, 1.0)
        q = self.q(self.target, following, action)
        none = torch.zeros_like(chunks.rewards)  # there is no entropy in the value
        return soft_targets(chunks.rewards, chunks.terminated, q, none, 0.0, recipe.discount)

    def steps(self, chunks: Chunks, phi: Tensor) -> Steps:
        """What an objective sees of a batch, differentiable in φ ``[P]`` by the actions alone."""
        params = self._policies(phi)
        actions = self.policy(params, chunks.observations)
        with torch.no_grad():
            following = chunks.next_observations
            values = self.value(chunks.observations, actions)
            after = self.value(following, self.policy(params, following))
            after = torch.where(chunks.terminated, 0.0, after)
        rest = (chunks.rewards, values, after, chunks.valid, self.recipe.discount)
        return Steps(chunks.actions, actions, *rest)

    def worth(self, chunks: Chunks, phi: Tensor) -> Tensor:
        """Mean of Q(s, π_φ(s)) over each batch ``[M]``, differentiable in φ ``[P]``."""
        actions = self.policy(self._policies(phi), chunks.observations)
        return mean_of_valid(self.value(chunks.observations, actions), chunks.valid)

    @torch.no_grad()
    def deviation(self, chunks: Chunks) -> Tensor:
        """Of Q(s, π(s)) over each batch, ``[M]``."""
        q = self.value(
            chunks.observations, self.policy(self.learned["actor"].params, chunks.observations)
        )
        square = (q - mean_of_valid(q, chunks.valid).view(-1, 1, 1)).square()
        return mean_of_valid(square, chunks.valid).sqrt()

    def improve(self, gradient: Tensor, chunks: Chunks) -> None:
        """One step of the policies against a gradient ``[P]``; the targets follow.

        Args:
            gradient: Of their objective.
            chunks: The batch on which they are kept from saturating, too.

        Raises:
            FloatingPointError: it is not finite.
        """
        if self.recipe.saturation_weight:
            gradient = gradient + self.recipe.saturation_weight * self._saturation(chunks)
        shorter = (self.recipe.max_gradient_norm / (self.lengths(gradient) + 1e-6)).clamp(max=1.0)
        what, lr = "the policies' objective", self.recipe.actor_lr
        self.learned["actor"].move(what, self.scaled(gradient, shorter), lr)
        online = self.learned["actor"].params | self.learned["critic"].params
        self.target = polyak(self.target, online, self.recipe.target_rate)

    def lengths(self, gradient: Tensor) -> Tensor:
        """Of each policy's part of a gradient ``[P]``, ``[M]``."""
        parts = self._policies(gradient).values()
        return torch.stack([part.flatten(1).square().sum(1) for part in parts]).sum(0).sqrt()

    def cosines(self, one: Tensor, other: Tensor) -> Tensor:
        """Of the angle between each policy's parts of two gradients ``[P]``, ``[M]``."""
        pairs = zip(self._policies(one).values(), self._policies(other).values(), strict=True)
        products = torch.stack([(a * b).flatten(1).sum(1) for a, b in pairs]).sum(0)
        return products / (self.lengths(one) * self.lengths(other)).clamp(min=1e-12)

    def scaled(self, gradient: Tensor, by: Tensor) -> Tensor:
        """A gradient ``[P]`` with each policy's part multiplied by its own number ``[M]``."""
        parts = self._policies(gradient)
        return flatten({n: p * by.view(-1, *(1,) * (p.ndim - 1)) for n, p in parts.items()})

    def _saturation(self, chunks: Chunks) -> Tensor:
        """The gradient ``[P]`` of each policy's mean square of what its tanh is given."""
        phi = self.phi.requires_grad_()
        given = self.policy.unsquashed(self._policies(phi), chunks.observations)
        square = mean_of_valid(given.square().mean(-1), chunks.valid)
        return torch.autograd.grad(square.sum(), phi)[0]

    def _policies(self, phi: Tensor) -> Params:
        return unflatten(phi, self.learned["actor"].params)


def learn_critics(
    groups: Sequence[ActorCritics], rngs: Sequence[np.random.Generator]
) -> tuple[list[list[Chunks]], Tensor]:
    """As many critic updates as there are to one of the policies.

    Args:
        groups: Policies of one recipe, by environments.
        rngs: Each group's, of its batches and of the noise of its targets.

    Returns:
        The batches of every update, of each group; and the mean error of the last one.

    Raises:
        FloatingPointError: a gradient is not finite.
    """
    batches, errors = [], []
    for _ in range(groups[0].recipe.policy_delay):
        own = [group.sample(rng) for group, rng in zip(groups, rngs, strict=True)]
        errors = [g.learn_critics(b, rng) for g, b, rng in zip(groups, own, rngs, strict=True)]
        batches.append(own)
    return batches, torch.stack(errors).mean()


def summed(
    objective: Objective,
    groups: Sequence[ActorCritics],
    batches: Sequence[Chunks],
    phis: Sequence[Tensor],
) -> Tensor:
    """Σ of each policy's mean loss, so that each has the gradient of its own."""
    steps = [g.steps(b, phi) for g, b, phi in zip(groups, batches, phis, strict=True)]
    means = [s.mean(each).sum() for s, each in zip(steps, objective(steps), strict=True)]
    return torch.stack(means).sum()


def learn(group: ActorCritics, rng: np.random.Generator, objective: Objective) -> None:
    """Updates of the critics, and one step of the policies down an objective.

    Raises:
        FloatingPointError: a gradient is not finite.
    """
    batches, _ = learn_critics([group], [rng])
    phi = group.phi.requires_grad_()
    loss = summed(objective, [group], batches[0], [phi])
    group.improve(torch.autograd.grad(loss, phi)[0], batches[0][0])


def _together(parts: Sequence[Params], join: Callable[[list[Tensor]], Tensor]) -> Params:
    return {name: join([part[name] for part in parts]) for name in parts[0]}
