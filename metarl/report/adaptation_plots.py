"""Adaptation curve and reward within the episode of one evaluation.

Before adaptation is always orange, after it always blue; references are grey.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from metarl.report.figures import (
    AFTER,
    BEFORE,
    SKY,
    in_legend,
    label_lines,
    legend_above,
    png,
    single_axes,
)
from metarl.report.words import step_name

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from metarl.evaluation.protocol import Evaluation
    from metarl.evaluation.result import EvaluationResult


@png
def plot_adaptation_curve(result: EvaluationResult) -> Figure:
    """Mean return against adaptation steps with its interval, both modes and the references."""
    figure, ax = single_axes(6.0, 4.8)
    head, steps = result.headline, np.arange(result.adaptation_steps + 1)
    low, high = np.array(head.ci95).T
    ax.fill_between(steps, low, high, color=AFTER, alpha=0.2, linewidth=0)
    label = in_legend(f"{result.algorithm}, {head.action_mode}")
    ax.plot(steps, head.mean, "o-", color=AFTER, label=label)
    if result.other is not None:
        label = in_legend(f"{result.algorithm}, {result.other.action_mode}")
        ax.plot(steps, result.other.mean, "s--", color=SKY, label=label, markersize=5)
    if result.x == "gradient_step":
        ax.set_xticks(steps, [f"{k}\n({used})" for k, used in enumerate(result.episodes_used)])
        ax.set_xlabel("gradient steps\n(episodes of experience used before)")
    else:
        ax.set_xticks(steps, [f"{k + 1}" for k in steps])
        ax.set_xlabel("episode of the trial")
    ax.set_xmargin(0.04)
    ax.set_ylabel("mean return over tasks\n(band: 95 % interval)")
    label_lines(ax, {name: ref.mean for name, ref in result.references.items()})
    legend_above(figure)
    return figure


@png
def plot_reward_within_episode(evaluation: Evaluation) -> Figure:
    """Mean reward at each time step of an episode, before and after adaptation."""
    figure, ax = single_axes(6.0, 4.4)
    steps = np.arange(1, evaluation.rewards.shape[2] + 1)
    for k, color in {0: BEFORE, evaluation.adaptation_steps: AFTER}.items():
        rewards = evaluation.rewards[k]  # [n, T]
        mean = rewards.mean(axis=0)
        half = 1.96 * rewards.std(axis=0, ddof=1) / np.sqrt(len(rewards))
        ax.fill_between(steps, mean - half, mean + half, color=color, alpha=0.2, linewidth=0)
        ax.plot(steps, mean, color=color, label=step_name(evaluation.adaptation_axis, k))
    ax.set_xmargin(0.02)
    ax.set_xlabel("time step of the episode (finished episodes count 0)")
    ax.set_ylabel("mean reward ± 1.96 SE over tasks")
    legend_above(figure)
    return figure
