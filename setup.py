"""Builds what is not Python: the C extensions and the web UI.

The extensions are optional: without a compiler the numpy/SQL paths are used. The web UI is not: a wheel or an sdist
without it is refused. An editable install leaves it to `make web`.
"""

import shutil
import subprocess
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_py import build_py
from setuptools.command.sdist import sdist

ROOT = Path(__file__).resolve().parent
SOURCE, BUILT = ROOT / "web", ROOT / "src/ringfence/web/index.html"


def build_web() -> None:
    """From its source where there is one and node to build it with; else what was built before must be there."""
    npm = shutil.which("npm")
    if npm and (SOURCE / "package.json").exists():
        for words in (["ci", "--no-audit", "--no-fund", "--loglevel=error"], ["run", "-s", "build"]):
            subprocess.run([npm, *words], cwd=SOURCE, check=True)
    if not BUILT.exists():
        raise SystemExit(
            "the web UI is not built, and there is no npm to build it: install Node.js 20.19 or later with npm"
            " (Debian: apt-get install nodejs npm), or run `make web` on a machine that has it"
        )


class BuildPy(build_py):
    """The Python files and, but for an editable install, the web UI."""

    def run(self) -> None:
        if not self.editable_mode:
            build_web()
            self.__dict__.pop("data_files", None)  # listed before the files were there
        super().run()


class Sdist(sdist):
    """The sources, with the web UI as built: whoever builds a wheel of them needs no node."""

    def run(self) -> None:
        build_web()
        super().run()


setup(
    cmdclass={"build_py": BuildPy, "sdist": Sdist},
    ext_modules=[
        Extension("ringfence.core.engine._kernel", ["src/ringfence/core/engine/_kernel.c"], optional=True),
        Extension(
            "ringfence.flows._flowcore",
            ["src/ringfence/flows/_flowcore.c"],
            depends=["src/ringfence/flows/_flowlines.c"],
            optional=True,
        ),
    ],
)
