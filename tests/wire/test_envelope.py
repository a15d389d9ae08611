"""Sealed messages: nothing is read unverified, nothing is used that was not wholly understood."""

from __future__ import annotations

import zlib

import msgspec
import msgspec.inspect as mi
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl.signing import SigningKey

from ringfence.core.errors import Finding, InputError, Location
from ringfence.core.identity.workload import Mode
from ringfence.core.intent.model import Cell, Part
from ringfence.core.intent.pieces import Body, ClassPlan, Group, Station
from ringfence.core.net.intervals import IntervalSet
from ringfence.wire import envelope
from ringfence.wire.envelope import PROTOCOL, Reader, Sealed, key_id, seal
from ringfence.wire.messages import DOWN, Assignment, Change, Expected, GroupChange, GroupState, Pieces

KEY, OTHER = SigningKey(bytes(32)), SigningKey(bytes([1] * 32))
READER = Reader([bytes(KEY.verify_key)])
CHANGE = Change(7, (GroupChange("web", 3, 7, added=(1 << 127, 5)),))


def resealed(sealed: Sealed, key: SigningKey = KEY, **changes: object) -> bytes:
    """A message made to differ, and signed as it is then."""
    changed = msgspec.structs.replace(sealed, **changes)
    said = envelope._signed(changed.protocol, changed.kind, changed.is_deflated, changed.payload)
    signed = msgspec.structs.replace(changed, signature=key.sign(said).signature)
    return msgspec.msgpack.encode(signed)


def opened(data: bytes) -> Sealed:
    return msgspec.msgpack.decode(data, type=Sealed)


def refusal(data: bytes, reader: Reader = READER) -> str:
    with pytest.raises(InputError) as caught:
        reader.open(data)
    return caught.value.code


@given(st.lists(st.integers(0, (1 << 128) - 1), max_size=400, unique=True).map(sorted))
def test_what_was_sealed_is_what_is_read(addresses: list[int]) -> None:
    """Any addresses, short messages and deflated ones."""
    message = Pieces(groups=(GroupState(Group("g", tuple(addresses)), 3),))
    assert READER.open(seal(message, KEY)) == message


def test_every_byte_is_signed() -> None:
    """Whatever bit of a message is turned, it is refused."""
    data = seal(CHANGE, KEY)
    for at in range(len(data)):
        turned = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
        assert refusal(turned) in ("message-forged", "message-malformed", "message-not-understood")


def test_a_part_of_one_message_is_no_part_of_another() -> None:
    """A signature over one kind, protocol or payload fits no other."""
    sealed = opened(seal(CHANGE, KEY))
    for changes in ({"kind": "Isolations"}, {"protocol": PROTOCOL + 1}, {"is_deflated": True}, {"payload": b"{}"}):
        assert refusal(msgspec.msgpack.encode(msgspec.structs.replace(sealed, **changes))) == "message-forged"


def test_only_trusted_keys_speak() -> None:
    """A well-formed message of a key nobody trusts, or under the name of one that is trusted."""
    assert refusal(seal(CHANGE, OTHER)) == "message-forged"
    borrowed = msgspec.structs.replace(opened(seal(CHANGE, OTHER)), key=key_id(KEY.verify_key))
    assert refusal(msgspec.msgpack.encode(borrowed)) == "message-forged"


def test_a_retired_key_is_not_believed_and_two_may_be_trusted_at_once() -> None:
    """Rotation: both keys while it lasts, then the new one alone."""
    both = Reader([bytes(KEY.verify_key), bytes(OTHER.verify_key)])
    assert both.open(seal(CHANGE, KEY)) == both.open(seal(CHANGE, OTHER)) == CHANGE
    assert refusal(seal(CHANGE, KEY), Reader([bytes(OTHER.verify_key)])) == "message-forged"


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": "Assignment2"},
        {"protocol": PROTOCOL + 1},
        {"payload": b'{"revision":7,"groups":[],"only_on_weekdays":true}'},
        {"payload": b'{"revision":"7","groups":[]}'},
        {"payload": b"{"},
    ],
)
def test_what_is_not_wholly_understood_is_refused(changes: dict[str, object]) -> None:
    """An unknown kind, protocol, field or type is an error with a code, though the signature is right."""
    assert refusal(resealed(opened(seal(CHANGE, KEY)), **changes)) == "message-not-understood"


