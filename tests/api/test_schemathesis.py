"""The API asked with whatever its own description allows, and with what it does not: no fault, no answer that the
description does not name, on a controller with something in it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import hypothesis
import pytest
import schemathesis
from schemathesis.checks import CHECKS
from schemathesis.core.failures import FailureGroup
from serving import SHOP, Serving, serving

from ringfence.client.client import _context
from ringfence.controller.access.rates import Rates
from ringfence.wire.api import Apply, Contain, Draft, Grant, How, Invite, NewProfile

EXAMPLES = 2
ENDLESS = {"/v1/events"}
NOT_ASKED = {("delete", "/v1/tokens/{id}"), ("delete", "/v1/sessions/{id}"), ("delete", "/v1/session")}
"""They could end what the test itself asks with."""
WANTED = (
    "not_a_server_error", "status_code_conformance", "content_type_conformance", "response_headers_conformance",
    "response_schema_conformance",
)  # fmt: skip


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Serving, Path]]:
    """A controller with a profile, an invitation, people, a version of the policies and the hosts of a small estate."""
    from test_roles_scope import populate

    folder = tmp_path_factory.mktemp("schema")
    with serving(folder / "c", limits=Rates(requests_s=0, strangers_s=0, hosts_s=0)) as made:
        populate(made)
        with made.client() as admin:
            admin.make_profile(NewProfile("web", {"role": "web"}))
            admin.invite(Invite("web"))
            admin.grant(Grant("ann", ("author",), scope="app=shop"))
            admin.apply(Apply(Draft({"shop.yaml": SHOP}, 0, note="a test"), How(trial_s=None)))
            admin.quarantine(Contain(("shop-db",), "a test"))
        (folder / "ca.pem").write_text(made.ca)
        yield made, folder / "ca.pem"


def failures_of(operation: Any, url: str, token: str, ca: Path) -> list[str]:
    """What is wrong with the answers to some requests, good and bad."""
    found: list[str] = []
    checks = CHECKS.get_by_names(list(WANTED))

    def ask(case: Any) -> None:
        headers = {"Authorization": f"Bearer {token}"}
        answer = case.call(base_url=url, headers=headers, verify=str(ca), timeout=30)
        try:
            case.validate_response(answer, checks=checks, headers=headers)
        except FailureGroup as error:
            found.append(f"{operation.label}: {error}")

    for mode in schemathesis.GenerationMode:
        strategy = operation.as_strategy(generation_mode=mode)
        given = hypothesis.given(case=strategy)(ask)
        settings = hypothesis.settings(
            max_examples=EXAMPLES, derandomize=True, deadline=None, database=None,
            suppress_health_check=list(hypothesis.HealthCheck), phases=[hypothesis.Phase.generate],
        )  # fmt: skip
        try:
            settings(given)()
        except hypothesis.errors.Unsatisfiable:  # nothing can be said wrongly where nothing can be said
            assert mode is schemathesis.GenerationMode.NEGATIVE
    return found


def test_every_answer_is_described(small: tuple[Serving, Path]) -> None:
    """For every route: no 5xx, and status, content type and body as the description says, whatever is asked."""
    served, ca = small
    url = served.controller.settings.url
    document = httpx.get(f"{url}/v1/openapi.json", verify=_context(served.ca), timeout=60).json()
    schema = schemathesis.openapi.from_dict(document)
    schema.config.update(base_url=url)
    failures: list[str] = []
    asked = 0
    for result in schema.get_all_operations():
        operation = result.ok()
        if operation.path in ENDLESS or (operation.method, operation.path) in NOT_ASKED:
            continue
        asked += 1
        failures += failures_of(operation, url, served.token, ca)
    assert asked == sum(len(item) for item in document["paths"].values()) - len(ENDLESS) - len(NOT_ASKED)
    assert not failures, "\n\n".join(failures)
    assert served.client().me().name == "administrator"
