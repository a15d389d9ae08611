"""A controller, as a value with methods: `Client(find()).status()`.

INVARIANT: what changes something carries a key of its own (`Idempotency-Key`), so that asking again after a broken
connection changes it once; uploads, which are too large to be kept for that, are sent once. Errors are the server's,
with its code.
"""

from __future__ import annotations

import ssl
import uuid
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

import msgspec

from ringfence import __version__
from ringfence.client.errors import Refused, Unreachable
from ringfence.client.http import httpx
from ringfence.client.login import Login, unreachable
from ringfence.core.errors import FindingsError, InputError, RingfenceError
from ringfence.ports.state import Alert
from ringfence.wire import api

if TYPE_CHECKING:
    from ringfence.client.explore import Explore
    from ringfence.core.engine.reach import Reach
    from ringfence.core.flow.conversations import Conversations
    from ringfence.wire.questions import AskReach, Decide, Decided, Explain, Explained

T = TypeVar("T")
_TIMEOUT = httpx.Timeout(60.0, connect=10.0)
_ATTEMPTS = 2
_AGAIN = (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError)


class Client:
    """One controller. A context manager, or `close` it."""

    def __init__(self, login: Login, *, transport: httpx.BaseTransport | None = None, through: str = "") -> None:
        """`through`: a Unix socket that leads to it, as `ssh -L SOCKET:HOST:PORT` makes one. Raises InputError
        `login-damaged`: the CA is no certificate."""
        self.server = login.server
        self.notices: set[str] = set()
        """What the controller told besides what it was asked."""
        if through:
            transport = httpx.HTTPTransport(verify=_context(login.ca), uds=through)
        self._http = httpx.Client(
            base_url=f"{login.server}/v1",
            verify=_context(login.ca),
            timeout=_TIMEOUT,
            transport=transport,
            trust_env=False,
            headers={"Authorization": f"Bearer {login.token}", "User-Agent": f"ringfence/{__version__}"},
        )

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    # ---- how it is said ---------------------------------------------------------------------------------------------

    def get(self, path: str, kind: type[T], **asked: Any) -> T:
        """Raises Unreachable, Refused, FindingsError."""
        said = {key: str(value).lower() if isinstance(value, bool) else value for key, value in asked.items() if value}
        return self._read(self._exchange("GET", path, params=said), kind)

    def post(self, path: str, body: Any, kind: type[T]) -> T:
        return self._read(self._posted(path, body), kind)

    def every(self, path: str, kind: type[T], **asked: Any) -> list[T]:
        """A list, whole: page by page, as `Link` leads (RFC 8288). Raises as `get`."""
        found: list[T] = []
        while True:
            said = {key: str(value) for key, value in asked.items() if value}
            answer = self._exchange("GET", path, params=said)
            found += self._read(answer, list[kind])  # type: ignore[valid-type]
            following = answer.links.get("next")
            if following is None:
                return found
            asked = dict(httpx.URL(following["url"]).params)

    def upload(self, path: str, content: bytes | Iterable[bytes], kind: type[T], **asked: str) -> T:
        """A file as the body, sent once: what was taken is not told again where the answer was lost."""
        headers = {"Content-Type": "application/octet-stream"}
        said = {"content": content, "params": asked, "headers": headers}
        return self._read(self._exchange("POST", path, attempts=1, **said), kind)

    def delete(self, path: str) -> None:
        self._exchange("DELETE", path)

    def _posted(self, path: str, body: Any) -> httpx.Response:
        headers = {"Content-Type": "application/json", "Idempotency-Key": str(uuid.uuid4())}
        return self._exchange("POST", path, content=msgspec.json.encode(body), headers=headers)

    def _exchange(self, method: str, path: str, *, attempts: int = _ATTEMPTS, **said: Any) -> httpx.Response:
        for attempt in range(1, attempts + 1):
            try:
                answer = self._http.request(method, path, **said)
                break
            except _AGAIN as error:
                if attempt == attempts:
                    raise unreachable(self.server, error) from error
            except httpx.HTTPError as error:
                raise self._failed(error) from error
        self.notices.update(answer.headers.get_list(api.NOTICE))
        if answer.status_code >= 300:
            raise refusal_of(self.server, answer.status_code, answer.content)
        return answer

    def _failed(self, error: httpx.HTTPError) -> RingfenceError:
        if "CERTIFICATE_VERIFY_FAILED" in str(error):
            message = f"`{self.server}` does not prove to be the controller: {error}"
            help_ = "log in again with the CA's fingerprint, and check the name in the address"
            return InputError("controller-unknown", message, help=help_)
        return unreachable(self.server, error)

    def _read(self, answer: httpx.Response, kind: type[T]) -> T:
        try:
            return msgspec.json.decode(answer.content or b"null", type=kind)
        except msgspec.DecodeError as error:
            message = f"the answer of `{self.server}` cannot be read: {error}"
            raise Unreachable("controller-unreadable", message, help="update the older end") from error

    # ---- access -----------------------------------------------------------------------------------------------------

    def me(self) -> api.Me:
        return self.get("/me", api.Me)

    def tokens(self) -> list[api.TokenView]:
        return self.every("/tokens", api.TokenView)

    def grant(self, asked: api.Grant) -> str:
        return self.post("/tokens", asked, api.Secret).token

    def revoke_token(self, id: str) -> None:
        self.delete(f"/tokens/{quote(id, safe='')}")

    def profiles(self) -> list[api.ProfileView]:
        return self.every("/profiles", api.ProfileView)

    def set_ranges(self, profile: str, asked: api.Ranges) -> api.ProfileView:
        return self.post(f"/profiles/{quote(profile, safe='')}/ranges", asked, api.ProfileView)

    def make_profile(self, asked: api.NewProfile) -> api.ProfileView:
        return self.post("/profiles", asked, api.ProfileView)

    def invitations(self) -> list[api.InvitationView]:
        return self.every("/invitations", api.InvitationView)

    def invite(self, asked: api.Invite) -> api.Invited:
        return self.post("/invitations", asked, api.Invited)

    def disinvite(self, id: str) -> None:
        self.delete(f"/invitations/{quote(id, safe='')}")

    # ---- workloads --------------------------------------------------------------------------------------------------

    def workloads(self, selector: str = "", *, agents: bool = False) -> Iterator[api.WorkloadView]:
        """All of them, page by page."""
        after = ""
        while True:
            page = self.get(
                "/workloads", api.Page[api.WorkloadView], selector=selector, agents=agents, after=after, limit=1000
            )
            yield from page.items
            if not page.next:
                return
            after = page.next

    def workload(self, name: str) -> api.WorkloadView:
        return self.get(f"/workloads/{quote(name, safe='')}", api.WorkloadView)

    def plan_labels(self, asked: api.Relabel) -> api.LabelsPlanned:
        return self.post("/labels/plan", asked, api.LabelsPlanned)

    def relabel(self, asked: api.Relabel) -> int:
        return self.post("/labels", asked, api.Done).changed

    def plan_mode(self, asked: api.SetMode) -> api.ModesPlanned:
        return self.post("/modes/plan", asked, api.ModesPlanned)

    def set_mode(self, asked: api.SetMode) -> int:
        return self.post("/modes", asked, api.Done).changed

    def retire(self, name: str, why: str = "") -> None:
        self.post(f"/workloads/{quote(name, safe='')}/retire", api.Reason(why), api.Done)

    def revoke(self, name: str, why: str = "") -> int:
        return self.post(f"/workloads/{quote(name, safe='')}/revoke", api.Reason(why), api.Done).changed

    # ---- policies ---------------------------------------------------------------------------------------------------

    def versions(self, *, before: int = 0, limit: int = 50) -> list[api.VersionView]:
        return self.get("/versions", list[api.VersionView], before=before, limit=limit)

    def version(self, number: int) -> api.VersionText:
        return self.get(f"/versions/{number}", api.VersionText)

    def diff(self, old: int, new: int) -> api.DiffView:
        return self.get(f"/versions/{old}/diff/{new}", api.DiffView)

    def plan(self, asked: api.Plan) -> api.Planned:
        return self.post("/plan", asked, api.Planned)

    def apply(self, asked: api.Apply) -> api.Applied:
        return self.post("/apply", asked, api.Applied)

    def rollback(self, asked: api.Rollback) -> api.Applied:
        return self.post("/rollback", asked, api.Applied)

    def rollout(self) -> api.RolloutView:
        return self.get("/rollout", api.RolloutView)

    def go_on(self) -> api.RolloutView:
        return self.post("/rollout/go-on", None, api.RolloutView)

    def stop_rollout(self, why: str = "") -> api.RolloutView:
        return self.post("/rollout/stop", api.Reason(why), api.RolloutView)

    def proposals(self) -> list[api.ProposalView]:
        return self.every("/proposals", api.ProposalView)

    def proposal(self, id: str) -> api.ProposalText:
        return self.get(f"/proposals/{quote(id, safe='')}", api.ProposalText)

    def propose(self, draft: api.Draft) -> api.ProposalView:
        return self.post("/proposals", draft, api.ProposalView)

    def approve(self, id: str, asked: api.Approve) -> api.Applied:
        return self.post(f"/proposals/{quote(id, safe='')}/approve", asked, api.Applied)

    def reject(self, id: str, why: str = "") -> None:
        self._posted(f"/proposals/{quote(id, safe='')}/reject", api.Reason(why))

    # ---- containment ------------------------------------------------------------------------------------------------

    def quarantines(self) -> list[api.ContainedView]:
        return self.every("/quarantines", api.ContainedView)

    def plan_quarantine(self, asked: api.Contain) -> api.ContainPlanned:
        return self.post("/quarantines/plan", asked, api.ContainPlanned)

    def quarantine(self, asked: api.Contain) -> list[api.ContainedView]:
        return self.post("/quarantines", asked, list[api.ContainedView])

    def release(self, asked: api.Release) -> int:
        return self.post("/quarantines/release", asked, api.Done).changed

    # ---- alerts, records, the controller ----------------------------------------------------------------------------

    def alerts(self, *, all: bool = False) -> Iterator[Alert]:
        """All of them, page by page, the most severe first."""
        after = ""
        while True:
            page = self.get("/alerts", api.Page[Alert], all=all, after=after, limit=1000)
            yield from page.items
            if not page.next:
                return
            after = page.next

    def acknowledge(self, id: str, why: str = "") -> Alert:
        return self.post(f"/alerts/{quote(id, safe='')}/acknowledge", api.Handle(why), Alert)

    def resolve(self, id: str, why: str = "") -> Alert:
        return self.post(f"/alerts/{quote(id, safe='')}/resolve", api.Handle(why), Alert)

    def follow(self) -> Iterator[api.Event]:
        """Violations and alerts as they come, until the connection ends. Raises as `get`."""
        try:
            with self._http.stream("GET", "/events", timeout=httpx.Timeout(60.0)) as answer:
                if answer.status_code >= 300:
                    raise refusal_of(self.server, answer.status_code, answer.read())
                for line in answer.iter_lines():
                    if line.startswith("data:"):
                        yield msgspec.json.decode(line.removeprefix("data:").strip(), type=api.Event)
        except httpx.HTTPError as error:
            raise self._failed(error) from error

    def audit(self, **asked: Any) -> list[api.AuditEntry]:
        """`before`, `limit`, `actor`, `action`, `subject`. The latest first."""
        return self.get("/audit", list[api.AuditEntry], **asked)

    def audit_csv(self, **asked: Any) -> str:
        """The same as CSV; without `limit` all of it."""
        said = {key: value for key, value in asked.items() if value}
        return self._exchange("GET", "/audit/csv", params=said).text

    def verify_audit(self) -> api.AuditChecked:
        return self.get("/audit/verify", api.AuditChecked)

    def evidence(self) -> list[api.EvidenceView]:
        return self.every("/evidence", api.EvidenceView)

    def ask_evidence(self, asked: api.AskEvidence) -> api.EvidenceView:
        return self.post("/evidence", asked, api.EvidenceView)

    def erase(self, id: str, why: str) -> api.EvidenceView:
        return self.post(f"/evidence/{quote(id, safe='')}/delete", api.Reason(why), api.EvidenceView)

    def bundle(self, id: str) -> bytes:
        return self._exchange("GET", f"/evidence/{quote(id, safe='')}").content

    def backup(self, passphrase: str = "") -> bytes:
        return self._posted("/backup", api.BackUp(passphrase)).content

    def confirm_restore(self) -> None:
        self.post("/confirm-restore", None, api.Done)

    def status(self) -> api.Status:
        return self.get("/status", api.Status)

    def conversations(self, *, since: datetime | None = None, until: datetime | None = None) -> Conversations:
        """Observed traffic; of the last seven days where no span is named. Raises as `get`, InputError
        `bad-conversations`."""
        from ringfence.wire.conversations import decode

        span = {"since": since, "until": until}
        said = {name: at.isoformat() for name, at in span.items() if at is not None}
        return decode(self._exchange("GET", "/conversations", params=said).content)

    @property
    def explore(self) -> Explore:
        """The map and everything else that is only looked at."""
        from ringfence.client.explore import Explore

        return Explore(self)

    # ---- questions --------------------------------------------------------------------------------------------------

    def explain(self, asked: Explain) -> Explained:
        from ringfence.wire.questions import Explained

        return self.post("/explain", asked, Explained)

    def decide(self, asked: Decide) -> list[Decided]:
        from ringfence.wire.questions import Decided

        return self.post("/decide", asked, list[Decided])

    def reach(self, asked: AskReach) -> Reach:
        from ringfence.core.engine.reach import Reach

        return self.post("/reach", asked, Reach)


def _context(ca: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    try:
        context.load_verify_locations(cadata=ca)
    except (ssl.SSLError, ValueError) as error:
        raise InputError("login-damaged", "the CA that is kept is no certificate", help="log in again") from error
    return context


def refusal_of(server: str, status: int, content: bytes) -> RingfenceError:
    """The server's own error, as ours."""
    try:
        said = msgspec.json.decode(content, type=api.Problem)
    except msgspec.DecodeError:
        message = f"`{server}` answers {status}, and not as a controller does"
        return Unreachable("controller-unreadable", message, help="check the address")
    if status >= 500:
        return Unreachable(said.code, said.message, help=said.help)
    if said.findings:
        return FindingsError(said.findings)
    return Refused(said.code, said.message, help=said.help, status=status)
