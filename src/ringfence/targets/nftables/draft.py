"""A layout being drawn: chains and sets by name, ranges under names of their own content.

INVARIANT: an interval set never changes: other ranges are another set, which the rules go over to in one transaction.
The kernel's interval tree may miss a lookup while old and new ranges stand in it side by side; a new one cannot.
"""

from __future__ import annotations

import hashlib

from ringfence.targets.nftables.layout import Chain, Data, Elements, Field, Interval, Rule, SetSpec
from ringfence.targets.nftables.services import Services


class Draft:
    """What `render` adds to until it is whole."""

    def __init__(self) -> None:
        self.sets: dict[str, SetSpec] = {}
        self.elements: dict[str, Elements] = {}
        self.chains: dict[str, Chain] = {}
        self.services: dict[str, Services] = {}

    def chain(self, name: str, *rules: Rule) -> None:
        self.chains[name] = Chain(name, rules)

    def put(self, spec: SetSpec, elements: Elements) -> None:
        self.sets[spec.name] = spec
        self.elements[spec.name] = elements

    def put_ranges(self, name: str, key: Field, data: Data, ranges: tuple[Interval, ...]) -> str:
        """Add an interval set; returns the name it has, which its content is part of."""
        content = repr([tuple(r) for r in ranges]).encode()
        whole = f"{name}_{hashlib.sha256(content).hexdigest()[:8]}"
        self.put(SetSpec(whole, (key,), data, is_interval=True), ranges)
        return whole
