"""Many runs from one file: ``metarl suite run suite.yaml``."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, NamedTuple

from metarl.errors import EnvironmentFailure, UserError
from metarl.process import optional_output, say

if TYPE_CHECKING:
    from metarl.config.fields import Config
    from metarl.suites.suite import Suite

_USAGE = """\
Runs of many configs, seeds and settings from one file, compared at the end.

  metarl suite run SUITE [--ray] [--time-limit T]     do what is left to do
  metarl suite resume SUITE [...]                     the same
  metarl suite status SUITE                           how far it is, also while it runs elsewhere
  metarl suite commands SUITE                         the command of each run, a line each

  SUITE           a YAML file, or the name of one that comes with metarl
  --ray           on the Ray cluster that this machine belongs to, or that RAY_ADDRESS names
  --time-limit T  let every run save and end so many seconds after the start; also 3h30m, 03:30:00
  --break-lock    take the suite from the process that runs it
  --help          this text

In the file all but configs may be left out:

  folder: runs/steps                        where everything lies; else runs/<name of the file>
  configs: [maml_navigation, anil_navigation]
  seeds: [1, 2, 3]
  overrides: {iterations: 50}               fields of every config
  grid: {algorithm.inner_lr: [0.1, 0.3]}    fields with several values, each with each
  resources: {cores: 1, gpus: 0.5}          of every job, as many at once as there is room for
  retries: 2                                of a job that failed
  references: [oracle, multitask]           trained first, where they are missing
  evaluations: {far: {split: out_of_range}} of every run, besides the one at its end
  comparison: {evaluation_seeds: 10}        options of metarl evaluate; null: none

In place of their names configs can have fields of their own, which win over the suite's:

  configs:
    short: {config: rl2_bandit_10x100, overrides: {env.pulls: 20}, compare: false}
    long: {config: rl2_bandit_10x100, seeds: [1], grid: {}, init_from: short}
