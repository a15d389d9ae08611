"""The description of the API is one, and says what the routes do."""

from __future__ import annotations

import re

import httpx
import jsonschema
from serving import Serving

from ringfence.client.client import _context

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def described(served: Serving) -> dict[str, object]:
    answer = httpx.get(f"{served.controller.settings.url}/v1/openapi.json", verify=_context(served.ca))
    assert answer.headers["content-type"].startswith("application/vnd.oai.openapi+json")
    document: dict[str, object] = answer.json()
    return document


def references(value: object) -> list[str]:
    if isinstance(value, dict):
        own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
        return own + [one for part in value.values() for one in references(part)]
    return [one for part in value for one in references(part)] if isinstance(value, list) else []


def test_the_description_is_openapi_3_1(served: Serving) -> None:
    """Its version, its schemas valid JSON Schema 2020-12, every reference leading somewhere, every operation named
    once with a summary and an answer."""
    document = described(served)
    assert str(document["openapi"]).startswith("3.1.")
    schemas = document["components"]["schemas"]  # type: ignore[index]
    for schema in schemas.values():
        jsonschema.validators.validator_for({"$schema": DIALECT}).check_schema(schema)
    assert {ref.removeprefix("#/components/schemas/") for ref in references(document)} <= set(schemas)
    operations = [
        (path, method, operation)
        for path, item in document["paths"].items()  # type: ignore[attr-defined]
        for method, operation in item.items()
    ]
    ids = [operation["operationId"] for _, _, operation in operations]
    assert len(ids) == len(set(ids))
    for path, _, operation in operations:
        assert operation["summary"]
        assert any(status.startswith(("2", "3")) for status in operation["responses"])
        named = {p["name"] for p in operation.get("parameters", []) if p["in"] == "path"}
        assert named == set(re.findall(r"{(\w+)}", path))


def test_the_description_tells_what_bodies_are(served: Serving) -> None:
    """The shape of what is asked and answered is that of the values the client uses."""
    schemas = described(served)["components"]["schemas"]  # type: ignore[index]
    draft = next(schema for name, schema in schemas.items() if name == "Draft" or name.endswith("_Draft"))

    assert set(draft["properties"]) == {"files", "base", "settings", "note"}
    assert set(draft["required"]) == {"files", "base"}
