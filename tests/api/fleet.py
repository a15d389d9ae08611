"""A fleet of two hosts and the command line that somebody logged in with, for tests."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from serving import SHOP, Host, Serving, eventually, serving
from typer.testing import CliRunner, Result

from ringfence.cli.main import app
from ringfence.core.identity.workload import Mode
from ringfence.wire import api

AT_ONCE = api.How(trial_s=None)


class Fleet:
    """A controller with the hosts `web` (10.0.0.1) and `db` (10.0.0.2), in enforce, and an estate on disk."""

    def __init__(self, served: Serving, folder: Path) -> None:
        self.served, self.folder, self.client = served, folder, served.client()
        self.estate = folder / "estate"
        (self.estate / "policies").mkdir(parents=True)
        self.write(SHOP)
        self.hosts = {n: self._host(n, address) for n, address in (("web", "10.0.0.1"), ("db", "10.0.0.2"))}
        eventually(lambda: all(self.client.workload(name).addresses for name in self.hosts))

    def _host(self, name: str, address: str) -> Host:
        labels = {"app": "shop", "role": name}
        self.client.make_profile(api.NewProfile(name, labels, Mode.both("enforce")))
        host = Host(self.folder / "hosts" / name, self.served.run, address)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("socket.gethostname", lambda: name)
            host.join(self.client.invite(api.Invite(name)).token)
        host.connect()
        return host

    def write(self, text: str) -> None:
        (self.estate / "policies" / "shop.yaml").write_text(text)

    def publish(self, text: str = SHOP) -> None:
        base = next((one.number for one in self.client.versions(limit=1)), 0)
        self.client.apply(api.Apply(api.Draft({"shop.yaml": text}, base, note="a test"), AT_ONCE))
        eventually(lambda: self.client.rollout().stage == "done")

    def ring(self, *words: str, stdin: str = "") -> Result:
        """A command, by somebody who is logged in here."""
        return CliRunner().invoke(app, list(words), input=stdin, catch_exceptions=False)

    def json(self, *words: str, stdin: str = "") -> Any:
        return json.loads(self.ring(*words, "--json", stdin=stdin).stdout)

    def close(self) -> None:
        for host in self.hosts.values():
            host.close()
        self.client.close()


@contextmanager
def fleet_in(folder: Path) -> Iterator[Fleet]:
    with pytest.MonkeyPatch.context() as patch, serving(folder / "controller") as served:
        patch.setenv("XDG_CONFIG_HOME", str(folder / "config"))
        patch.setenv("COLUMNS", "200")
        for name in ("RINGFENCE_SERVER", "RINGFENCE_TOKEN", "RINGFENCE_CA"):
            patch.delenv(name, raising=False)
        made = Fleet(served, folder)
        patch.chdir(made.estate)
        url, fingerprint = served.controller.settings.url, served.controller.authority.fingerprints[0]
        done = made.ring("login", url, "--ca-fingerprint", fingerprint, "--token", "-", stdin=served.token)
        assert done.exit_code == 0, done.output
        try:
            yield made
        finally:
            made.close()
