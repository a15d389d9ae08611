"""The application: every route under `/v1`, guarded, limited, and described as OpenAPI 3.1."""

from __future__ import annotations

import warnings
from typing import Any

from litestar import Controller as Handlers
from litestar import Litestar, Request, Router, get
from litestar.datastructures import State
from litestar.di import Provide
from litestar.exceptions import LitestarDeprecationWarning
from litestar.openapi import OpenAPIConfig
from litestar.openapi.spec import Components, SecurityScheme

from ringfence import __version__
from ringfence.api import (
    access,
    agents,
    alerts,
    containment,
    conversations,
    drafting,
    explore,
    guards,
    inventory,
    policies,
    posture,
    questions,
    recommending,
    records,
    review,
    sessions,
    status,
    workloads,
)
from ringfence.api.common import needs
from ringfence.api.conditional import Conditional
from ringfence.api.describing import Application
from ringfence.api.idempotency import Idempotency
from ringfence.api.limits import Limits
from ringfence.api.notices import Notices
from ringfence.api.packing import Packing
from ringfence.api.problems import HANDLERS
from ringfence.api.timing import Timing
from ringfence.controller.controller import Controller
from ringfence.wire.api import MAX_BODY_BYTES

OPENAPI = "application/vnd.oai.openapi+json"
_ROUTERS = (
    agents.ROUTES,
    access.ROUTES,
    sessions.ROUTES,
    workloads.ROUTES,
    policies.ROUTES,
    containment.ROUTES,
    alerts.ROUTES,
    records.ROUTES,
    questions.ROUTES,
    explore.ROUTES,
    drafting.ROUTES,
    recommending.ROUTES,
    review.ROUTES,
    inventory.ROUTES,
    conversations.ROUTES,
    posture.ROUTES,
    status.ROUTES,
)


class _Schema(Handlers):
    """The description of all of it."""

    @get("/v1/openapi.json", include_in_schema=False, media_type=OPENAPI, opt=needs(guards.EVERYBODY))
    async def schema(self, request: Request[Any, Any, Any]) -> dict[str, Any]:
        return request.app.openapi_schema.to_schema()


def app_of(controller: Controller) -> Litestar:
    """The ASGI application of a controller that was started."""
    return Application(
        route_handlers=[Router("/v1", route_handlers=_ROUTERS)],
        guards=[guards.guard],
        middleware=[Packing(), Idempotency(), Conditional(), Timing(controller), Notices(controller)],
        dependencies={
            "desk": Provide(lambda: controller, sync_to_thread=False),
            "who": Provide(guards.principal),
        },
        exception_handlers=HANDLERS,
        request_max_body_size=MAX_BODY_BYTES,
        openapi_config=_openapi(),
        state=State({"controller": controller, "limits": Limits(controller.settings.limits)}),
        logging_config=None,
        debug=False,
    )


def _openapi() -> OpenAPIConfig:
    scheme = SecurityScheme(type="http", scheme="bearer", description="A token of Ringfence: `rf_...`")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LitestarDeprecationWarning)  # what replaces it answers HTML beside the schema
        return _config(scheme)


def _config(scheme: SecurityScheme) -> OpenAPIConfig:
    return OpenAPIConfig(
        title="Ringfence",
        version=__version__,
        description="Micro-segmentation by identity.",
        components=Components(security_schemes={"token": scheme}),
        security=[{"token": []}],
        openapi_controller=_Schema,  # type: ignore[arg-type]
        use_handler_docstrings=True,
    )
