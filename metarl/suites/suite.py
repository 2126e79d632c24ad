"""The file of a suite, and the jobs that it means."""

from __future__ import annotations

import itertools
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field

from metarl.config.fields import PathText, Section
from metarl.config.messages import Origins, at, names_there_are, nearest, shown
from metarl.config.validation import validated
from metarl.config.yaml_text import parse_scalar, read_yaml
from metarl.errors import UserError
from metarl.evaluation.reference_kinds import PER_TASK, TRAINED
from metarl.measuring.options import EvaluationOptions
from metarl.storage.run_folder import holds_run
from metarl.suites.jobs import Job

COMPARISON, REFERENCES = "comparison", "references"
_OF_THE_SUITE = {
    "run_dir": "every run has its own in the suite's folder",
    "name": "it is the entry's name",
    "seed": "give seeds",
    "init_from": "give it beside overrides",
    "config": "give it beside overrides",
    "resume": "a suite always goes on",
}
_THREADS = ("rollout.torch_threads", "rollout.physics_threads", "rollout.workers")


class Resources(Section):
    """What each job is given."""

    cores: int = Field(1, ge=1, description="CPU cores, and threads unless overrides say otherwise")
    gpus: float = Field(0.0, ge=0.0, description="GPUs, or a share of one; 0: none is seen")


class Entry(Section):
    """Runs that differ in nothing but the seed and the grid."""

    config: str | None = Field(None, min_length=1, description="name or file; null: as the entry")
    seeds: tuple[int, ...] | None = Field(None, min_length=1, description="null: the suite's")
    overrides: dict[str, Any] = Field({}, description="fields of the config, on the suite's")
    grid: dict[str, tuple[Any, ...]] = Field({}, description="field: values; besides the suite's")
    init_from: str | None = Field(
        None, min_length=1, description="entry or run whose parameters the runs begin with"
    )
    compare: bool = Field(True, description="take part in the comparison")


class SuiteFile(Section):
    """What stands in a suite's file."""

    folder: PathText | None = Field(None, min_length=1, description="null: runs/<name of file>")
    configs: dict[str, Entry] = Field(min_length=1, description="entries by name, or names")
    seeds: tuple[int, ...] = Field((1,), min_length=1, description="of every config")
    overrides: dict[str, Any] = Field({}, description="fields of every config: {iterations: 50}")
    grid: dict[str, tuple[Any, ...]] = Field({}, description="field: values, each with each")
    resources: Resources = Resources.model_validate({})
    retries: int = Field(2, ge=0, description="of a job that failed, in one go")
    references: tuple[str, ...] = Field((), description="kinds to train first")
    evaluations: dict[str, EvaluationOptions] = Field(
        {}, description="of every run, besides that at its end: folder: options"
    )
    comparison: EvaluationOptions | None = Field(
        EvaluationOptions.model_validate({}), description="options; null: none"
    )


@dataclass(frozen=True)
class Suite:
    """All jobs of a suite.

    Attributes:
        path: Its file.
        file: What stands there.
        folder: Where everything lies.
        jobs: In the order in which they begin, each behind those that it needs.
    """

    path: Path
    file: SuiteFile
    folder: Path
    jobs: tuple[Job, ...]

    @property
    def runs(self) -> list[Job]:
        """The jobs that train."""
        return [job for job in self.jobs if job.words[0] == "train"]


def load_suite(path: Path) -> Suite:
    """Read a suite's file; the configs of its runs are not looked at.

    Raises:
        UserError: a field is wrong, or two runs would lie in the same folder.
    """
    data, origins = read_yaml(path)
    given = data.get("configs")
    if isinstance(given, list):  # of names
        if wrong := next((name for name in given if not isinstance(name, str)), None):
            raise UserError(
                f"{at(('configs',), origins)}configs is a list of names of configs, or a mapping "
                f"of names to fields, but holds {shown(wrong)}."
            )
        data["configs"] = {Path(name).stem: {"config": name} for name in given}
        if len(data["configs"]) < len(given):
            raise UserError(f"{at(('configs',), origins)}configs names one config twice.")
    elif isinstance(given, dict):
        data["configs"] = {name: entry or {} for name, entry in given.items()}
    file = validated(SuiteFile, data, origins=origins)
    folder = Path(file.folder) if file.folder else Path("runs", path.stem)
    suite = _Expansion(file, folder, origins)
    return Suite(path, file, folder, tuple(suite.jobs()))


