"""`from`, `to` and `service`, as rules and tests share them."""

from __future__ import annotations

from typing import NamedTuple

from ringfence.core.net.service import ANY
from ringfence.core.policy.definitions import Draft
from ringfence.core.policy.model import Action, Peer
from ringfence.core.policy.peers import PeerReader, Place
from ringfence.core.policy.services import ANY_WORD, ServiceReader, Services
from ringfence.core.policy.vocabulary import Dictionary
from ringfence.core.policy.yaml import Mapping, Node

_EVERY_SERVICE = Services(ANY, (ANY_WORD,))


class Body(NamedTuple):
    """Who, to whom, on what."""

    sources: tuple[Peer, ...]
    destinations: tuple[Peer, ...]
    services: Services
    service_node: Node
    """Where a fault of the services is shown."""

    @property
    def is_any_written(self) -> bool:
        return self.services.words == (ANY_WORD,) and self.services is not _EVERY_SERVICE


class BodyReader:
    """Reads the bodies of one policy's rules and tests."""

    def __init__(self, draft: Draft, dictionary: Dictionary) -> None:
        self.report = draft.report
        self.peers = PeerReader(draft.vocabulary, dictionary, draft.report)
        self.services = ServiceReader(draft.vocabulary, dictionary, draft.report)

    def read(self, mapping: Mapping, what: str, action: Action | None) -> Body | None:
        """The body, or None if any part of it is missing or at fault. A test has no action."""
        sources = self._peers(mapping, "from", what, allows_fqdn=False)
        destinations = self._peers(mapping, "to", what, allows_fqdn=action == "allow")
        services = self._services(mapping, what, action)
        if sources is None or destinations is None or services is None:
            return None
        return Body(sources, destinations, services, mapping.get("service") or mapping)

    def _peers(self, mapping: Mapping, place: Place, what: str, *, allows_fqdn: bool) -> tuple[Peer, ...] | None:
        node = mapping.get(place)
        if node is None:
            help_ = f"add `{place}:`; write `{place}: anyone` if you mean everyone"
            self.report.missing(mapping, place, what, help_)
            return None
        return self.peers.read_all(node, place, allows_fqdn=allows_fqdn)

    def _services(self, mapping: Mapping, what: str, action: Action | None) -> Services | None:
        """Without `service` a deny, a forbid and a test mean every service; an allow must say so (law 3)."""
        node = mapping.get("service")
        if node is not None:
            return self.services.read_all(node)
        if action == "allow":
            help_ = "add `service:`; write `service: any` if you mean every service"
            self.report.missing(mapping, "service", what, help_)
            return None
        return _EVERY_SERVICE

    def implied_process(self, body: Body, stated: str | None) -> str | None:
        """The process that the services name, where none is stated beside them. Reports `process-conflict`.

        A service without a process beside one with a process would be narrowed unseen, so the two do not mix unless
        the process is stated.
        """
        named = [process for process in body.services.processes if process is not None]
        if not named or (stated is not None and set(named) == {stated}):
            return None
        if stated is None and len(body.services.processes) == 1:
            return named[0]
        processes = dict.fromkeys((*body.services.processes, *((stated,) if stated else ())))
        words = ", ".join(f"`{process}`" if process else "none" for process in processes)
        self.report.error(
            "process-conflict", body.service_node, f"the rule's services name different processes: {words}"
        )
        return None
