"""What every route shares: who asks, the controller, pages."""

from __future__ import annotations

from typing import Annotated, Any

from litestar.di import NamedDependency
from litestar.params import PathParameter, QueryParameter, SkipValidation

from ringfence.controller.access.access import Principal
from ringfence.controller.controller import Controller

Who = NamedDependency[SkipValidation[Principal]]
Desk = NamedDependency[SkipValidation[Controller]]
Limit = Annotated[int, QueryParameter(ge=1, le=1000, description="At most so many.")]
After = Annotated[str, QueryParameter(max_length=500, description="As the page before said in `Link` (and `next`).")]
Number = Annotated[int, PathParameter(ge=0, le=2**31 - 1)]
Before = Annotated[int, QueryParameter(ge=0, le=2**31 - 1, description="Only those with smaller numbers.")]


def needs(right: str, *, without_state: bool = False) -> dict[str, Any]:
    """The right a route takes, for the guard. `without_state`: it answers while the state does not."""
    return {"right": right, "without_state": without_state}
