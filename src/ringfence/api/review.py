"""What a breach could reach, and what rules are used for."""

from __future__ import annotations

from typing import Annotated

from litestar import Router, get, post
from litestar.params import JSONBody, QueryParameter
from litestar.status_codes import HTTP_200_OK

from ringfence.api.common import Desk, Limit, needs
from ringfence.wire.study import AskBlast, BlastView, RulesView

_Days = Annotated[int, QueryParameter(ge=1, le=365, description="Of stored traffic.")]


@post(
    "/blast-radius", opt=needs("read"), status_code=HTTP_200_OK,
    summary="How far a breach goes from somebody, or who reaches what is critical.",
)  # fmt: skip
async def blast_radius(desk: Desk, data: JSONBody[AskBlast]) -> BlastView:
    return await desk.studies.blasting.of(data)


@get("/rules", opt=needs("read"), summary="Rules in force with their use: what could be tightened comes first.")
async def rules(desk: Desk, days: _Days = 30, limit: Limit = 200) -> RulesView:
    return await desk.studies.rule_uses.of(desk.clock(), days=days, limit=limit)


ROUTES = Router("/", route_handlers=[blast_radius, rules], tags=["explore"])
