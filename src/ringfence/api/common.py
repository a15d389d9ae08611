"""What every route shares: who asks, the controller, pages."""

from __future__ import annotations

from typing import Annotated, Any

from litestar.params import Dependency, Parameter

from ringfence.controller.access import Principal
from ringfence.controller.controller import Controller

Who = Annotated[Principal, Dependency(skip_validation=True)]
Desk = Annotated[Controller, Dependency(skip_validation=True)]
Limit = Annotated[int, Parameter(ge=1, le=1000, description="At most so many.")]
After = Annotated[str, Parameter(max_length=500, description="What the page before said in `next`.")]


def needs(right: str) -> dict[str, Any]:
    """The right a route takes, for the guard."""
    return {"right": right}
