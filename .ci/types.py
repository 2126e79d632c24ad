"""Type-check the packages: `python .ci/types.py`.

A type checker does not see that envs/ is imported as metarl.envs, so it is given copies of the
packages, in build/types, as pyproject.toml maps them.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LAYOUT = ROOT / "build/types"

settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
folders = settings["tool"]["setuptools"]["package-dir"] | {"benchmarks": "benchmarks"}
shutil.rmtree(LAYOUT, ignore_errors=True)
for package, folder in folders.items():
    if (ROOT / folder / "__init__.py").is_file():  # copies keep their times, hence mypy's cache
        shutil.copytree(ROOT / folder, LAYOUT / package.replace(".", "/"))
mypy = [sys.executable, "-m", "mypy", "--config-file", str(ROOT / "pyproject.toml")]
mypy += ["--cache-dir", str(ROOT / ".mypy_cache")]
result = subprocess.run(mypy, cwd=LAYOUT, capture_output=True, text=True)
print(result.stdout.replace("metarl/envs/", "envs/"), result.stderr, sep="", end="")
sys.exit(result.returncode)
