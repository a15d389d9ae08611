"""`ringfence init`: an estate with commented examples, and the next three commands to type."""

from __future__ import annotations

from pathlib import Path

import typer
from rich.text import Text

from ringfence.cli.session import CLEAN, Session, command, write_file
from ringfence.core.errors import InputError, Location

SETTINGS = """\
# Settings of this estate. Every key is optional; these are the defaults, commented out.

# [identity]
# ignore = ["pod-template-hash"]     # label keys that make no identities and may not be selected on

# [labels]
# application = "app"                # with the environment: what makes one recommended policy
# environment = "env"
# role = "role"                      # what makes its tiers

# [flows]
# max_days = 90
# max_bytes = 10_000_000_000
# [flows.networks]
# "vpc-0a1b2c" = "site-2"            # VPCs whose address ranges overlap others

# [[failsafe]]                       # always passes, whatever policy says; shown in every plan
# direction = "in"
# cidr = "192.0.2.0/28"
# service = "ssh"

# [names]
# "api.example.com" = ["203.0.113.9"]
"""
WORKLOADS = """\
# What can be isolated: one entry a host, VM, container, service or device. CSV and JSON work as well.
#
# - name: web-1
#   labels: {app: shop, env: prod, role: web}
#   addresses: [10.0.1.1, "fd00::11"]
#   mode: observe                      # observe | selective | enforce, or {in: enforce, out: observe}
# - name: db-1
#   labels: {app: shop, env: prod, role: db}
#   addresses: [10.0.3.1, {address: 10.0.3.9, from: 2026-01-01T00:00:00Z}]
"""
LABEL_RULES = """\
# Labels for workloads that have none of that key, from what is known of them. A label written on a workload wins.
#
# - when: {cidr: 10.0.0.0/16}
#   set: {env: prod}
#   because: the production VPC
# - when: {name: "(?P<role>web|api|db)-[0-9]+"}
#   set: {role: "{role}"}
"""
POLICY = """\
# One document a policy. `ringfence recommend` writes the first draft from observed flows.
#
# policy: shop
# owner: team-shop
# scope: app=shop,env=prod             # every rule is confined to it
#
# segments:
#   web: role=web
#   db:  role=db
#
# rules:
#   - allow: {from: internet, to: web, service: https}
#   - allow: {from: web, to: db, service: postgres}
#
# tests:
#   - {from: web, to: db, service: postgres, expect: allowed}
#   - {from: "global: env=dev", to: db, expect: blocked}
"""
IGNORED = ".gitignore"
FILES = {
    "ringfence.toml": SETTINGS,
    "inventory/workloads.yaml": WORKLOADS,
    "inventory/label-rules.yaml": LABEL_RULES,
    "policies/example.yaml": POLICY,
    IGNORED: ".ringfence/\n",
}


def register(app: typer.Typer) -> None:
    """Add the command to the root."""
    command(app, "init", epilog="Example: ringfence init --estate my-estate")(init)


def init(session: Session) -> int:
    """Make an estate here (or in --estate DIR): settings, inventory and policies with commented examples."""
    root: Path = session.folder
    if root.exists() and not root.is_dir():
        raise InputError("not-a-folder", f"`{root}` is a file", help="name a directory with --estate DIR")
    taken = [name for name in FILES if name != IGNORED and (root / name).exists()]
    if taken:
        raise InputError(
            "estate-exists",
            f"`{root / taken[0]}` is there already",
            where=Location(str(root)),
            help="choose another directory",
        )
    written = [name for name in FILES if not (root / name).exists()]
    for name in written:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        write_file(root / name, FILES[name])
    session.emit({"estate": str(root), "files": written}, f"an estate in {root}: " + ", ".join(written))
    if IGNORED not in written:
        session.say(Text(f"add `.ringfence/` to {root / IGNORED}: it holds derived data"))
    session.say(
        "next: fill inventory/, then `ringfence flows import LOGS`, `ringfence map`, `ringfence recommend -o policies`"
    )
    return CLEAN