def test_a_newer_controller_is_understood_while_it_says_nothing_new() -> None:
    """Across a version: a field an older agent lacks is not written at its default, and refused otherwise."""

    class Newer(msgspec.Struct, frozen=True, omit_defaults=True):
        state: str
        now: float
        is_cloned: bool = False
        must_reboot: bool = False

    sealed = opened(seal(Expected("s", 1.0), KEY))
    same, other = (msgspec.json.encode(Newer("s", 1.0, must_reboot=new)) for new in (False, True))
    assert READER.open(resealed(sealed, payload=same)) == Expected("s", 1.0)
    assert refusal(resealed(sealed, payload=other)) == "message-not-understood"


def structs_within(found: mi.Type, seen: dict[type, bool]) -> dict[type, bool]:
    """Every struct that a type may hold, and whether it refuses fields that it does not know."""
    if isinstance(found, mi.StructType):
        if found.cls in seen:
            return seen
        seen[found.cls] = found.forbid_unknown_fields
    inside = [field.type for field in getattr(found, "fields", ())]
    inside += [*getattr(found, "types", ()), *getattr(found, "item_types", ())]
    inside += [getattr(found, name) for name in ("item_type", "key_type", "value_type") if hasattr(found, name)]
    for one in inside:
        structs_within(one, seen)
    return seen


def test_nothing_within_a_message_is_passed_over() -> None:
    """INVARIANT: an unknown field is an error however deep it lies: a condition that an older agent passed over would
    open more than was meant. Findings are words for people, and enforce nothing."""
    seen: dict[type, bool] = {}
    for kind in DOWN:
        structs_within(mi.type_info(kind), seen)

    assert Cell in seen
    assert {cls for cls, is_strict in seen.items() if not is_strict} == {Finding, Location}


def test_a_condition_within_a_rule_is_not_passed_over() -> None:
    """A cell that a later version confines is refused with all of its message, and opens nothing."""
    cell = Cell(1, IntervalSet.of([(5, 5)]), "allow", "shop/web")
    sealed = opened(seal(Pieces(bodies=(Body(parts=(Part("in", (cell,)),)),)), KEY))
    confined = sealed.payload.replace(b'"action":"allow"', b'"action":"allow","within":"office"')
    assert confined != sealed.payload

    assert refusal(resealed(sealed, payload=confined)) == "message-not-understood"


def test_a_small_message_does_not_become_a_large_one() -> None:
    """What inflates beyond any message is refused, and so is what ends early."""
    sealed = opened(seal(CHANGE, KEY))
    bomb = zlib.compress(bytes(envelope.MAX_BYTES + 1), 9)
    assert refusal(resealed(sealed, payload=bomb, is_deflated=True)) == "message-malformed"
    assert refusal(resealed(sealed, payload=bomb[:1000], is_deflated=True)) == "message-malformed"
    assert refusal(resealed(sealed, payload=b"no zlib", is_deflated=True)) == "message-malformed"


@given(st.binary(max_size=200))
def test_noise_is_malformed(noise: bytes) -> None:
    """Whatever comes, an error with a code and nothing else."""
    assert refusal(noise) in ("message-malformed", "message-forged")


def test_a_body_is_named_by_its_content() -> None:
    """Whoever serves it, a body that is not what the assignment named has another name."""
    body = Body((ClassPlan(1, "role=web", ("g",)),))
    assignment = Assignment(1, Station("u", "n", Mode(), body=body.digest))
    assert msgspec.structs.replace(body, classes=()).digest != assignment.station.body
