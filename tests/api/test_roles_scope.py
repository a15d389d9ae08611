"""Who is confined to `app=shop` changes nothing outside it, by whatever route; and a second person is asked where the
settings say so."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from serving import SHOP, Serving, refused, serving

from ringfence.client.client import Client, _context
from ringfence.controller import audit
from ringfence.controller.access.access import MAY, Power, Principal
from ringfence.controller.alerts import occurrences
from ringfence.ports.state import WorkloadRecord
from ringfence.wire.api import Apply, Draft, Grant, How, Plan, Rollback

BANK = SHOP.replace("shop", "bank")
HOW = How(trial_s=None)
NOW = datetime.now(UTC)
EVERY = {"shop.yaml": SHOP, "bank.yaml": BANK}


@pytest.fixture(scope="module")
def estate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """Hosts of two applications, with a policy and an alert of each."""
    with serving(tmp_path_factory.mktemp("scope") / "c") as made:
        populate(made)
        with made.client() as admin:
            admin.apply(Apply(Draft(EVERY, 0, note="x"), HOW))
        yield made


def populate(made: Serving) -> None:
    controller = made.controller
    hosts = [(app, role) for app in ("shop", "bank") for role in ("web", "db")]

    def work(tx: Any) -> None:
        for n, (app, role) in enumerate(hosts):
            labels = {"app": app, "role": role}
            tx.add(WorkloadRecord(f"00000000-0000-4000-8000-00000000000{n}", f"{app}-{role}", labels, NOW))
        audit.record(tx, at=NOW, actor="test", action="workload.enrol")

    made.run(controller.state.write(work))
    for n in range(len(hosts)):
        made.run(controller.refresh(f"00000000-0000-4000-8000-00000000000{n}"))
    watching = controller.watching
    for name in ("shop-web", "bank-web", "nobody-s"):
        watching.alerts.note(occurrences.clone(name, NOW, ("a", "b"), watching.ground), NOW)


def somebody(served: Serving, *roles: str, scope: str | None = "app=shop", name: str = "") -> Client:
    with served.client() as admin:
        return served.client(admin.grant(Grant(name or "-".join(roles), roles, scope=scope)))


def told(client: Client, method: str, path: str, body: object = None) -> tuple[int, str]:
    for alert in client.alerts() if "/alerts/" in path else ():
        path = path.replace(f"/{alert.subject}/", f"/{alert.id}/")
    answer = client._http.request(method, path, json=body)
    return answer.status_code, answer.json().get("code", "") if answer.status_code >= 400 else ""


def draft_of(files: dict[str, str]) -> dict[str, Any]:
    return {"files": files, "base": 1, "note": "x"}


SHOP2, BANK2 = SHOP.replace("5432", "5433"), BANK.replace("5432", "5433")
WRITES: list[tuple[str, str, Any, Any]] = [
    ("author", "POST /labels", {"workloads": ["shop-web"], "put": {"tier": "1"}, "why": "x"},
     {"workloads": ["bank-web"], "put": {"tier": "1"}, "why": "x"}),
    ("author", "POST /labels", {"workloads": ["shop-db"], "put": {"tier": "2"}, "why": "x"},
     {"workloads": ["shop-web"], "put": {"app": "bank"}, "why": "x"}),
    ("author", "POST /labels", {"workloads": ["role=db,app=shop"], "put": {"tier": "3"}, "why": "x"},
     {"workloads": ["role=db"], "put": {"tier": "4"}, "why": "x"}),
    ("author", "POST /modes", {"workloads": ["shop-web"], "inbound": "selective", "why": "x"},
     {"workloads": ["bank-web"], "inbound": "selective", "why": "x"}),
    ("author", "POST /modes", {"workloads": ["shop-db"], "outbound": "selective", "why": "x"},
     {"workloads": ["shop-db", "bank-db"], "inbound": "enforce", "why": "x"}),
    ("author", "POST /proposals", draft_of({**EVERY, "shop.yaml": SHOP2}), draft_of({**EVERY, "bank.yaml": BANK2})),
    ("author", "POST /proposals", draft_of({**EVERY, "shop.yaml": SHOP2}), draft_of({"shop.yaml": SHOP})),
    ("author", "POST /apply", None, {"draft": draft_of({**EVERY, "bank.yaml": BANK2})}),
    ("author", "POST /apply", None, {"draft": draft_of({**EVERY, "x.yaml": SHOP.replace("policy: shop", "policy: x")
                                                        .replace("scope: app=shop", "scope: env=prod")})}),
    ("responder", "POST /quarantines", {"workloads": ["shop-web"], "why": "x"},
     {"workloads": ["bank-web"], "why": "x"}),
    ("responder", "POST /quarantines", {"workloads": ["shop-db"], "why": "x"},
     {"workloads": ["shop-db", "bank-db"], "why": "x"}),
    ("responder", "POST /evidence", None, {"workload": "bank-web", "why": "x"}),
    ("responder", "POST /alerts/shop-web/acknowledge", {"why": "x"}, None),
    ("responder", "POST /alerts/bank-web/acknowledge", None, {"why": "x"}),
    ("responder", "POST /alerts/bank-web/resolve", None, {"why": "x"}),
    ("responder", "POST /alerts/nobody-s/resolve", None, {"why": "x"}),
]  # fmt: skip
"""Role, route, a request inside the scope that is carried out, one that reaches outside."""


@pytest.mark.parametrize(("role", "route", "inside", "outside"), WRITES)
def test_what_reaches_outside_the_scope_is_refused(
    estate: Serving, role: str, route: str, inside: object, outside: object
) -> None:
    """`outside-scope`, and none of it is done; the same within the scope is."""
    method, path = route.split(" ")
    with somebody(estate, role) as client, estate.client() as admin:
        if outside is not None:
            before = [(w.uuid, w.labels, w.mode, w.is_quarantined) for w in admin.workloads()]
            assert told(client, method, path, outside) == (403, "outside-scope")
            assert [(w.uuid, w.labels, w.mode, w.is_quarantined) for w in admin.workloads()] == before
        if inside is not None:
            assert told(client, method, path, inside)[0] < 300
    assert [version.number for version in estate.client().versions()] == [1]


def test_a_release_stays_within_the_scope(estate: Serving) -> None:
    """Who may not isolate a host may not let it go either."""
    with somebody(estate, "responder") as client, estate.client() as admin:
        body = {"workloads": ["bank-db"], "why": "x"}
        assert told(admin, "POST", "/quarantines", body)[0] == 201
        assert told(client, "POST", "/quarantines/release", body) == (403, "outside-scope")
        assert admin.workload("bank-db").is_quarantined
        assert told(admin, "POST", "/quarantines/release", body)[0] == 200


@pytest.mark.parametrize("verb", ["approve", "reject"])
def test_a_proposal_is_decided_by_who_may_over_all_of_it(estate: Serving, verb: str) -> None:
    """An approver of one application neither publishes nor refuses what changes another's."""
    with somebody(estate, "author", scope=None, name="ann") as author, somebody(estate, "approver") as approver:
        draft = draft_of({**EVERY, "bank.yaml": BANK2})
        id_ = author._http.post("/proposals", json=draft).json()["id"]
        seen = author._http.post("/plan", json={"draft": draft}).json()["digest"]
        body = {"why": "no"} if verb == "reject" else {"plan": seen}
        assert told(approver, "POST", f"/proposals/{id_}/{verb}", body) == (403, "outside-scope")
        assert told(author, "POST", f"/proposals/{id_}/reject", {"why": "mine"})[0] == 200


