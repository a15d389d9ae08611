"""`ringfence nats-config`: what servers of NATS are told that run for a controller."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
import typer

from ringfence.cli.session import CLEAN, Session, command
from ringfence.core.errors import InputError

EXAMPLE = "ringfence nats-config /var/lib/ringfence-controller --server nats-1.example --server nats-2.example"


class _Written(msgspec.Struct, frozen=True):
    """What one server has to be given."""

    server: str
    folder: str
    certificate_until: str
    is_kept: bool
    """Whether there was another configuration, which stays."""


def register(app: typer.Typer) -> None:
    """Add the command to the root."""
    command(app, "nats-config", epilog=f"Example: {EXAMPLE}")(nats_config)


def nats_config(
    session: Session,
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="The controller's; its CA and keys are made there.")],
    server: Annotated[
        list[str] | None, typer.Option(metavar="HOST[:PORT]", help="One server, as agents reach it; once for each.")
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Where a folder for each server is written.")] = Path(
        "nats"
    ),
    at: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where that folder will lie on the server, if not there.")
    ] = None,
    store: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where the server keeps messages, if not beside its files.")
    ] = None,
    trust_domain: Annotated[str | None, typer.Option(help="As for `ringfence up`, where it makes the CA.")] = None,
) -> int:
    """Write what NATS servers need to be the bus of a controller: configuration, certificate and roots, for each.

    Run it before the first `ringfence up DIR --nats URL`, and again for new certificates, which are good for a year;
    servers then read them at `nats-server --signal reload`. A configuration that is there already stays as it is. The
    files hold a key and, for a cluster, a secret: they are for the server's eyes only.
    """
    from ringfence.api.config import Config, settings_of
    from ringfence.bus.nodes import check_cluster, parse_node
    from ringfence.controller.bus.bus_files import write_nodes

    if not server:
        raise InputError("bad-bus-url", "no server is named", help="say --server HOST, once for each server")
    nodes = tuple(parse_node(one) for one in server)
    check_cluster(nodes)
    settings = settings_of(directory.absolute(), Config(trust_domain=trust_domain))
    made = write_nodes(settings.directory, settings.trust_domain, nodes, output.absolute(), at=at, store=store)
    urls = ",".join(node.url for node in nodes)
    told = [
        _Written(node.url, str(one.folder), f"{one.ends:%Y-%m-%d}", one.is_kept)
        for node, one in zip(nodes, made, strict=True)
    ]
    for one in told:
        if one.is_kept:
            session.warn(
                f"{one.folder}/nats.conf is another than would be written, and stays; remove it to have it anew"
            )
    session.emit(
        {"servers": told, "nats": urls},
        *(f"{one.server}: {one.folder}, certificate until {one.certificate_until}" for one in told),
        f"put each folder on its server and run `nats-server --config nats.conf`; then\n"
        f"  ringfence up {directory} --nats {urls}",
    )
    return CLEAN
