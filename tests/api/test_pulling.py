"""Policies made in the UI and policies of an estate: none disappears without being named, and none is typed again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from fleet import AT_ONCE, Fleet, fleet_in
from serving import SHOP, eventually

from ringfence.wire import api

CARD = "policy: card-cde\nowner: team-card\nscope: app=card\nrules: []\n"
WHY = ("--why", "a test")


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    """Version 1 is the estate's; version 2 was made elsewhere, and has a policy more."""
    with fleet_in(tmp_path) as made:
        made.publish()
        files = {"shop.yaml": SHOP, "card-cde.yaml": CARD}
        made.client.apply(api.Apply(api.Draft(files, 1, note="in the UI"), AT_ONCE))
        eventually(lambda: made.client.rollout().stage == "done")
        yield made


def flat(text: str) -> str:
    return " ".join(text.split())


def test_what_an_estate_would_take_away_is_named_and_can_be_fetched(fleet: Fleet) -> None:
    """In the plan with who made it and when, in the question, in JSON; after `pull` nothing is taken away."""
    plan, asked = fleet.ring("plan"), fleet.ring("apply", *WHY)
    wanted = "- removes card-cde.yaml (administrator made it, in version 2, "
    assert wanted in flat(plan.stdout)
    assert "stays in version 2: `ringfence pull 2` fetches it" in flat(plan.stdout)
    assert (asked.exit_code, "error[not-confirmed]" in asked.stderr) == (2, True)
    assert wanted in flat(asked.stderr)
    assert "apply this to 2 hosts and remove card-cde.yaml?" in flat(asked.stderr)
    (gone,) = fleet.json("plan")["files"]
    assert (gone["name"], gone["change"], gone["by"], gone["version"]) == (
        "card-cde.yaml",
        "removed",
        "administrator",
        2,
    )

    pulled = fleet.json("pull")
    assert pulled["files"] == [
        {"file": "policies/card-cde.yaml", "became": "written"}, {"file": "policies/shop.yaml", "became": "unchanged"},
    ]  # fmt: skip
    assert (fleet.estate / "policies" / "card-cde.yaml").read_text() == CARD
    assert "removes" not in fleet.ring("plan").stdout
    assert fleet.json("apply", *WHY, "--yes")["changed"] is False


def test_a_pull_replaces_nothing_that_was_not_meant(fleet: Fleet) -> None:
    """What says something else stays and is named, as is what is not in force: exit 1; --force replaces the one and
    deletes neither. An old version is fetched as well."""
    mine = SHOP.replace("5432", "5433")
    fleet.write(mine)
    (fleet.estate / "policies" / "own.yaml").write_text(CARD.replace("card-cde", "own"))
    fleet.write(mine)

    done = fleet.ring("pull", "--json")
    became = {one["file"]: one["became"] for one in json.loads(done.stdout)["files"]}
    assert done.exit_code == 1
    assert became == {
        "policies/card-cde.yaml": "written", "policies/shop.yaml": "differs", "policies/own.yaml": "not in force",
    }  # fmt: skip
    assert (fleet.estate / "policies" / "shop.yaml").read_text() == mine

    assert "left as it is; --force replaces it" in fleet.ring("pull").stderr
    forced = fleet.ring("pull", "1", "--force")
    assert (forced.exit_code, (fleet.estate / "policies" / "shop.yaml").read_text()) == (1, SHOP)
    assert (fleet.estate / "policies" / "own.yaml").exists()


def test_an_estate_is_made_of_what_is_in_force(fleet: Fleet, tmp_path: Path) -> None:
    """Where there was none; what links out of it is not followed."""
    there = tmp_path / "afar" / "fresh"
    assert fleet.ring("pull", "--estate", str(there)).exit_code == 0
    assert sorted(path.name for path in (there / "policies").iterdir()) == ["card-cde.yaml", "shop.yaml"]

    leading = tmp_path / "afar" / "leading"
    leading.mkdir()
    (tmp_path / "outside").mkdir()
    (leading / "policies").symlink_to(tmp_path / "outside")
    refused = fleet.ring("pull", "--estate", str(leading))
    assert (refused.exit_code, "error[not-a-policy]" in refused.stderr) == (2, True)
    assert list((tmp_path / "outside").iterdir()) == []


def test_a_test_that_fails_is_told_once_and_nobody_is_asked(fleet: Fleet) -> None:
    """`plan` names it in its answer, `apply` in its refusal, before a reason and a yes are wanted; both end with 1."""
    fleet.ring("pull")
    fleet.write(
        SHOP.replace("role=db, service: tcp/5432, expect: allowed", "role=db, service: tcp/22, expect: allowed")
    )

    plan, applied = fleet.ring("plan"), fleet.ring("apply")

    assert (plan.exit_code, applied.exit_code) == (1, 1)
    assert (plan.stdout.count("failed: shop"), plan.stderr.count("test-failed")) == (1, 0)
    assert (applied.stderr.count("failed: shop"), applied.stderr.count("error[test-failed]")) == (0, 1)
    assert "0 tests of 1 proven" in flat(applied.stderr)
    assert "no-reason" not in applied.stderr


def test_the_way_to_before_the_first_version_is_told(fleet: Fleet) -> None:
    """There is no version 0: the mode lets pass what policies block."""
    done = fleet.ring("rollback", "0", *WHY, "--yes")
    assert (done.exit_code, "error[unknown-version]" in done.stderr) == (2, True)
    assert "ringfence mode WHO --in observe --out observe" in flat(done.stderr)
