"""The keys that sign the controller's messages: rotation without a message that is not understood."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from nacl.signing import SigningKey

from ringfence.controller.identity.signing import SigningKeys
from ringfence.core.errors import InputError
from ringfence.wire.envelope import Reader, key_id, seal
from ringfence.wire.messages import Expected

MESSAGE = Expected("0" * 32, 1.5)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "signing.json"


def test_the_key_is_the_same_after_a_restart(path: Path) -> None:
    """Opened again it signs with the same key, in a file for its owner alone."""
    first, again = SigningKeys.open(path), SigningKeys.open(path)

    assert first.current == again.current
    assert path.stat().st_mode & 0o777 == 0o600
    assert Reader(first.trusted).open(seal(MESSAGE, again.current)) == MESSAGE


def test_every_step_is_understood_by_who_heard_the_one_before(path: Path) -> None:
    """At each step of a rotation, an agent with the list of the step before understands what is signed now; one that
    slept through two steps refuses instead of believing."""
    keys = SigningKeys.open(path)
    old = key_id(keys.current.verify_key)
    lists = [keys.trusted]
    keys.announce()
    keys = SigningKeys.open(path)
    assert Reader(lists[-1]).open(seal(MESSAGE, keys.current)) == MESSAGE
    lists.append(keys.trusted)

    keys.use_newest()
    keys = SigningKeys.open(path)
    assert Reader(lists[-1]).open(seal(MESSAGE, keys.current)) == MESSAGE
    with pytest.raises(InputError) as caught:
        Reader(lists[0]).open(seal(MESSAGE, keys.current))
    assert caught.value.code == "message-forged"
    lists.append(keys.trusted)

    keys.retire(old)
    keys = SigningKeys.open(path)
    assert Reader(lists[-1]).open(seal(MESSAGE, keys.current)) == MESSAGE
    assert [len(trusted) for trusted in (*lists, keys.trusted)] == [1, 2, 2, 1]


def test_a_key_that_signs_no_more_has_no_seed_on_disk(path: Path) -> None:
    """After the change the old seed is gone from the file."""
    keys = SigningKeys.open(path)
    seed = base64.b64encode(bytes(keys.current))
    assert seed in path.read_bytes()
    keys.announce()
    keys.use_newest()

    assert seed not in path.read_bytes()


def test_a_step_out_of_turn_is_refused(path: Path) -> None:
    """No key signs unannounced, none is retired that signs or that does not exist."""
    keys = SigningKeys.open(path)
    codes = []
    for step in (
        keys.use_newest,
        lambda: keys.retire(key_id(keys.current.verify_key)),
        lambda: keys.retire("0" * 16),
    ):
        with pytest.raises(InputError) as caught:
            step()
        codes.append(caught.value.code)

    assert codes == ["no-key-announced", "key-in-use", "key-unknown"]


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'[{"public":"","stage":"signing","seed":""}]'])
def test_damaged_keys_are_not_replaced(path: Path, content: bytes) -> None:
    """A file that cannot be used is an error and stays: new keys would be nobody's trusted ones."""
    path.touch(mode=0o600)
    path.write_bytes(content)

    with pytest.raises(InputError) as caught:
        SigningKeys.open(path)

    assert caught.value.code == "signing-keys-damaged"
    assert path.read_bytes() == content


def test_a_seed_of_another_key_is_noticed(path: Path) -> None:
    """Seed and public key that do not belong together are no keys."""
    keys = SigningKeys.open(path)
    content = path.read_bytes()
    other = base64.b64encode(bytes(SigningKey.generate()))
    path.write_bytes(content.replace(base64.b64encode(bytes(keys.current)), other))

    with pytest.raises(InputError) as caught:
        SigningKeys.open(path)

    assert caught.value.code == "signing-keys-damaged"
