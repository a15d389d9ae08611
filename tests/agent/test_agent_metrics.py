"""The agent's own figures reach Prometheus: over its socket, and as a file."""

from __future__ import annotations

import asyncio
import http.client
import socket
import stat
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from scripted import Controller, Host, Paper, body, until

from ringfence.agent import metrics
from ringfence.agent.control import Question, ask
from ringfence.agent.main import main


def parsed(text: str) -> dict[str, float]:
    """By name and labels, as Prometheus' own parser reads it."""
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return {f"{one.name}{sorted(one.labels.items())}": one.value for one in samples}


class Local(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("agent", timeout=20)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(20)
        self.sock.connect(str(self.path))


def fetched(path: Path, what: str) -> tuple[int, str]:
    connection = Local(path)
    connection.request("GET", what)
    answer = connection.getresponse()
    try:
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def test_figures_are_served_and_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One answer to the agent's own question, to HTTP on the same socket, on the command line and in the file; every
    label is of a closed set, so the number of series is fixed."""
    monkeypatch.setattr(metrics, "EVERY_S", 0.05)
    path = tmp_path / "ringfence.prom"

    async def test() -> None:
        controller = Controller()
        await controller.start()
        async with Host(controller, tmp_path, Paper(), metrics_file=path) as agent:
            await controller.say(controller.move(added=["10.0.0.1"]))
            made = controller.assign(body("tcp/80"))
            await controller.say(made)
            await until(lambda: agent.enforcer.realised.assignment == made.revision)
            answer = await asyncio.to_thread(ask, agent.config.socket, Question("metrics"))
            assert answer is not None
            asked = parsed(answer.metrics)
            assert asked["ringfence_agent_state[('state', 'realised')]"] == 1.0
            assert asked["ringfence_agent_assignment_revision[]"] == made.revision
            status, got = await asyncio.to_thread(fetched, agent.config.socket, "/metrics")
            assert status == 200
            assert parsed(got).keys() == asked.keys()
            assert (await asyncio.to_thread(fetched, agent.config.socket, "/"))[0] == 404
            await until(lambda: path.exists() and parsed(path.read_text()).get("ringfence_agent_policy_version[]"))
            assert parsed(path.read_text()).keys() == asked.keys()
            assert stat.S_IMODE(path.stat().st_mode) == 0o644
            assert [one.name for one in tmp_path.glob("*.prom")] == [path.name]
            assert await asyncio.to_thread(main, ["metrics", "--dir", str(tmp_path)]) == 0
        await controller.bus.close()

    asyncio.run(asyncio.wait_for(test(), 60))


def test_a_folder_that_refuses_stops_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no such folder yet: enforced all the same, and written as soon as there is."""
    monkeypatch.setattr(metrics, "EVERY_S", 0.02)
    path = tmp_path / "later" / "ringfence.prom"

    async def test() -> None:
        controller = Controller()
        await controller.start()
        async with Host(controller, tmp_path, Paper(), metrics_file=path):
            await until(lambda: controller.beats)
            path.parent.mkdir()
            await until(path.exists)
        assert "part-failed" not in controller.kinds()
        await controller.bus.close()

    asyncio.run(asyncio.wait_for(test(), 60))


def test_without_an_agent_there_are_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 3 and what to do."""
    assert main(["metrics", "--dir", str(tmp_path)]) == 3
    assert "agent-not-running" in capsys.readouterr().err


def test_the_reference_lists_every_figure(tmp_path: Path) -> None:
    """By name, kind and labels: what is served is what is documented, and nothing else is."""

    async def found() -> tuple[metrics.Metric, ...]:
        controller = Controller()
        async with Host(controller, tmp_path, Paper()) as agent:
            return metrics.metrics_of(agent.heartbeat())

    page = (Path(__file__).parents[2] / "docs" / "reference" / "agent-metrics.md").read_text()
    listed = [line for line in page.splitlines() if line.startswith("| `ringfence_agent_")]
    served = asyncio.run(found())
    assert [line.split("|")[1].strip(" `") for line in listed] == [one.name for one in served]
    for line, one in zip(listed, served, strict=True):
        _, _, kind, labels, what, _ = line.split("|")
        assert (kind.strip(), what.strip()) == (one.kind, one.help)
        assert {*labels.replace("`", "").replace(",", " ").split()} == {
            name for some, _ in one.samples for name in some
        }
