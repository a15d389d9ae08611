"""Builds the one C extension. It is optional: without a compiler the numpy/SQL paths are used."""

from setuptools import Extension, setup

setup(
    ext_modules=[
        Extension("ringfence.core.engine._kernel", ["src/ringfence/core/engine/_kernel.c"], optional=True),
        Extension(
            "ringfence.flows._flowcore",
            ["src/ringfence/flows/_flowcore.c"],
            depends=["src/ringfence/flows/_flowlines.c"],
            optional=True,
        ),
    ]
)