class _Expansion:
    """Makes jobs of a file."""

    def __init__(self, file: SuiteFile, folder: Path, origins: Origins) -> None:
        self._file, self._folder, self._origins = file, folder, origins
        self._points = {name: list(self._grid(name, entry)) for name, entry in file.configs.items()}

    def jobs(self) -> Iterator[Job]:
        """References, runs in the order of their warm starts, evaluations, the comparison."""
        references = self._references()
        yield from references.values()
        runs: list[Job] = []
        for name in sorted(self._file.configs, key=self._generation):  # stable
            needs = [references[name].name] if name in references else []
            runs += self._runs(name, needs)
        twice = [name for name, n in Counter(job.name for job in runs).items() if n > 1]
        if twice:
            raise self._wrong(("configs",), f"two runs would lie in {self._folder / twice[0]}")
        yield from runs
        for job in runs:
            for folder, options in self._file.evaluations.items():
                output = job.folder / "evaluation" / folder
                words = ["evaluate", str(job.folder), *_options(options), "--output", str(output)]
                yield Job(f"{job.name}/{folder}", output, tuple(words), (job.name,))
        compared = [j for j in runs if self._file.configs[j.name.partition("/")[0]].compare]
        if self._file.comparison is not None and len(compared) > 1:
            output = self._folder / COMPARISON
            words = ["evaluate", *(str(job.folder) for job in compared)]
            words += [*_options(self._file.comparison), "--output", str(output)]
            yield Job(COMPARISON, output, tuple(words), tuple(job.name for job in compared))

    def _runs(self, name: str, needs: list[str]) -> Iterator[Job]:
        entry = self._file.configs[name]
        for label, overrides in self._points[name]:
            for seed in self._seeds(entry):
                run = "/".join(filter(None, (name, label, f"seed_{seed}")))
                words = ["train", entry.config or name, "--run-dir", str(self._folder / run)]
                words += ["--name", name, "--seed", str(seed), "--resume", "auto"]
                first = self._first_stage(name, seed)
                if entry.init_from is not None:
                    begun_with = str(self._folder / first) if first else entry.init_from
                    words += ["--init-from", begun_with]
                words += _fields(overrides)
                before = (*needs, first) if first else needs
                yield Job(run, self._folder / run, tuple(words), tuple(before))

    def _grid(self, name: str, entry: Entry) -> Iterator[tuple[str, dict[str, Any]]]:
        """The points of an entry's grid: a folder's name, and all overrides there."""
        if not re.fullmatch(r"\w[\w.-]*", name) or name in (COMPARISON, REFERENCES):
            said = f"{shown(name)} is no name for an entry: take letters, digits, '.', '_' and '-'"
            raise self._wrong(("configs", name), said)
        fixed = self._checked(("overrides",), self._file.overrides)
        fixed |= self._checked(("configs", name, "overrides"), entry.overrides)
        grid = self._checked(("grid",), self._file.grid)
        grid |= self._checked(("configs", name, "grid"), entry.grid)
        if both := next((field for field in grid if field in fixed), None):
            raise self._wrong(("configs", name), f"{both} stands in overrides and in a grid")
        fixed = dict.fromkeys(_THREADS, self._file.resources.cores) | fixed
        last = Counter(field.rpartition(".")[2] for field in grid)
        for values in itertools.product(*grid.values()):
            point = dict(zip(grid, values, strict=True))
            parts = []
            for field, value in point.items():
                short = field.rpartition(".")[2]
                parts.append(f"{short if last[short] == 1 else field}={_text(value)}")
            yield re.sub(r"[^\w.,=+-]", "_", ",".join(parts)), fixed | point

    def _checked(self, where: tuple[str, ...], fields: Mapping[str, Any]) -> dict[str, Any]:
        """Fields of a config under the names that the config has for them."""
        named = {field.replace("-", "_"): value for field, value in fields.items()}
        for field, why in _OF_THE_SUITE.items():
            if field in named:
                raise self._wrong((*where, field), f"{field} cannot stand in {where[-1]}: {why}")
        for field, values in named.items():
            if where[-1] == "grid" and not values:
                raise self._wrong((*where, field), f"{field} has no values")
        return named

    def _seeds(self, entry: Entry) -> tuple[int, ...]:
        return entry.seeds or self._file.seeds

    def _generation(self, name: str) -> int:
        """How many entries an entry's runs stand on; refuses what they cannot begin with."""
        chain = [name]
        while (before := self._file.configs[chain[-1]].init_from) in self._file.configs:
            if before in chain:
                said = f"{' begins with '.join([*chain, before])}, which has no beginning"
                raise self._wrong(("configs", name, "init_from"), said)
            chain.append(str(before))
        if before is not None and not holds_run(Path(before)):
            near = nearest(before, self._file.configs)
            hint = f"; the nearest entry is {near}" if near else ""
            said = f"init_from is {shown(before)}, which is no entry and no run folder{hint}"
            raise self._wrong(("configs", chain[-1], "init_from"), said)
        return len(chain)

    def _first_stage(self, name: str, seed: int) -> str | None:
        """The run of the suite that a run begins with: of the same seed, or the only one."""
        before = self._file.configs[name].init_from
        if before is None or before not in self._file.configs:
            return None
        seeds = self._seeds(self._file.configs[before])
        if len(self._points[before]) > 1 or (seed not in seeds and len(seeds) > 1):
            said = f"{before} has several runs with which seed {seed} of {name} could begin"
            raise self._wrong(("configs", name, "init_from"), said)
        parts = (before, self._points[before][0][0], f"seed_{seed if seed in seeds else seeds[0]}")
        return "/".join(filter(None, parts))

    def _references(self) -> dict[str, Job]:
        """The job that trains the references of an entry; one after the other, since entries may
        have the same environment.
        """
        kinds, known, jobs = self._file.references, (*TRAINED, *PER_TASK), dict[str, Job]()
        if wrong := next((kind for kind in kinds if kind not in known), None):
            said = f"there is no reference {shown(wrong)}: {names_there_are(wrong, known)}"
            raise self._wrong(("references",), said)
        for name, entry in self._file.configs.items() if kinds else ():
            _, overrides = self._points[name][0]
            of_config = {field: value for field, value in overrides.items() if "." in field}
            words = ["references", entry.config or name, "--kind", ",".join(kinds)]
            before = tuple(job.name for job in list(jobs.values())[-1:])
            job = f"{REFERENCES}/{name}"
            jobs[name] = Job(job, self._folder / job, (*words, *_fields(of_config)), before)
        return jobs

    def _wrong(self, path: tuple[str, ...], said: str) -> UserError:
        return UserError(f"{at(path, self._origins)}{said}.")


def _fields(overrides: Mapping[str, Any]) -> list[str]:
    """Fields as the words of a command line."""
    return [word for name, value in overrides.items() for word in (f"--{name}", _text(value))]


def _text(value: Any) -> str:
    """A value as the command line takes it; text that would read as something else in quotes."""
    if isinstance(value, str) and isinstance(parse_scalar(value), str):
        return value
    return json.dumps(value, ensure_ascii=False)


def _options(options: EvaluationOptions) -> list[str]:
    return _fields(options.model_dump(exclude_unset=True))
