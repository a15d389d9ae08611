"""Hypothesis strategies for policy texts that are free of faults, in spellings a person might use."""

from __future__ import annotations

from hypothesis import strategies as st

from ringfence.core.policy.names import RESERVED_SEGMENTS, RESERVED_SERVICES
from ringfence.core.policy.scalars import quoted

NAMES = st.from_regex(r"[a-z0-9][a-z0-9_-]{0,6}", fullmatch=True)
PROSE = st.text(st.characters(codec="utf-8", exclude_categories=("Cs",)), min_size=1, max_size=40).filter(
    lambda text: text.strip() != ""
)
SELECTORS = st.lists(
    st.sampled_from(["role=web", "role in (web,api)", "tier!=x", "!legacy", "env!=dev", "zone notin (a,b)"]),
    min_size=1,
    max_size=3,
    unique=True,
).map(",".join)
ADDRESSES = st.sampled_from(["10.0.0.0/8", "192.0.2.7", "fd00::/8", "::1", "0.0.0.0/0"])
DNS_NAMES = st.sampled_from(["api.example.com", "*.example.com", "xn--bro-hoa.example"])
LITERALS = st.sampled_from(["tcp/5432", "tcp/8000-8100", "udp", "icmp", "icmp/echo", "proto/47", "https", "dns", "any"])
PROCESSES = st.sampled_from(["nginx.service", "/usr/bin/my app", "system.slice/x.service"])
WITHINS = st.sampled_from(["mon-fri 08:00-18:00 Europe/Berlin", "daily 22:00-06:00 UTC", "sat,sun 00:00-24:00 UTC"])
DATES = st.dates().map(lambda day: day.isoformat())
MOMENTS = st.sampled_from(["2027-01-01T00:00:00Z", "2027-06-30T23:59:59.5+02:00"])
COMMENTS = st.text(st.characters(min_codepoint=32, max_codepoint=0x2FF, exclude_categories=("Cc",)), max_size=20)


@st.composite
def policy_texts(draw: st.DrawFn) -> str:
    """One policy document: every section, every kind of peer, service and condition, comments anywhere."""
    segments = draw(st.lists(NAMES.filter(lambda n: n not in RESERVED), max_size=4, unique=True))
    services = draw(st.lists(NAMES.filter(lambda n: n not in RESERVED), max_size=3, unique=True))
    lines = [f"policy: {quoted(draw(NAMES))}"]
    for key in ("owner", "because"):
        lines += [f"{key}: {quoted(draw(PROSE))}"] if draw(st.booleans()) else []
    lines += ["scope: app=shop"] if draw(st.booleans()) else []
    lines += ["segments:", *(f"  {quoted(name)}: {draw(segment())}" for name in segments)] if segments else []
    lines += ["services:", *(f"  {quoted(name)}: {draw(service())}" for name in services)] if services else []
    lines += ["rules:", *(line for i in range(draw(st.integers(0, 4))) for line in draw(rule(i, segments, services)))]
    lines += ["tests:", *(line for i in range(draw(st.integers(0, 2))) for line in draw(test(i, segments, services)))]
    return draw(with_comments(lines))


RESERVED = RESERVED_SEGMENTS | RESERVED_SERVICES


@st.composite
def segment(draw: st.DrawFn) -> str:
    prefix = draw(st.sampled_from(["", "global: "]))
    text = quoted(prefix + draw(SELECTORS))
    if draw(st.booleans()):
        return text
    because = f", because: {quoted(draw(PROSE))}" if draw(st.booleans()) else ""
    return f"{{selector: {text}, crown_jewel: {draw(st.sampled_from(['true', 'false']))}{because}}}"


@st.composite
def service(draw: st.DrawFn) -> str:
    ports = f"[{', '.join(draw(st.lists(LITERALS, min_size=1, max_size=3)))}]"
    return ports if draw(st.booleans()) else f"{{ports: {ports}, because: {quoted(draw(PROSE))}}}"


