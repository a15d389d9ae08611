"""Policies while they are written: checked as one types, and the words that may be used."""

from __future__ import annotations

from litestar import Router, get, post
from litestar.params import JSONBody
from litestar.status_codes import HTTP_200_OK

from ringfence.api.common import Desk, needs
from ringfence.wire.study import Check, Checked, Words


@post("/check", opt=needs("read"), status_code=HTTP_200_OK, summary="What the language, lint and tests say of a draft.")
async def check(desk: Desk, data: JSONBody[Check]) -> Checked:
    """Files are laid over those in force. What cannot be read is a finding, not an error of the request."""
    return await desk.studies.drafting.check(data)


@get("/vocabulary", opt=needs("read"), summary="Labels, segments, services and policies, for completion.")
async def vocabulary(desk: Desk) -> Words:
    return await desk.studies.drafting.words()


ROUTES = Router("/", route_handlers=[check, vocabulary], tags=["drafting"])