def test_whoever_may_read_reads_the_whole_estate(estate: Serving) -> None:
    """A scope confines what somebody changes, not what they see: a map cut at a scope would show half of every
    conversation."""
    with somebody(estate, "viewer") as viewer:
        assert {w.labels["app"] for w in viewer.workloads()} == {"shop", "bank"}


def test_roles_over_different_scopes_are_never_mixed() -> None:
    """An author of one application who may look after incidents in another is no author there."""
    both = Principal.of("ann", (Power(("author",), "app=shop"), Power(("responder",), "app=bank")))
    assert both.rights == MAY["author"] | MAY["responder"]
    both.demand_workload("label", {"app": "shop"})
    both.demand_workload("quarantine", {"app": "bank"})
    for right, app in (("label", "bank"), ("quarantine", "shop")):
        assert refused_by(lambda right=right, app=app: both.demand_workload(right, {"app": app})) == "outside-scope"
    two = Principal.of("ann", (Power(("author",), "app=shop"), Power(("author",), "app=bank")))
    two.demand_workload("label", {"app": "shop"}, {"app": "bank"})
    assert refused_by(lambda: two.demand_workload("label", {"app": "shop"}, {"app": "x"})) == "outside-scope"
    assert refused_by(lambda: two.demand_scope("publish", None, "it")) == "outside-scope"
    assert refused_by(lambda: two.demand("quarantine")) == "not-allowed"