@st.composite
def peers(draw: st.DrawFn, segments: list[str], *, dns: bool = False) -> str:
    kinds = [
        st.sampled_from(["anyone", "internet", "private"]),
        SELECTORS,
        SELECTORS.map("global: {}".format),
        ADDRESSES,
    ]
    kinds += [st.sampled_from(segments), st.sampled_from(segments).map("global: {}".format)] if segments else []
    kinds += [DNS_NAMES] if dns else []
    found = draw(st.lists(st.one_of(kinds).map(quoted), min_size=1, max_size=9))
    return found[0] if len(found) == 1 else f"[{', '.join(found)}]"


@st.composite
def body(draw: st.DrawFn, segments: list[str], services: list[str], *, dns: bool, needs_service: bool) -> list[str]:
    """`from`, `to` and `service` as `key: value` texts; the first source keeps the rule in its scope."""
    words = st.lists(
        st.one_of(LITERALS, *([st.sampled_from(services).map(quoted)] if services else [])), min_size=1, max_size=5
    )
    fields = [f"from: [anyone, {draw(st.one_of(ADDRESSES.map(quoted)))}]" if draw(st.booleans()) else "from: anyone"]
    fields += [f"to: {draw(peers(segments, dns=dns))}"]
    fields += [f"service: [{', '.join(draw(words))}]"] if needs_service or draw(st.booleans()) else []
    return fields


@st.composite
def rule(draw: st.DrawFn, number: int, segments: list[str], services: list[str]) -> list[str]:
    action = draw(st.sampled_from(["allow", "deny", "forbid"]))
    is_allow = action == "allow"
    fields = draw(body(segments, services, dns=is_allow, needs_service=is_allow))
    conditions = draw(condition_texts()) if is_allow else []
    inside = [text for text in conditions if draw(st.booleans())]
    beside = [text for text in conditions if text not in inside]
    beside += [f"because: {quoted(draw(PROSE))}"] if draw(st.booleans()) else []
    lines = [f"name: {quoted(f'r{number}')}", f"{action}: {{{', '.join(fields + inside)}}}", *beside]
    return [f"  {'- ' if i == 0 else '  '}{line}" for i, line in enumerate(lines)]


@st.composite
def condition_texts(draw: st.DrawFn) -> list[str]:
    found = [
        "require: mutual-tls",
        f"from_process: {quoted(draw(PROCESSES))}",
        f"to_process: {quoted(draw(PROCESSES))}",
        f"until: {draw(DATES)}",
        f"within: {quoted(draw(WITHINS))}",
    ]
    return [text for text in found if draw(st.booleans())]


@st.composite
def test(draw: st.DrawFn, number: int, segments: list[str], services: list[str]) -> list[str]:
    fields = draw(body(segments, services, dns=False, needs_service=False))
    fields += [f"expect: {draw(st.sampled_from(['allowed', 'blocked']))}"]
    optional = [
        f"name: {quoted(f't{number}')}",
        f"at: {quoted(draw(MOMENTS))}",
        "mutual_tls: true",
        f"from_process: {quoted(draw(PROCESSES))}",
    ]
    fields += [text for text in optional if draw(st.booleans())]
    return [f"  - {{{', '.join(fields)}}}"]


@st.composite
def with_comments(draw: st.DrawFn, lines: list[str]) -> str:
    """The lines with comments above, behind and below some of them."""
    places = st.tuples(st.integers(0, len(lines)), st.sampled_from(["", "  ", "    ", "behind", "blank"]), COMMENTS)
    out = [*lines, ""]
    for index, where, text in sorted(draw(st.lists(places, max_size=5)), reverse=True):
        if where == "behind" and out[index]:
            out[index] += f" #{text}"
        else:
            out.insert(index, "" if where == "blank" else f"{where.replace('behind', '')}#{text}")
    return "\n".join(out) + "\n"
