"""The nearest rule: of the allows that did not match, the one that missed by least, and by what.

The blocked-path answer people ask for: not only "nothing allowed it" but "this rule would have, from `api`
instead of `web`".
"""

from __future__ import annotations

import msgspec

from ringfence.core.engine.engine import Engine
from ringfence.core.engine.rules import RuleRef
from ringfence.core.errors import Location
from ringfence.core.net.service import format_services
from ringfence.core.policy.model import Peer


class Nearest(msgspec.Struct, frozen=True):
    """A rule and what it would have needed."""

    rule: str
    where: Location
    missing: tuple[str, ...]


def nearest(engine: Engine, source: int, destination: int, point: int) -> Nearest | None:
    """The allow with the fewest unmet parts between two classes on a service point; None when no allow comes close."""
    relation, atom = engine.relation, engine.atoms.atom(point)
    s_named, _, s_scope = relation.rows(source)
    _, d_named, d_scope = relation.rows(destination)
    candidates = []
    for number, rule in enumerate(engine.rules):
        if rule.rule.action != "allow":
            continue
        bit = 1 << number
        meets = (bool(s_named & bit), bool(d_named & bit), bool(relation.services[atom] & bit))
        if sum(meets) < 2:
            continue
        consents = bool(d_scope & bit)
        candidates.append(
            (3 - sum(meets) + (not consents), rule.ref, _missing(rule, meets, consents, bool(s_scope & bit)))
        )
    if not candidates:
        return None
    _, ref, missing = min(candidates)
    where = next(r.rule.where for r in engine.rules if r.ref == ref)
    return Nearest(ref, where, missing)


def _missing(rule: RuleRef, meets: tuple[bool, bool, bool], consents: bool, source_in_scope: bool) -> tuple[str, ...]:
    out = []
    if not meets[0]:
        out.append(f"from {_say(rule.rule.sources)}")
    if not meets[1]:
        out.append(f"to {_say(rule.rule.destinations)}")
    if not meets[2]:
        out.append(f"on {', '.join(rule.rule.service_words or format_services(rule.rule.services))}")
    if all(meets) and not consents:
        out.append("the destination's owner to write the rule: it is outside this policy's scope")
    conditions = rule.rule.conditions
    out += ["mutual-tls"] if conditions.mutual_tls else []
    out += [f"from process {conditions.from_process}"] if conditions.from_process else []
    out += [f"to process {conditions.to_process}"] if conditions.to_process else []
    out += [f"until {conditions.until}"] if conditions.until else []
    out += [f"within {conditions.within.text}"] if conditions.within else []
    return tuple(out)


def _say(peers: tuple[Peer, ...]) -> str:
    return " or ".join(f"`{peer.text}`" for peer in peers)
