"""Which control group a unit of policy is: the system's own, whatever its users name theirs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ringfence.targets.nftables.cgroups import resolve_units

SYSTEMS = "system.slice/orders.service"


@pytest.mark.parametrize(
    "path",
    [
        "user.slice/user-7.slice/user@7.service/app.slice/orders.service",
        "system.slice/docker-1.scope/system.slice/orders.service",
        "docker/1/system.slice/orders.service",
        "system.slice/web.service/orders.service",
    ],
)
def test_a_group_that_somebody_named_like_a_unit_is_not_that_unit(tmp_path: Path, path: str) -> None:
    """Neither while the unit is stopped, nor beside it when it runs: nobody gets its rights, or takes them from it."""
    (tmp_path / path).mkdir(parents=True)
    groups, (refused,) = resolve_units(["orders.service"], tmp_path)
    assert (groups, refused.code) == ({}, "process-cgroup-missing")

    (tmp_path / SYSTEMS).mkdir(parents=True)
    groups, refusals = resolve_units(["orders.service"], tmp_path)
    assert (groups["orders.service"].id, refusals) == ((tmp_path / SYSTEMS).stat().st_ino, ())
    assert resolve_units([path], tmp_path)[0][path].id == (tmp_path / path).stat().st_ino


@pytest.mark.skipif(os.geteuid() != 0, reason="gives a folder to somebody else")
@pytest.mark.parametrize("unit", ["orders", "orders.service"])
def test_what_was_given_to_a_user_holds_no_unit_of_the_systems(tmp_path: Path, unit: str) -> None:
    """Whoever owns a control group makes others below it."""
    (tmp_path / "lent.slice" / unit).mkdir(parents=True)
    os.chown(tmp_path / "lent.slice", 65534, 65534)
    assert resolve_units([unit], tmp_path)[1][0].code == "process-cgroup-missing"


def test_a_unit_in_a_slice_of_slices_is_found_by_name(tmp_path: Path) -> None:
    """As is a group that no manager made."""
    for path in ("a.slice/a-b.slice/orders.service", "made/by/hand"):
        (tmp_path / path).mkdir(parents=True)
    groups, refusals = resolve_units(["orders.service", "hand"], tmp_path)
    assert (set(groups), refusals) == ({"orders.service", "hand"}, ())
