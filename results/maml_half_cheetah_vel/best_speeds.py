"""What k constant speeds, the best one for every held-out velocity, could earn: −200 E|v − v*|.

    python results/maml_half_cheetah_vel/best_speeds.py

One speed is all that a policy without adaptation can choose; two, four and eight are what one,
two and three answers of "faster" or "slower" can tell apart. Control cost and acceleration are
left out. Then by how much MAML's first gradient step beats two agents that do not adapt, paired by
velocity: the multitask policy, and the best single speed.
"""

import json
from pathlib import Path

import numpy as np

from metarl.evaluation.statistics import bootstrap_interval

velocities = np.sort(np.random.RandomState(1).uniform(0, 2, 40))  # Finn et al. 2017, m/s
horizon = 200


def cost(group: np.ndarray) -> float:
    """Σ|v − v*| at the group's best speed, its median."""
    return float(np.abs(group - np.median(group)).sum())


best = [cost(velocities[: end + 1]) for end in range(len(velocities))]  # with one speed
for speeds in range(1, 9):
    if speeds > 1:  # the last group begins at i + 1
        best = [
            min([best[end]] + [best[i] + cost(velocities[i + 1 : end + 1]) for i in range(end)])
            for end in range(len(velocities))
        ]
    if speeds in (1, 2, 4, 8):
        print(f"{speeds} speeds: {-horizon * best[-1] / len(velocities):.1f}")

measured = Path(__file__).parent / "seed_1/evaluation/held_out/evaluation.json"
evaluation = json.loads(measured.read_text(encoding="utf-8"))
after_one_step = np.array(evaluation["returns"][1])  # [task]
targets = np.array(evaluation["tasks"])[:, 0]
for name, returns in {
    "multitask": np.array(evaluation["references"]["multitask"]["returns"]),
    "one speed": -horizon * np.abs(targets - np.median(targets)),
}.items():
    gain = after_one_step - returns
    low, high = bootstrap_interval(gain)
    print(f"first step minus {name}: {gain.mean():+.1f} [{low:.1f}, {high:.1f}]")
