"""The application: every route under `/v1`, guarded, limited, and described as OpenAPI 3.1."""

from __future__ import annotations

from litestar import Litestar, Router
from litestar.datastructures import State
from litestar.di import Provide
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import Components, SecurityScheme

from ringfence import __version__
from ringfence.api import access, agents, containment, guards, policies, status, workloads
from ringfence.api.common import needs
from ringfence.api.problems import HANDLERS
from ringfence.controller.controller import Controller
from ringfence.wire.api import MAX_BODY_BYTES

_ROUTERS = (agents.ROUTES, access.ROUTES, workloads.ROUTES, policies.ROUTES, containment.ROUTES, status.ROUTES)


def app_of(controller: Controller) -> Litestar:
    """The ASGI application of a controller that was started."""
    return Litestar(
        route_handlers=[Router("/v1", route_handlers=_ROUTERS)],
        guards=[guards.guard],
        dependencies={
            "desk": Provide(lambda: controller, sync_to_thread=False),
            "who": Provide(guards.principal),
        },
        exception_handlers=HANDLERS,
        request_max_body_size=MAX_BODY_BYTES,
        openapi_config=_openapi(),
        state=State({"controller": controller}),
        logging_config=None,
        debug=False,
    )


def _openapi() -> OpenAPIConfig:
    scheme = SecurityScheme(type="http", scheme="bearer", description="A token of Ringfence: `rf_...`")
    return OpenAPIConfig(
        title="Ringfence",
        version=__version__,
        description="Micro-segmentation by identity.",
        components=Components(security_schemes={"token": scheme}),
        security=[{"token": []}],
        openapi_router=Router("/v1", route_handlers=[], opt=needs(guards.EVERYBODY)),
        render_plugins=[JsonRenderPlugin(path="/openapi.json")],
        use_handler_docstrings=True,
    )
