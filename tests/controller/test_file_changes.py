"""Which files a draft adds, changes and takes away, and who had made what it replaces."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from databases import opened

from ringfence.controller import audit
from ringfence.controller.publishing import files
from ringfence.controller.publishing.files import file_changes
from ringfence.ports.state import Change, PolicyVersion
from ringfence.wire.api import FileChange

NOW = datetime(2026, 3, 3, tzinfo=UTC)
HISTORY: tuple[tuple[str, dict[str, str]], ...] = (
    ("ann", {"shop.yaml": "a", "old.yaml": "x"}),
    ("bob", {"shop.yaml": "a", "old.yaml": "x", "card.yaml": "c"}),
    ("eve", {"shop.yaml": "b", "old.yaml": "x", "card.yaml": "d"}),
    ("ann", {"shop.yaml": "b", "old.yaml": "x", "card.yaml": "c"}),
    ("bob", {"shop.yaml": "b", "old.yaml": "x", "card.yaml": "c", "new.yaml": "n"}),
)


def found(place: str | Path, draft: dict[str, str], history: int = len(HISTORY)) -> tuple[FileChange, ...]:
    async def run() -> tuple[FileChange, ...]:
        async with opened(place) as state:
            for number, (who, texts) in enumerate(HISTORY[:history], 1):

                def add(tx: Change, number: int = number, who: str = who, texts: dict[str, str] = texts) -> None:
                    at, parent = NOW + timedelta(days=number), number - 1 or None
                    tx.add(PolicyVersion(number, at, who, "a test", texts, "", str(number), parent))
                    audit.record(tx, at=at, actor=who, action="policy.publish", subject=str(number))

                await state.write(add)
            return await state.read(lambda view: file_changes(view, draft))

    return asyncio.run(run())


def made(name: str, change: str, version: int) -> FileChange:
    return FileChange(name, change, HISTORY[version - 1][0], NOW + timedelta(days=version), version)  # type: ignore[arg-type]


def test_what_goes_comes_first_with_who_made_it_last(place: str | Path) -> None:
    """Made is the version since which it says what it says: not the first that had the name, nor one that said the
    same before somebody changed it."""
    draft = {"shop.yaml": "c", "old.yaml": "x", "more.yaml": "m"}
    assert found(place, draft) == (
        made("card.yaml", "removed", 4),
        made("new.yaml", "removed", 5),
        made("shop.yaml", "changed", 3),
        FileChange("more.yaml", "added"),
    )


def test_what_stood_there_from_the_first_version_was_made_with_it(place: str | Path) -> None:
    """However many versions left it as it was."""
    assert found(place, HISTORY[-1][1] | {"old.yaml": "y"}) == (made("old.yaml", "changed", 1),)


def test_what_is_the_same_is_no_change(place: str | Path) -> None:
    """And with no version at all everything is added."""
    assert found(place, HISTORY[-1][1]) == ()


def test_before_the_first_version_all_is_added(place: str | Path) -> None:
    """There is nothing it replaces."""
    assert found(place, {"shop.yaml": "a"}, history=0) == (FileChange("shop.yaml", "added"),)


def test_what_is_older_than_what_is_looked_through_has_no_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A guess would accuse somebody."""
    monkeypatch.setattr(files, "MOST_LOOKED", 3)
    monkeypatch.setattr(files, "_PAGE", 2)
    draft = {"card.yaml": "e", "shop.yaml": "b", "new.yaml": "n"}
    assert found(tmp_path / "state.db", draft) == (FileChange("old.yaml", "removed"), made("card.yaml", "changed", 4))
