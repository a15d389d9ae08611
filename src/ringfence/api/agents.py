"""What hosts ask before they are on the bus: the CA, a certificate for a token, a new one for an old."""

from __future__ import annotations

from typing import Any

from litestar import Request as HttpRequest
from litestar import Router, get, post
from litestar.params import JSONBody
from litestar.status_codes import HTTP_200_OK

from ringfence.api.common import Desk, needs
from ringfence.api.guards import EVERYBODY
from ringfence.core.net.address import parse_address
from ringfence.wire.join import Admission, Request

_BODY_BYTES = 256 << 10
_HOSTS = needs(EVERYBODY) | {"is_for_hosts": True}


@get("/ca", media_type="application/x-pem-file", opt=_HOSTS, summary="Every root to trust, PEM.")
async def ca(desk: Desk) -> bytes:
    """Whoever fetches it compares the fingerprint with the one of the join token: it proves nothing by itself."""
    return desk.authority.bundle


@post(
    "/agents/enrol",
    opt=_HOSTS,
    status_code=HTTP_200_OK,
    request_max_body_size=_BODY_BYTES,
    summary="Join: a certificate for a join token.",
)
async def enrol(desk: Desk, data: JSONBody[Request], request: HttpRequest[Any, Any, Any]) -> Admission:
    """The token is the proof: nobody else is let in. A host may hold the address it joins from."""
    source = parse_address(request.client.host) if request.client is not None else None
    return await desk.enrol(data, source=source)


@post(
    "/agents/renew",
    opt=_HOSTS,
    status_code=HTTP_200_OK,
    request_max_body_size=_BODY_BYTES,
    summary="A new certificate for an old one.",
)
async def renew(desk: Desk, data: JSONBody[Request]) -> Admission:
    """The proof is a signature with the key of the old certificate."""
    return await desk.renew(data)


ROUTES = Router("/", route_handlers=[ca, enrol, renew], tags=["agents"])
