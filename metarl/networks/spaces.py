"""What a policy must know of an environment's spaces."""

from __future__ import annotations

import math

from gymnasium import spaces

from metarl.envs.spaces import choices, is_image
from metarl.maths.distributions import Choices

Sizes = tuple[int, int, Choices]


def space_sizes(observation_space: spaces.Space, action_space: spaces.Space) -> Sizes:
    """Numbers observed, the size of a policy's output, and what an action is.

    An output is a number for each dimension of a continuous action, and for each option of each
    choice of a discrete one.

    Raises:
        ValueError: if they are not as environments show them to agents: the observation a flat Box
            or an image, the action a flat Box, Discrete, or flat MultiDiscrete or MultiBinary.
    """
    flat = isinstance(observation_space, spaces.Box) and len(observation_space.shape) == 1
    if not flat and not is_image(observation_space):
        raise ValueError(f"observations must be a flat Box or images, not {observation_space}")
    observed = math.prod(observation_space.shape or ())
    if isinstance(action_space, spaces.Discrete):
        return observed, int(action_space.n), True
    if len(action_space.shape or ()) == 1:
        if isinstance(action_space, spaces.Box):
            return observed, action_space.shape[0], False
        if isinstance(action_space, spaces.MultiDiscrete | spaces.MultiBinary):
            sizes = tuple(choices(action_space)[0].tolist())
            return observed, sum(sizes), sizes
    raise ValueError(
        "actions must be a flat Box, Discrete, or flat MultiDiscrete or MultiBinary, not "
        f"{action_space}"
    )


def number_sizes(observation_space: spaces.Space, action_space: spaces.Space) -> Sizes:
    """The same for algorithms that see no images.

    Raises:
        ValueError: as :func:`space_sizes`; images are observed.
    """
    sizes = space_sizes(observation_space, action_space)
    if is_image(observation_space):
        raise ValueError("its observations are numbers, and not images, which rl2 can see")
    return sizes
