"""A new run that begins with the parameters of another."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from metarl.errors import UserError, message_of
from metarl.maths.params import check_state
from metarl.storage.checkpoint import load_checkpoint
from metarl.storage.json_lines import read_json
from metarl.types import Algorithm


def warm_start(algorithm: Algorithm, run: str | Path) -> dict[str, Any]:
    """Give an untrained algorithm what another run has learned: parameters and normalisers.

    The optimiser's memory begins anew, as does what the other run does not have: an algorithm names
    in its attribute ``optimiser_state`` the parts of its state that are of the optimiser. Of the
    run only its last checkpoint is read, so nothing that its config names is imported.

    Args:
        algorithm: Untrained.
        run: The other run's folder.

    Returns:
        What `meta.json` says of it: the ``run``, the ``iteration`` and the ``sha256`` of its state,
        and which parts were ``taken``.

    Raises:
        UserError: there is no such run, or its parameters do not fit.
    """
    run_dir = Path(os.path.expanduser(run))
    saved = load_checkpoint(run_dir)
    theirs, own = saved.state.get("algorithm"), algorithm.state_dict()
    anew = getattr(algorithm, "optimiser_state", ())
    try:
        if not isinstance(theirs, dict):
            raise ValueError("its checkpoint holds no algorithm")
        taken = {name: theirs[name] for name in own if name in theirs and name not in anew}
        if not taken:
            raise ValueError(f"it has none of {', '.join(own)}")
        check_state(taken, {name: own[name] for name in taken})
        algorithm.load_state_dict(own | taken)
    except Exception as error:  # a user's algorithm can fail in any way
        said = message_of(error) or type(error).__name__
        raise UserError(
            f"--init-from: what {run_dir} has learned does not fit this run's algorithm and "
            f"spaces: {said}."
        ) from error
    return {
        "run": str(run_dir),
        "iteration": saved.iteration,
        "sha256": saved.manifest["sha256"],
        "taken": list(taken),
    }


def recorded_start(run_dir: Path) -> dict[str, Any] | None:
    """What a run's `meta.json` says of the run that it began from; None if it did not."""
    try:
        start = read_json(run_dir / "meta.json")["init_from"]
        named = isinstance(start["run"], str) and isinstance(start["sha256"], str)
        return start if named and isinstance(start["iteration"], int) else None
    except (OSError, ValueError, TypeError, KeyError):
        return None