"""
_ACTIONS = ("run", "resume", "status", "commands")


class Asked(NamedTuple):
    """What `metarl suite` is to do."""

    action: str
    suite: Suite
    ray: bool
    time_limit_s: float | None
    break_lock: bool


def run(argv: Sequence[str]) -> int:
    """Run a suite, or tell of it."""
    if not argv or set(argv) & {"--help", "-h"}:
        print(_USAGE, end="")
        return 0
    asked = parse_suite_arguments(argv)
    if asked.action == "commands":
        with optional_output():
            print("\n".join(job.command for job in asked.suite.runs))
    elif asked.action == "status":
        from metarl.suites.status import print_status, suite_status

        with optional_output():
            print_status(suite_status(asked.suite.jobs))
    else:
        _run(asked)
    return 0


def parse_suite_arguments(argv: Sequence[str]) -> Asked:
    """The suite, and what to do with it.

    Raises:
        UserError: anything wrong with the words or the file.
    """
    from metarl.cli.train_options import seconds
    from metarl.config.messages import names_there_are
    from metarl.config.validation import split_options
    from metarl.storage.places import find_suite
    from metarl.suites.suite import load_suite

    options = split_options(argv, ("ray", "break_lock"), positional="word")
    given = {option.name: option.text for option in options}
    action, *files = [str(option.text) for option in options if option.name == "word"] or [""]
    if action not in _ACTIONS:
        there_are = names_there_are(action, _ACTIONS)
        raise UserError(f"metarl suite has no action {action!r}: {there_are}.")
    if len(files) != 1:
        raise UserError(f"Give one suite, as in metarl suite {action} SUITE.")
    known = {"word", "ray", "break_lock", "time_limit"} if action in _ACTIONS[:2] else {"word"}
    for name in given.keys() - known:
        raise UserError(f"metarl suite {action} has no option --{name.replace('_', '-')}.")
    limit = given.get("time_limit")
    limit_s = None if limit is None else seconds(limit)
    suite = load_suite(find_suite(files[0]))
    return Asked(action, suite, "ray" in given, limit_s, "break_lock" in given)


def _run(asked: Asked) -> None:
    """Do what is left to do.

    Raises:
        EnvironmentFailure: a job failed for good.
        KeyboardInterrupt: the suite was stopped.
    """
    from metarl.process import stop_requests, time_limit
    from metarl.storage.lock import RunLock
    from metarl.storage.run_folder import make_run_dir
    from metarl.suites.scheduler import Place, Scheduler
    from metarl.suites.status import LiveStatus

    suite = asked.suite
    place: Place
    check(suite, asked.ray)
    if asked.ray:
        from metarl.suites.ray_jobs import RayJobs

        place = RayJobs(suite.file.resources)
    else:
        from metarl.suites.processes import Processes

        place = Processes(suite.file.resources)
    make_run_dir(suite.folder)
    with ExitStack() as stack:
        stack.enter_context(RunLock(suite.folder, asked.break_lock))
        stack.enter_context(time_limit(asked.time_limit_s))
        stop = stack.enter_context(stop_requests(lambda: "the runs to save"))
        shown = stack.enter_context(LiveStatus(suite.jobs, time.monotonic))
        scheduler = Scheduler(suite.jobs, place, suite.file.retries, shown.say)
        scheduler.run(stop, shown.watch)
    done = f"{len(scheduler.done)} of {len(suite.jobs)} jobs of {suite.path} are finished"
    if scheduler.failed:
        name, why = next(iter(scheduler.failed.items()))
        failed = f"{len(scheduler.failed)} failed: {name} with {why.rstrip('.')}"
        raise EnvironmentFailure(f"{done}, {failed}.")
    if scheduler.left:
        say(f"{done}; the same command goes on.")
        raise KeyboardInterrupt
    say(f"{done}; all lies in {suite.folder}.")


def check(suite: Suite, ray: bool = False) -> None:
    """Refuse a suite of which a run, or the comparison, would be refused.

    Of runs that differ in the seed alone and have not begun one is looked at. GPUs of a cluster are
    not this machine's, so there a run that goes on with one is left to its job.

    Raises:
        UserError: names the run, its field and the rule.
    """
    from metarl.cli.command_line import parse_train_arguments
    from metarl.measuring.comparing import RunFolder, check_comparable, group_runs
    from metarl.runs.build import make_algorithm, make_worker
    from metarl.storage.run_folder import holds_run
    from metarl.suites.suite import COMPARISON

    options, gpus = suite.file.comparison, suite.file.resources.gpus
    elsewhere = ["--device", "auto"] if ray and gpus else []
    seen: dict[str, Config] = {}
    compared = {name for job in suite.jobs if job.name == COMPARISON for name in job.needs}
    folders = []
    for job in suite.runs:
        name, _, seed = job.name.rpartition("/seed_")
        begun = holds_run(job.folder)
        try:
            if name not in seen or (begun and not elsewhere):
                run_dir = ["--run-dir", str(job.folder / "new")] if begun and elsewhere else []
                words = [*job.words[1:], *elsewhere, *run_dir]
                seen[name] = config = parse_train_arguments(words)[0]
                if config.device == "cuda" and not gpus:
                    raise UserError("device is cuda, and resources.gpus is 0.")
                with closing(make_worker(config)) as worker:
                    make_algorithm(config, worker)
        except UserError as error:
            said = str(error).removeprefix("command line: ")
            raise UserError(f"{suite.path}: the run {job.name} is refused: {said}") from error
        if options is not None and job.name in compared:
            config = seen[name].model_copy(update={"seed": int(seed)})
            plan = options.plan(config.evaluation)
            began = suite.file.configs[name.partition("/")[0]].init_from
            folders.append(RunFolder(job.folder, config, plan, started_from=began))
    if folders:
        check_comparable(folders)
        group_runs(folders)