def refused_by(work: Any) -> str:
    from ringfence.controller.access.access import AccessError

    with pytest.raises(AccessError) as error:
        work()
    return error.value.code


def test_a_second_person_publishes(tmp_path_factory: pytest.TempPathFactory) -> None:
    """With `needs_approval` an author's apply says to propose; nobody approves their own; another publishes. The way
    back and quarantine wait for nobody."""
    with serving(tmp_path_factory.mktemp("two") / "c", needs_approval=True) as made:
        populate(made)
        ann = somebody(made, "author", scope=None, name="ann")
        same = somebody(made, "approver", scope=None, name="ann")
        bob = somebody(made, "approver", scope=None, name="bob")
        for client in (ann, made.client()):
            assert refused(lambda client=client: client.apply(Apply(Draft({"shop.yaml": SHOP}, 0, note="x"), HOW))) == (
                "needs-approval"
            )
        proposal = ann._http.post("/proposals", json={"files": {"shop.yaml": SHOP}, "base": 0, "note": "x"}).json()[
            "id"
        ]
        yes = {"plan": bob.plan(Plan(Draft({"shop.yaml": SHOP}, 0))).digest, "how": {"trial_s": None}}
        assert told(ann, "POST", f"/proposals/{proposal}/approve", yes) == (403, "not-allowed")
        assert told(same, "POST", f"/proposals/{proposal}/approve", yes) == (403, "own-proposal")
        assert told(bob, "POST", f"/proposals/{proposal}/approve", {}) == (400, "bad-request")
        assert told(bob, "POST", f"/proposals/{proposal}/approve", yes)[0] == 201
        assert told(bob, "POST", f"/proposals/{proposal}/approve", yes) == (409, "proposal-decided")
        version = made.client().versions()[0]
        assert (version.number, version.actor) == (1, "ann")
        again = ann._http.post("/proposals", json={"files": {"shop.yaml": SHOP2}, "base": 1, "note": "x"}).json()["id"]
        assert told(bob, "POST", f"/proposals/{again}/approve", yes) == (409, "plan-changed")
        yes["plan"] = bob.plan(Plan(Draft({"shop.yaml": SHOP2}, 1))).digest
        assert told(bob, "POST", f"/proposals/{again}/approve", yes)[0] == 201
        assert ann.rollback(Rollback(1, 2, "back", HOW)).version.number == 3
        with somebody(made, "responder", scope=None) as responder:
            assert told(responder, "POST", "/quarantines", {"workloads": ["shop-web"], "why": "x"})[0] == 201


def test_a_body_larger_than_is_read_is_refused_however_it_comes(served: Serving) -> None:
    """Chunked, without a length: 413, with and without a key; and the connection does not carry it all first."""
    http = httpx.Client(base_url=served.controller.settings.url, verify=_context(served.ca), timeout=60)

    def chunks() -> Iterator[bytes]:
        for _ in range(9):
            yield b" " * (1 << 20)

    token = {"Authorization": f"Bearer {served.token}"}
    for headers in (token, {**token, "Idempotency-Key": "large"}):
        answer = http.post("/v1/plan", content=chunks(), headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (413, "body-too-large")
