"""A small shop in a lab as people meet it: a controller, an agent on every server, and a desk with a browser.

The browser is Chromium inside the desk's own network: it reaches what a desk there reaches, and nothing else.
"""

from __future__ import annotations

import io
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pages import CHROMIUM, launch
from playwright.sync_api import Browser, sync_playwright
from rich.console import Console

from ringfence.agent.config import Config
from ringfence.cli.fleet_words import contained_words, plan_words
from ringfence.cli.picture import draw_html
from ringfence.cli.render_map import map_table
from ringfence.lab import namespaces
from ringfence.lab.description import parse_world
from ringfence.lab.fleet import Fleet, Prober, with_controller
from ringfence.lab.fleet_controller import HEARTBEAT_S
from ringfence.lab.lab import Lab
from ringfence.lab.probing import Aim, Kind
from ringfence.lab.served import FLOWS_S, Served
from ringfence.lab.story import learning, starting
from ringfence.lab.story.scene import Scene
from ringfence.lab.story.steady import Steady
from ringfence.lab.story.telling import Story, Views

DESK = "desk"
SHOP = """\
lab: journey
networks:
  prod: [10.10.0.0/24, "fd00:10::/64"]
  mgmt: [10.30.0.0/24]
  office: [10.40.0.0/24]
  internet: [203.0.113.0/24]
services:
  https: {port: tcp/443, speaks: http}
  api: {port: tcp/8080, speaks: http}
  postgres: {port: tcp/5432, speaks: store}
  ssh: {port: tcp/22, speaks: greeting}
  ipp: {port: tcp/631, speaks: http}
hosts:
  - name: web-1
    labels: {app: shop, env: prod, role: web}
    addresses: [10.10.0.11, "fd00:10::11"]
    services: [https, ssh]
    clients: [{to: api-1, service: api, every: 300ms}]
  - name: api-1
    labels: {app: shop, env: prod, role: api}
    addresses: [10.10.0.21, "fd00:10::21"]
    services: [api, ssh]
    clients:
      - {to: db-1, service: postgres, every: 300ms}
      - {to: printer, service: ipp, every: 1s}
  - name: db-1
    labels: {app: shop, env: prod, role: db}
    addresses: [10.10.0.31, "fd00:10::31"]
    services: [postgres, ssh]
  - name: jump-1
    labels: {app: jump, env: mgmt, role: bastion}
    addresses: [10.30.0.22]
    clients: [{to: web-1, service: ssh, every: 1s}]
  - name: printer
    kind: device
    labels: {app: office, env: office, role: printer}
    addresses: [10.40.0.60]
    services: [ipp]
  - name: desk
    kind: outside
    addresses: [10.40.0.5]
  - name: visitor
    kind: outside
    addresses: [203.0.113.80]
    clients: [{to: web-1, service: https, every: 300ms}]
"""
PRINTER = "name,addresses,kind,label:app,label:env,label:role\nprinter,10.40.0.60,device,office,office,printer\n"
"""The inventory file of the one device that has no agent."""
_LAB_LOG_GROUP = 4242
"""The agents listen to the group that rules log to; the lab's own telemetry must not."""
_VIEWS = Views(table=map_table, picture=draw_html, plan=plan_words, contained=contained_words)


@contextmanager
def shop(folder: Path, socket: Path) -> Iterator[Scene]:
    """Four hosts with agents that observe, and nobody talks yet."""
    world = with_controller(parse_world(SHOP))
    with Lab.up(world, flows_dir=folder / "flows", nflog_group=_LAB_LOG_GROUP) as lab:
        fleet = Fleet(lab, folder, Config(heartbeat_s=HEARTBEAT_S, flows_s=FLOWS_S), None)
        served = Served(lab, folder / "controller", socket)
        scene = Scene(Story(Console(file=io.StringIO()), folder), _VIEWS, fleet, served, Steady(fleet))
        try:
            starting.start_controller(scene)
            starting.join_hosts(scene)
            assert scene.story.code == 0, scene.story.claims
            yield scene
        finally:
            scene.steady.close()
            served.close()


@contextmanager
def browser_on(scene: Scene, host: str, folder: Path) -> Iterator[Browser]:
    """Chromium in the network of a host."""
    inside = folder / "chromium"
    net = namespaces.MOUNTS / scene.lab.namespace(host)
    inside.write_text(f'#!/bin/sh\nexec nsenter --net={shlex.quote(str(net))} {CHROMIUM} "$@"\n')
    inside.chmod(0o700)
    with sync_playwright() as playwright:
        browser = launch(playwright, executable=str(inside))
        try:
            yield browser
        finally:
            browser.close()


def unseen(scene: Scene) -> set[learning.Seen]:
    """Application paths that the controller's flow store does not have twice yet."""
    named = {host.name for host in scene.lab.world.hosts if host.kind != "outside"}
    world = scene.lab.world

    def seen(path_client: str, path_server: str, point: int) -> learning.Seen:
        client, server = (name if name in named else None for name in (path_client, path_server))
        return client, server, point

    wanted = set()
    for path in world.paths:
        service = world.by_name[path.server].service(path.service)
        assert service is not None
        wanted |= {seen(path.client, path.server, service.point(family)) for family in world.families(path)}
    return learning.missing(scene.flows(), frozenset(wanted))


def probe(scene: Scene, kind: Kind, source: str, destination: str, port: int) -> Prober:
    """Try it from one host to another, many times a second, until closed."""
    address = scene.lab.world.by_name[destination].addresses[0]
    return scene.fleet.probe(source, [Aim(kind, address, port, every_s=0.02, timeout_s=0.2)])
