"""What a policy must know of an environment's spaces."""

from __future__ import annotations

from gymnasium import spaces


def space_sizes(
    observation_space: spaces.Space, action_space: spaces.Space
) -> tuple[int, int, bool]:
    """Numbers observed, action dimensions (or actions), and whether the actions are discrete.

    Raises:
        ValueError: if the observation is not a flat Box, or the action neither a flat Box nor
            Discrete.
    """
    if not isinstance(observation_space, spaces.Box) or len(observation_space.shape) != 1:
        raise ValueError(f"observations must be a flat Box, not {observation_space}")
    observed = observation_space.shape[0]
    if isinstance(action_space, spaces.Discrete):
        return observed, int(action_space.n), True
    if isinstance(action_space, spaces.Box) and len(action_space.shape) == 1:
        return observed, action_space.shape[0], False
    raise ValueError(f"actions must be a flat Box or Discrete, not {action_space}")
