"""What `meta.json` says about the circumstances of a run."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import metarl
from metarl.process import command_line

PACKAGES = ("torch", "numpy", "gymnasium", "mujoco", "stable_baselines3")


def metadata(
    device: str, torch_threads: int, physics_threads: int, wandb_id: str | None = None
) -> dict[str, Any]:
    """Describe the versions, the machine and the call of a run.

    Args:
        device: Where updates run: cpu, cuda or cuda:<index>.
        torch_threads: Threads of an update; they decide the order of float sums.
        physics_threads: Threads of the simulation; they change no result.
        wandb_id: `Tracker.wandb_id`.

    Returns:
        Builtins only, ready for JSON. `git` is None unless metarl runs from a git work tree. Of
        the machine its system and processor, nothing that names it.
    """
    return {
        "started_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": _command(),
        "versions": versions(),
        "git": _git_state(Path(metarl.__file__).parent),
        "platform": platform.system(),
        "processor": _processor(),
        "cpu_count": os.cpu_count(),
        "device": device,
        "device_name": _device_name(device),
        "torch_threads": torch_threads,
        "physics_threads": physics_threads,
        "wandb_id": wandb_id,
    }


def versions() -> dict[str, str | None]:
    """The versions of metarl, Python and the packages that decide a result; None: not installed."""
    found: dict[str, str | None] = {
        "metarl": metarl.__version__,
        "python": platform.python_version(),
    }
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = None
    return found


def _command() -> str:
    """The command line, without the folders that Python and the program lie in."""
    path = Path(sys.argv[0])
    if path.name == "__main__.py":
        program = ["python", "-m", path.parent.name]
    elif path.suffix == ".py":
        program = ["python", path.name if path.is_absolute() else str(path)]
    else:
        program = [path.name]  # a console script
    return command_line([*program, *sys.argv[1:]])


def _git_state(package: Path) -> dict[str, Any] | None:
    """The commit of the tree that holds `package`, and whether tracked files differ from it."""

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(package), *arguments],
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=10,
            check=True,
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},
        ).stdout.strip()

    try:
        # An installed metarl can lie inside a repository that is not its own.
        git("ls-files", "--error-unmatch", "__init__.py")
        return {
            "commit": git("rev-parse", "HEAD"),
            "dirty": bool(git("status", "--porcelain", "--untracked-files=no")),
        }
    except (OSError, subprocess.SubprocessError):
        return None


def _device_name(device: str) -> str:
    if device.startswith("cuda"):
        import torch

        return torch.cuda.get_device_name(device)
    return _processor()


def _processor() -> str:
    """The model of the processor, or its kind where the system does not say more."""
    try:
        for line in Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
