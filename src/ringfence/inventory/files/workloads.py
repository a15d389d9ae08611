"""One draft -> one workload: every text is judged, and every fault is a finding with its place.

INVARIANT: a draft with any error gives no workload; a half-read one is never published.
"""

from __future__ import annotations

import re
import uuid as uuid_
from collections.abc import Iterable
from datetime import datetime
from ipaddress import ip_interface

from ringfence.core.errors import errors_among
from ringfence.core.identity.workload import (
    CONTROLLED_KINDS,
    KINDS,
    MODES,
    Kind,
    Lease,
    Mode,
    ModeName,
    Workload,
    derived_uuid,
    utc,
)
from ringfence.core.labels.selector import LABEL_KEY, LABEL_VALUE
from ringfence.core.net.address import GLOBAL_UNICAST, PRIVATE, parse_address
from ringfence.core.net.intervals import EMPTY, IntervalSet, union
from ringfence.core.net.service import WELL_KNOWN, parse_service
from ringfence.core.policy.model import WORDS
from ringfence.inventory.files.draft import AddressDraft, Draft, Findings, Text, unknown_word

KIND_ALIASES: dict[str, Kind] = {"unmanaged": "device", "managed": "service", "server": "host"}
"""Other words for a kind that files may use."""
HOLDABLE = GLOBAL_UNICAST | PRIVATE
"""Addresses one workload can hold: no loopback, multicast, broadcast, unspecified or reserved one."""
_KINDS: dict[str, Kind] = {**{kind: kind for kind in KINDS}, **KIND_ALIASES}
_MODES: dict[str, ModeName] = {mode: mode for mode in MODES}
_TIME = re.compile(r"\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d{1,6})?)?(?:Z|[+-]\d\d:\d\d)?)?")
_ADDRESS_STARTS = frozenset("0123456789abcdefABCDEF:")
_SPIFFE = re.compile(r"spiffe://[a-z0-9._-]{1,255}(?:/[A-Za-z0-9._-]+)+")
"""SPIFFE-ID specification, section 2: a trust domain and path segments."""


def parse_time(text: str) -> datetime:
    """An RFC 3339 time, or a date for its first moment; without an offset it is UTC. Raises ValueError."""
    if not _TIME.fullmatch(text):
        raise ValueError(f"`{text}` is not a time")
    return utc(datetime.fromisoformat(text))


def compile_workload(draft: Draft, findings: Findings) -> Workload | None:
    """The workload a draft describes, or None where `findings` says why not."""
    if not draft.is_readable:
        return None
    before = len(findings.found)
    name, kind = _name(draft, findings), _kind(draft, findings)
    workload = Workload(
        name=name,
        uuid=_uuid(draft, name, findings),
        labels=_labels(draft, findings),
        addresses=_leases(draft, findings),
        kind=kind,
        mode=_mode(draft, kind, findings),
        spiffe=_spiffe(draft, findings),
        host=_value(draft, "host"),
        unit=_value(draft, "unit"),
        services=_services(draft, findings),
    )
    _check_process_keys(draft, kind, findings)
    return None if errors_among(findings.found[before:]) else workload


def _value(draft: Draft, key: str) -> str | None:
    text = draft.texts.get(key)
    return text.value if text is not None else None


def _name(draft: Draft, findings: Findings) -> str:
    text = draft.texts.get("name")
    if text is None or not text.value:
        findings.add("missing-name", "a workload has no name", draft.place(text or draft.at))
        return ""
    fault = _name_fault(text.value)
    if fault:
        message = f"`{text.value}` cannot be a name: {fault}"
        findings.add("bad-name", message, draft.place(text), text=text.value)
    return text.value


def _name_fault(name: str) -> str:
    if name in WORDS:
        return "it is a word of the language"
    if name != name.strip() or not name.isprintable():
        return "it begins or ends with a space, or holds a character that cannot be seen"
    return "it is an address" if _is_address(name) else ""


def _is_address(text: str) -> bool:
    if not (text[0] in _ADDRESS_STARTS and ("." in text or ":" in text)):
        return False
    try:
        parse_address(text)
    except ValueError:
        return False
    return True


def _kind(draft: Draft, findings: Findings) -> Kind:
    text = draft.texts.get("kind")
    if text is None:
        return "host"
    if text.value not in _KINDS:
        message, help_ = f"`{text.value}` is no kind of workload", unknown_word(text.value, _KINDS)
        findings.add("unknown-kind", message, draft.place(text), text=text.value, help=help_)
    return _KINDS.get(text.value, "device")


def _uuid(draft: Draft, name: str, findings: Findings) -> str:
    text = draft.texts.get("uuid")
    if text is None:
        return derived_uuid(name)
    try:
        return str(uuid_.UUID(text.value))
    except ValueError:
        findings.add("bad-uuid", f"`{text.value}` is no UUID", draft.place(text), text=text.value)
        return ""


def _labels(draft: Draft, findings: Findings) -> dict[str, str]:
    for key, value in draft.labels:
        if not LABEL_KEY.fullmatch(key.value):
            findings.add("bad-label-key", f"`{key.value}` is no label key", draft.place(key), text=key.value)
        if not LABEL_VALUE.fullmatch(value.value):
            findings.add("bad-label-value", f"`{value.value}` is no label value", draft.place(value), text=value.value)
    return {key.value: value.value for key, value in draft.labels}


