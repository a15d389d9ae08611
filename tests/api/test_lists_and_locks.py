"""Lists lead on by `Link`; a change names what it was made from, and is refused where that is another by now."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from serving import SHOP, Serving, refused, serving
from test_access_limits import http
from test_openapi import described

from ringfence.client.client import Client
from ringfence.wire.api import Apply, Contain, Draft, Grant, How, Invite, NewProfile

LISTS = {
    "/v1/tokens": "id", "/v1/profiles": "name", "/v1/invitations": "id", "/v1/versions": "number",
    "/v1/quarantines": "id", "/v1/audit": "seq", "/v1/sessions": "id", "/v1/workloads": "uuid",
}  # fmt: skip


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """Five of whatever there are lists of."""
    from test_roles_scope import populate

    with serving(tmp_path_factory.mktemp("lists") / "c") as made:
        populate(made)
        with made.client() as admin:
            for n in range(5):
                admin.grant(Grant(f"p{n}", ("viewer",)))
                admin.make_profile(NewProfile(f"web-{n}", {"role": "web"}))
                admin.invite(Invite(f"web-{n}"))
                text = SHOP + f"# {n}\n"
                admin.apply(Apply(Draft({"shop.yaml": text}, n, note="more"), How(trial_s=None)))
            admin.quarantine(Contain(tuple(one.uuid for one in admin.workloads()), "all of them"))
            for _ in range(4):
                assert http(made).post("/v1/session", json={"token": made.token}).status_code == 201
        yield made


def pages(asking: httpx.Client, path: str, limit: int) -> Iterator[list[dict[str, Any]]]:
    """Each page, as the links lead."""
    following = f"{path}?limit={limit}"
    while following:
        answer = asking.get(following)
        assert answer.status_code == 200, answer.text
        said = answer.json()
        yield said["items"] if isinstance(said, dict) else said
        following = answer.links["next"]["url"] if "next" in answer.links else ""


@pytest.mark.parametrize("path", LISTS)
def test_the_links_lead_through_the_whole_list(several: Serving, path: str) -> None:
    """Each once, in the order of the list in one piece; no page is longer than asked for, none but the last shorter."""
    with http(several, several.token) as asking:
        (whole,) = pages(asking, path, 1000)
        found = list(pages(asking, path, 2))
    assert len(whole) > 2
    assert [one[LISTS[path]] for page in found for one in page] == [one[LISTS[path]] for one in whole]
    assert {len(page) for page in found[:-1]} == {2}
    assert found[-1]


def test_what_comes_and_goes_between_two_pages_moves_no_page(several: Serving) -> None:
    """A cursor is a place: who was told is not told again, and nobody is left out."""
    with http(several, several.token) as asking, several.client() as admin:
        admin.make_profile(NewProfile("gone", {"role": "web"}))
        first = asking.get("/v1/profiles?limit=3")
        admin.make_profile(NewProfile("aaa", {"role": "web"}))
        rest = asking.get(first.links["next"]["url"])
        names = [one["name"] for answer in (first, rest) for one in answer.json()]
    assert names == ["gone", *(f"web-{n}" for n in range(5))]


def test_the_client_follows_the_links(several: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    """However few come at once."""
    with several.client() as client:
        whole = [one.name for one in client.profiles()]
        plain = client._exchange

        def few(method: str, path: str, **said: Any) -> httpx.Response:
            return plain(method, path, **{**said, "params": {**said.get("params", {}), "limit": "2"}})

        monkeypatch.setattr(client, "_exchange", few)
        assert [one.name for one in Client.profiles(client)] == whole
    assert len(whole) > 4


def test_a_change_of_what_somebody_else_changed_is_refused(several: Serving) -> None:
    """With the tag of what one looked at: 412, who changed it last is named, and nothing is changed; with the tag of
    now, with `*` or with none it is."""
    with http(several, several.token) as asking:
        seen = asking.get("/v1/profiles/web-0")
        tag = {"If-Match": seen.headers["etag"]}
        assert (
            asking.post("/v1/profiles/web-0/ranges", json={"ranges": ["10.1.0.0/16"]}, headers=tag).status_code == 200
        )
        late = asking.post("/v1/profiles/web-0/ranges", json={"ranges": ["10.2.0.0/16"]}, headers=tag)
        assert (late.status_code, late.json()["code"]) == (412, "changed-meanwhile")
        assert "administrator` did `profile.ranges`" in late.json()["message"]
        assert asking.get("/v1/profiles/web-0").json()["ranges"] == ["10.1.0.0/16"]
        now = asking.get("/v1/profiles/web-0").headers["etag"]
        for said in ({"If-Match": f'"other", {now}'}, {"If-Match": "*"}, {}):
            answer = asking.post("/v1/profiles/web-0/ranges", json={"ranges": ["10.3.0.0/16"]}, headers=said)
            assert answer.status_code == 200
        assert asking.get("/v1/profiles/nobody").json()["code"] == "record-missing"


def test_a_tag_counts_however_the_answer_was_packed(several: Serving) -> None:
    """The weak tag that a browser sees on what was packed on the way goes with a change, too."""
    with http(several, several.token) as asking:
        tag = asking.get("/v1/profiles/web-1").headers["etag"]
        said = {"If-Match": f"W/{tag}"}
        assert (
            asking.post("/v1/profiles/web-1/ranges", json={"ranges": ["10.4.0.0/16"]}, headers=said).status_code == 200
        )


def test_keys_links_and_tags_are_described(several: Serving) -> None:
    """Every list that can be long says how it goes on; what changes something takes a key, what only asks takes none;
    412 is told where a tag may be sent."""
    document: Any = described(several)
    for path, item in document["paths"].items():
        for method, operation in item.items():
            named = {one["name"] for one in operation.get("parameters", ())}
            answers = operation["responses"]
            goes_on = "Link" in answers.get("200", {}).get("headers", {})
            assert goes_on == (method == "get" and "limit" in named and bool({"after", "before"} & named)), path
            assert ("412" in answers) == ("If-Match" in named), path
            content = answers.get("200", {}).get("content", {}).get("application/json", {}).get("schema", {})
            assert goes_on or method != "get" or content.get("type") != "array", f"{path} has no end"
    keyed = {
        path for path, item in document["paths"].items() if "post" in item
        and "Idempotency-Key" in {one["name"] for one in item["post"].get("parameters", ())}
    }  # fmt: skip
    assert {"/v1/apply", "/v1/labels", "/v1/proposals/{id}/reject", "/v1/quarantines"} <= keyed
    asks = re.compile(r"/(plan|check|explain|decide|reach|map|map/edge|flows|matrix|simulate|recommend|blast-radius)$")
    assert not [path for path in keyed if asks.search(path)]


def test_labels_are_put_on_what_they_were_before(several: Serving) -> None:
    """A plan of labels goes by what they replace: somebody else's change of the same label in between refuses it."""
    with several.client() as client:
        from ringfence.wire.api import Relabel

        wanted = Relabel(("shop-web",), {"stage": "two"}, why="a stage")
        seen = client.plan_labels(wanted).digest
        client.relabel(Relabel(("shop-web",), {"stage": "one"}, why="another"))
        late = Relabel(("shop-web",), {"stage": "two"}, why="a stage", plan=seen)
        assert refused(lambda: client.relabel(late)) == "plan-changed"
        assert client.workload("shop-web").labels["stage"] == "one"
