"""Weights & Biases, kept at arm's length: it may fail at any time and never stops a run.

This is the only module that imports wandb, and only when a run is to be tracked.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from metarl.config.fields import Config
from metarl.config.loading import config_to_dict
from metarl.errors import EnvironmentFailure, one_line
from metarl.process import command_line
from metarl.storage.files import write_atomically
from metarl.storage.json_lines import read_json
from metarl.tracking.connection import (
    CONNECT_TIMEOUT_S,
    NoConnection,
    bounded,
    connect,
    has_key,
    requested_mode,
)
from metarl.tracking.wandb_folders import Variables, check_folder, set_aside

Mode = Literal["online", "offline", "disabled"]
Table = tuple[Sequence[str], Sequence[Sequence[Any]]]  # column names, rows


class Media(NamedTuple):
    """What is shown beside numbers, by name: image files, tables, and GIF or MP4 files."""

    figures: Mapping[str, Path] = {}
    tables: Mapping[str, Table] = {}
    videos: Mapping[str, Path] = {}

    def under(self, prefix: str) -> Media:
        """The same with a prefix before every name."""
        kinds: Any = ({f"{prefix}/{name}": x for name, x in kind.items()} for kind in self)
        return Media(*kinds)


NO_MEDIA = Media()

STATE_FILE = "wandb.json"

# Seconds that a run may wait for W&B before it goes on without.
INIT_TIMEOUT_S = 15.0
CALL_TIMEOUT_S = 30.0
FINISH_TIMEOUT_S = {"online": 60.0, "offline": 15.0}
TEARDOWN_TIMEOUT_S = 5.0

ARTIFACT_INTERVAL_S = 600.0  # between uploads of checkpoints; the last one goes at the end


class WandbRun:
    """A W&B run that, whatever happens to it, costs one warning and no more.

    Every call to wandb runs on a thread of its own and is waited for with a limit. The first that
    raises or exceeds it switches W&B off for the rest of the run. W&B's process swallows failures
    to write its own files, so these are looked for here.

    `wandb.json` in the run folder keeps what a resume needs: an online run keeps its id
    (`online_id`), an offline one too (`offline_id`): it begins a new segment, which is to be told
    everything again and takes the place of those before. `group` holds both together.
    With `files_dir` the run folder is only read: W&B's files go there, and `wandb.json` stays.

    Attributes:
        known: What the run holds already, the newest iteration and the newest validation.
    """

    def __init__(
        self,
        config: Config,
        *,
        resume: bool,
        warn: Callable[[str], None],
        files_dir: Path | None = None,
    ) -> None:
        run_dir, name, tracking = config.run_folder, config.name, config.tracking
        self.id: str | None = None
        self.mode: Mode = "disabled"
        self.url: str | None = None  # of an online run
        self.folder: Path | None = None  # of the files of this run or segment
        self._warn = warn
        self._root = (files_dir or run_dir) / "wandb"
        self._run: Any = None
        self._started = False
        self._variables = Variables(self._root, warn)
        self.known = {"iteration": 0, "validation/last_iteration": 0}
        self._env_steps = 0
        self._checkpoint: tuple[Path, int] | None = None
        self._uploaded_at = float("-inf")
        wanted = requested_mode(tracking.wandb, warn)
        if wanted == "disabled":
            return

        state = _read_state(run_dir) if resume else {}
        in_sweep = bool(os.environ.get("WANDB_SWEEP_ID"))
        # A sweep names, numbers and groups its runs itself. Elsewhere the group is what holds the
        # segments of an offline run together, so there is always one.
        group = tracking.group or state.get("group") or (None if in_sweep else name)
        options = {
            "project": tracking.project,
            "entity": tracking.entity,
            "group": group,
            "tags": list(tracking.tags),
            "name": None if in_sweep else name,
            "config": config_to_dict(config),
        }
        ids = {"online": state.get("online_id"), "offline": state.get("offline_id")}
        if state.get("mode") == "offline":
            ids["offline"] = ids["offline"] or state.get("id")
        self._open(wanted, options, ids | ({} if files_dir is None else {"offline": None}))
        if self._run is not None and files_dir is None:
            ids[self.mode] = self.id
            state = {"id": self.id, "mode": self.mode, "group": group}
            state |= {f"{mode}_id": there for mode, there in ids.items()}
            try:
                write_atomically(run_dir / STATE_FILE, json.dumps(state, indent=2) + "\n")
            except EnvironmentFailure:
                self.finish(1)
                raise

    @property
    def active(self) -> bool:
        """Whether what is logged still reaches W&B."""
        return self._run is not None

    def log(self, env_steps: int, values: Mapping[str, Any], media: Media = NO_MEDIA) -> None:
        """Log numbers, images, tables and videos at a place of the env-step axis."""
        if self._run is None:
            return
        self._env_steps = env_steps

        def call() -> None:
            import wandb

            check_folder(self._root)
            payload = dict(values)
            for key, path in media.figures.items():
                payload[key] = wandb.Image(str(path))
            for key, (columns, rows) in media.tables.items():
                payload[key] = wandb.Table(columns=list(columns), data=[list(row) for row in rows])
            for key, path in media.videos.items():
                payload[key] = wandb.Video(str(path))
            payload["env_steps"] = env_steps
            self._run.log(payload)

        self._guarded(call)

    def log_checkpoint(self, path: Path, iteration: int) -> None:
        """Upload a checkpoint as an artifact: at most one in ten minutes, and the last."""
        self._checkpoint = (path, iteration)
        if time.monotonic() - self._uploaded_at >= ARTIFACT_INTERVAL_S:
            self._upload_checkpoint()

    def finish(self, exit_code: int) -> None:
        """Hand everything to W&B and let go of it, within a limit."""
        self._upload_checkpoint()
        if self._run is not None:
            run, self._run = self._run, None
            try:
                # wandb keeps to the limit itself as a rule; this one holds when it does not.
                bounded(lambda: run.finish(exit_code), FINISH_TIMEOUT_S[self.mode] + 5)
            except Exception as error:
                self._warn(
                    f"W&B did not finish ({_reason(error)}); "
                    f"upload what it lacks with: wandb sync {command_line([str(self.folder)])}"
                )
        self._teardown()

    def _open(self, wanted: str, options: dict[str, Any], ids: Mapping[str, str | None]) -> None:
        """Start a run in the wanted mode, or offline, or none; with its id of that mode, if any."""
        problem: Exception | None = None
        try:
            check_folder(self._root)
            mode: Mode = "offline"
            try:
                mode = self._reachable_mode(wanted)
                if mode == "online":
                    self._init(mode, options, ids["online"])
            except Exception as error:
                # A failed online start can leave W&B's process busy: end it, go on with a new one.
                self._teardown()
                problem, mode = error, "offline"
            if mode == "offline":
                self._setup()
                if ids["offline"] is not None:
                    set_aside(self._root, ids["offline"])
                self._init(mode, options, ids["offline"])
        except Exception as error:
            self._switch_off(error)
            return
        if problem is not None:
            self._warn(f"W&B cannot go online ({_reason(problem)}); this run is tracked offline")

    def _setup(self) -> Any:
        """Start W&B's process, with its files in the run folder; return wandb's settings."""
        # Its reports on its own errors would hold up the end of the program where they find no way.
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        import wandb

        if not self._started:
            # Where a process of W&B's serves already, it is another's to end.
            self._started = "WANDB_SERVICE" not in os.environ
            self._variables.settle()
        return bounded(lambda: wandb.setup(wandb.Settings(**_QUIET)), INIT_TIMEOUT_S).settings

    def _reachable_mode(self, wanted: str) -> Mode:
        """The mode to start in, decided without a prompt.

        Raises:
            NoConnection: online is wanted, and there is no key or no way to the server.
        """
        if wanted == "offline":
            return "offline"
        settings = self._setup()
        if not has_key(settings.base_url, settings.api_key):
            if wanted == "auto":
                return "offline"
            raise NoConnection("no API key is configured: run `wandb login`")
        try:
            bounded(lambda: connect(settings.base_url), CONNECT_TIMEOUT_S)
        except Exception as error:
            raise NoConnection(f"no connection to {settings.base_url}") from error
        return "online"

    def _init(self, mode: Mode, options: dict[str, Any], own_id: str | None) -> None:
        import wandb

        def call() -> Any:
            run = wandb.init(
                **options,
                mode=mode,
                id=own_id or os.environ.get("WANDB_RUN_ID") or secrets.token_hex(4),
                resume="allow" if own_id and mode == "online" else None,
                dir=str(self._root.parent),
                reinit="create_new",  # a run of the caller's own stays untouched
                settings=wandb.Settings(
                    **_QUIET,
                    init_timeout=INIT_TIMEOUT_S,
                    finish_timeout=FINISH_TIMEOUT_S[mode],
                    finish_timeout_raises=True,
                    save_code=False,
                ),
            )
            run.define_metric("env_steps")
            run.define_metric("*", step_metric="env_steps")
            return run

        # wandb keeps to its own limit as a rule; this one holds when it does not.
        run = bounded(call, INIT_TIMEOUT_S + 10)
        self._run, self.id, self.mode = run, run.id, mode
        self.url = run.url
        if mode == "online" and run.resumed:
            there = {key: run.summary.get(key) for key in self.known}
            self.known = {key: value or 0 for key, value in there.items()}
        self.folder = Path(run.dir).parent
        for handler in logging.getLogger("wandb").handlers:
            # The handler of W&B's log file would print a traceback each time the disk is full.
            handler.handleError = lambda record: None  # type: ignore[method-assign]

    def _upload_checkpoint(self) -> None:
        if self._run is None or self._checkpoint is None:
            return
        path, iteration = self._checkpoint
        self._checkpoint = None
        self._uploaded_at = time.monotonic()

        def call() -> None:
            import wandb

            check_folder(self._root)
            artifact = wandb.Artifact(
                f"checkpoint-{self._run.id}",
                type="model",
                metadata={"iteration": iteration, "env_steps": self._env_steps},
            )
            add = artifact.add_dir if path.is_dir() else artifact.add_file
            add(str(path), skip_cache=True)
            self._run.log_artifact(artifact, aliases=["latest", f"iteration-{iteration}"])

        self._guarded(call)

    def _guarded(self, call: Callable[[], object]) -> None:
        """Run a call to wandb; if it fails, warn and switch W&B off."""
        try:
            bounded(call, CALL_TIMEOUT_S)
        except Exception as error:
            self._switch_off(error)

    def _switch_off(self, error: Exception) -> None:
        self._run = None
        self._warn(
            f"W&B is switched off for the rest of this run ({_reason(error)}); "
            "the local files go on"
        )
        self._teardown()

    def _teardown(self) -> None:
        """End W&B's process, and above all its exit hook, which would wait without limit."""
        if self._started:
            self._started = False
            import wandb

            # It may be dead or stuck already, and that was reported where it mattered.
            with contextlib.suppress(Exception):
                bounded(wandb.teardown, TEARDOWN_TIMEOUT_S)
        self._variables.restore()


_QUIET: dict[str, Any] = {"silent": True, "quiet": True, "console": "off"}


def is_tracked(run_dir: Path) -> bool:
    """Whether this run was ever tracked by W&B, online or offline."""
    return bool(_read_state(run_dir).get("id"))


def _reason(error: Exception) -> str:
    """The first line of an error, without an end that would read badly in brackets."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    lines = str(error).strip().splitlines()
    return one_line(lines[0]).rstrip(".:") if lines else type(error).__name__


def _read_state(run_dir: Path) -> dict[str, Any]:
    try:
        state = read_json(run_dir / STATE_FILE)
    except (OSError, ValueError):
        return {}
    return state if isinstance(state, dict) else {}