def _mode(draft: Draft, kind: Kind, findings: Findings) -> Mode:
    both, inbound, outbound = (draft.texts.get(key) for key in ("mode", "mode:in", "mode:out"))
    written = [text for text in (both, inbound, outbound) if text is not None]
    for text in written:
        if text.value not in _MODES:
            message, help_ = f"`{text.value}` is no mode", unknown_word(text.value, _MODES)
            findings.add("unknown-mode", message, draft.place(text), text=text.value, help=help_)
    if both is not None and len(written) > 1:
        findings.add("mode-twice", "`mode` sets both directions already", draft.place(written[1]))
    if written and kind not in CONTROLLED_KINDS:
        message = f"a {kind} has no enforcement point, so its mode does nothing"
        findings.add("mode-without-control", message, draft.place(written[0]), severity="warning")
    return Mode(_mode_name(inbound or both), _mode_name(outbound or both))


def _mode_name(text: Text | None) -> ModeName:
    return "observe" if text is None else _MODES.get(text.value, "observe")


def _spiffe(draft: Draft, findings: Findings) -> str | None:
    text = draft.texts.get("spiffe")
    if text is not None and not _SPIFFE.fullmatch(text.value):
        findings.add("bad-spiffe-id", f"`{text.value}` is no SPIFFE ID", draft.place(text), text=text.value)
    return text.value if text is not None else None


def _services(draft: Draft, findings: Findings) -> IntervalSet:
    return union(_service(draft, text, findings) for text in draft.services)


def _service(draft: Draft, text: Text, findings: Findings) -> IntervalSet:
    try:
        return union(parse_service(word) for word in WELL_KNOWN.get(text.value, text.value).split())
    except ValueError as error:
        help_ = unknown_word(text.value, WELL_KNOWN) if "/" not in text.value else ""
        findings.add("bad-service", str(error), draft.place(text), text=text.value, help=help_)
        return EMPTY


def _check_process_keys(draft: Draft, kind: Kind, findings: Findings) -> None:
    if kind != "process":
        extra = [draft.texts[key] for key in ("host", "unit") if key in draft.texts] + list(draft.services[:1])
        for text in extra:
            message = f"`{text.value}` says what only a process has, and this is a {kind}"
            findings.add("not-a-process", message, draft.place(text), text=text.value)
        return
    for key in ("host", "unit"):
        if key not in draft.texts:
            findings.add("process-without-host", f"a process needs its `{key}`", draft.place(draft.at))
    for address in draft.addresses[:1]:
        where = draft.place(address.address)
        findings.add("process-address", "a process has no address of its own", where, text=address.address.value)


def _leases(draft: Draft, findings: Findings) -> tuple[Lease, ...]:
    leases = [lease for address in draft.addresses if (lease := _lease(draft, address, findings)) is not None]
    if len(leases) < 2:
        return tuple(leases)
    merged = merge_leases(leases)
    if len(merged) < len(leases):
        message = f"`{_value(draft, 'name')}` lists an address twice for the same time"
        findings.add("duplicate-address", message, draft.place(draft.addresses[0].address), severity="warning")
    return merged


def merge_leases(leases: Iterable[Lease]) -> tuple[Lease, ...]:
    """The same holdings with no two leases of one (network, address) that overlap, in the order first written."""
    merged: dict[tuple[str, int], list[Lease]] = {}
    for lease in leases:
        group = merged.setdefault((lease.network, lease.address), [])
        for other in [other for other in group if overlaps(lease, other)]:
            group.remove(other)
            lease = _joined(lease, other)
        group.append(lease)
    return tuple(lease for group in merged.values() for lease in group)


def overlaps(a: Lease, b: Lease) -> bool:
    """Whether both leases, of one address, run at some moment."""
    return (a.end is None or b.start is None or b.start < a.end) and (
        b.end is None or a.start is None or a.start < b.end
    )


def _joined(a: Lease, b: Lease) -> Lease:
    start = None if a.start is None or b.start is None else min(a.start, b.start)
    end = None if a.end is None or b.end is None else max(a.end, b.end)
    return Lease(a.address, a.network, start, end)


def _lease(draft: Draft, written: AddressDraft, findings: Findings) -> Lease | None:
    address = _address(draft, written.address, findings)
    start, end = _time(draft, written.start, findings), _time(draft, written.end, findings)
    if start is not None and end is not None and written.end is not None and end <= start:
        message = f"`{written.address.value}` ends before it begins"
        findings.add("backwards-lease", message, draft.place(written.end), text=written.end.value)
    network = written.network.value if written.network is not None else _value(draft, "network")
    return None if address is None else Lease(address, network or "main", start, end)


def _time(draft: Draft, text: Text | None, findings: Findings) -> datetime | None:
    if text is None:
        return None
    try:
        return parse_time(text.value)
    except ValueError:
        findings.add("bad-time", f"`{text.value}` is no time", draft.place(text), text=text.value)
        return None


def _address(draft: Draft, text: Text, findings: Findings) -> int | None:
    try:
        address = parse_address(text.value)
    except ValueError:
        message, help_ = f"`{text.value}` is no address", _address_help(text.value)
        findings.add("bad-address", message, draft.place(text), text=text.value, help=help_)
        return None
    if address not in HOLDABLE:
        message = f"`{text.value}` is loopback, multicast or reserved: no one workload holds it"
        findings.add("bad-address", message, draft.place(text), text=text.value, help="delete it")
    return address


def _address_help(text: str) -> str:
    """`10.0.0.5/24` as an interface prints it is one address; a network's own address is a range."""
    try:
        interface = ip_interface(text)
    except ValueError:
        return ""
    if interface.network.prefixlen == interface.max_prefixlen or interface.ip != interface.network.network_address:
        return f"write `{str(interface.ip).partition('%')[0]}`"
    return "a workload holds single addresses; write the range as a peer of a rule or in a label rule"
