"""An agent on a real kernel: packets are judged as the scripted controller said, whatever happens to the agent."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from nft_ground import Ground
from scripted import OTHER, UUID, WEB, Controller, Host, body, trial, until

from ringfence.agent.boot import guard
from ringfence.agent.clock import Clock
from ringfence.agent.held import breakglass
from ringfence.agent.held.disk import Disk
from ringfence.agent.point import How, NftablesPoint, nftables
from ringfence.core.intent.model import Cell, Intent, Part
from ringfence.core.intent.pieces import Body, ClassPlan, Isolation
from ringfence.core.net.address import parse_address
from ringfence.core.net.service import parse_service
from ringfence.ports.target import Observed
from ringfence.targets.nftables.cgroups import hierarchy
from ringfence.wire.messages import Probe

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="needs root on Linux"),
]
CLIENT, HOST = parse_address("10.1.0.1"), parse_address("172.20.0.2")
PORT, OTHER_PORT = 8080, 8081


@pytest.fixture
def ground() -> Iterator[Ground]:
    with Ground() as made:
        yield made


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(test, 90))


class Listener:
    """A server on the host, and whether a client of the peer gets through to it."""

    def __init__(self, ground: Ground, port: int) -> None:
        self._ground, self._port = ground, port
        self._listening = ground.socket_in(ground.host, socket.AF_INET, socket.SOCK_STREAM)
        self._listening.bind(("0.0.0.0", port))
        self._listening.listen(1024)  # nobody accepts: each that came through stays in the queue

    def answers(self, source: str = "10.1.0.1") -> bool:
        with self._ground.socket_in(self._ground.peer, socket.AF_INET, socket.SOCK_STREAM) as calling:
            calling.settimeout(0.3)
            calling.bind((source, 0))
            try:
                calling.connect(("172.20.0.2", self._port))
            except OSError:
                return False
        return True

    def close(self) -> None:
        self._listening.close()


@pytest.fixture
def servers(ground: Ground) -> Iterator[dict[int, Listener]]:
    made = {port: Listener(ground, port) for port in (PORT, OTHER_PORT)}
    yield made
    for listener in made.values():
        listener.close()


async def became(listener: Listener, answers: bool, source: str = "10.1.0.1") -> None:
    deadline = time.monotonic() + 30
    while await asyncio.to_thread(listener.answers, source) is not answers:
        assert time.monotonic() < deadline, f"it did not come to {'answer' if answers else 'be silent'}"


async def settle(controller: Controller, *services: str) -> None:
    """The client is a member; it may come in on these services."""
    await controller.say(controller.move(added=["10.1.0.1"]))
    made = controller.assign(body(*services))
    await controller.say(made)
    await until(lambda: controller.realised and controller.realised[-1].assignment == made.revision)
    assert controller.realised[-1].state == "realised", controller.realised[-1]


def test_packets_are_judged_as_the_controller_said(
    ground: Ground, servers: dict[int, Listener], tmp_path: Path
) -> None:
    """A member that joins gets through at once, one that leaves does not, and a quarantine bites."""

    async def test() -> None:
        controller = Controller()
        await controller.start()
        async with Host(controller, tmp_path, nftables(ground.host), netns=ground.host):
            await settle(controller, f"tcp/{PORT}")
            await became(servers[PORT], True)
            await became(servers[OTHER_PORT], False)
            assert not await asyncio.to_thread(servers[PORT].answers, "10.1.0.2")
            await controller.say(controller.move(added=["10.1.0.2"]))
            await became(servers[PORT], True, "10.1.0.2")
            await controller.say(controller.move(removed=["10.1.0.2"]))
            await became(servers[PORT], False, "10.1.0.2")
            await controller.say(controller.isolate(Isolation(OTHER, (CLIENT,))))
            await became(servers[PORT], False)
            await controller.say(controller.isolate())
            await became(servers[PORT], True)
        await controller.bus.close()

    run(test())


def test_what_somebody_changes_is_put_right(ground: Ground, servers: dict[int, Listener], tmp_path: Path) -> None:
    """On a kernel whose tables have no owner, a rule that opens everything and a flush of the whole rule set are undone
    by themselves, and told with what was changed and by what program."""

    async def test() -> None:
        controller = Controller()
        await controller.start()
        async with Host(controller, tmp_path, NftablesPoint(ground.host), netns=ground.host):
            await settle(controller, f"tcp/{PORT}")
            await asyncio.to_thread(ground.nft, "insert rule inet ringfence input accept")
            await until(lambda: "tampered" in controller.kinds())
            told = next(event for event in controller.events if event.kind == "tampered").details
            assert any("nft (pid " in words and "rule added to input" in words for words in told)
            await became(servers[OTHER_PORT], False)
            await asyncio.to_thread(ground.nft, "flush ruleset")
            await until(lambda: controller.kinds().count("tampered") == 2)
            await became(servers[OTHER_PORT], False)
            await became(servers[PORT], True)
        await controller.bus.close()

    run(test())


def test_nobody_else_can_change_the_rules(ground: Ground, servers: dict[int, Listener], tmp_path: Path) -> None:
    """While an agent runs the kernel refuses everybody else's hand, and a flush of the whole rule set passes by."""

    async def test() -> None:
        controller = Controller()
        await controller.start()
        point = nftables(ground.host)
        async with Host(controller, tmp_path, point, netns=ground.host):
            await settle(controller, f"tcp/{PORT}")
            with pytest.raises(subprocess.CalledProcessError):
                await asyncio.to_thread(ground.nft, "insert rule inet ringfence input accept")
            await asyncio.to_thread(ground.nft, "flush ruleset")
            assert not await asyncio.to_thread(servers[OTHER_PORT].answers)
            assert "tampered" not in controller.kinds()
        await controller.bus.close()

    run(test())


def test_a_policy_that_fails_its_probe_reverts(ground: Ground, servers: dict[int, Listener], tmp_path: Path) -> None:
    """The new policy cuts a declared probe: after its time the old one decides again, without being asked."""

    async def test() -> None:
        controller = Controller()
        await controller.start()
        async with Host(controller, tmp_path, nftables(ground.host), netns=ground.host):
            await settle(controller, f"tcp/{PORT}")
            await controller.say(
                controller.assign(body(f"tcp/{OTHER_PORT}", out=""), trial=trial(2, Probe("172.20.0.1", 9)))
            )
            await became(servers[OTHER_PORT], True)
            await became(servers[PORT], False)
            await became(servers[PORT], True)
            await until(lambda: controller.realised[-1].is_reverted)
            assert controller.realised[-1].assignment == 12
        await controller.bus.close()

    run(test())


def test_a_policy_that_works_stays(ground: Ground, servers: dict[int, Listener], tmp_path: Path) -> None:
    """The controller answers through the new policy and its probe does: it is confirmed, and outlives its trial."""

    async def test() -> None:
        controller = Controller()
        await controller.start()
        async with Host(controller, tmp_path, nftables(ground.host), netns=ground.host):
            await settle(controller, f"tcp/{PORT}")
            made = controller.assign(body(f"tcp/{OTHER_PORT}"), trial=trial(2))
            await controller.say(made)
            await until(
                lambda: controller.realised[-1].assignment == made.revision and not controller.realised[-1].on_trial
            )
            await asyncio.sleep(2.5)
            await became(servers[OTHER_PORT], True)
            assert not controller.realised[-1].is_reverted
        await controller.bus.close()

    run(test())


def test_the_rules_outlive_the_agent_and_are_adopted(
    ground: Ground, servers: dict[int, Listener], tmp_path: Path
) -> None:
    """Without an agent the packets are judged as before; the next one takes the rules over without touching them."""

    async def test() -> None:
        controller = Controller()
        await controller.start()
        async with Host(controller, tmp_path, nftables(ground.host), netns=ground.host):
            await settle(controller, f"tcp/{PORT}")
        assert await asyncio.to_thread(servers[PORT].answers)
        assert not await asyncio.to_thread(servers[OTHER_PORT].answers)
        before = nftables(ground.host).observe()
        async with Host(controller, tmp_path, nftables(ground.host), netns=ground.host) as agent:
            await until(lambda: agent.enforcer.realised.state == "realised")
        assert nftables(ground.host).observe().digest == before.digest
        await controller.bus.close()

    run(test())


def test_the_boot_guard_enforces_from_the_disk(ground: Ground, servers: dict[int, Listener], tmp_path: Path) -> None:
    """After a reboot, which leaves no table, the policy is there again before any agent is."""

    async def test() -> None:
        controller = Controller()
        await controller.start()
        async with Host(controller, tmp_path, nftables(ground.host), netns=ground.host):
            await settle(controller, f"tcp/{PORT}")
        nftables(ground.host).remove()
        assert await asyncio.to_thread(servers[OTHER_PORT].answers)
        found = guard(Disk(tmp_path), nftables(ground.host), Clock())
        assert found.state == "realised"
        assert await asyncio.to_thread(servers[PORT].answers)
        assert not await asyncio.to_thread(servers[OTHER_PORT].answers)
        await controller.bus.close()

    run(test())


def test_break_glass_observes_and_quarantine_still_bites(
    ground: Ground, servers: dict[int, Listener], tmp_path: Path
) -> None:
    """Disabled, everything passes but what is quarantined; it is told, and it ends by itself."""

    async def test() -> None:
        controller = Controller()
        await controller.start()
        async with Host(controller, tmp_path, nftables(ground.host), netns=ground.host) as agent:
            await settle(controller, f"tcp/{PORT}")
            breakglass.disable(tmp_path, Clock(), for_s=4, why="orders stand still")
            agent.reload()
            await became(servers[OTHER_PORT], True)
            await controller.say(controller.isolate(Isolation(OTHER, (CLIENT,))))
            await became(servers[OTHER_PORT], False)
            await controller.say(controller.isolate())
            await until(lambda: "enabled" in controller.kinds())
            await became(servers[OTHER_PORT], False)
            await became(servers[PORT], True)
            assert next(e for e in controller.events if e.kind == "disabled").message == "orders stand still"
        await controller.bus.close()

    run(test())


def test_what_is_changed_while_no_agent_runs_is_told(
    ground: Ground, servers: dict[int, Listener], tmp_path: Path
) -> None:
    """Between two agents somebody adds a rule, or drops the table: the next one tells it in words and puts
    it right. A restart that nobody used for anything accuses nobody."""

    async def test() -> None:
        controller = Controller()
        await controller.start()
        async with Host(controller, tmp_path, nftables(ground.host), netns=ground.host):
            await settle(controller, f"tcp/{PORT}")
        async with Host(controller, tmp_path, nftables(ground.host), netns=ground.host) as agent:
            await until(lambda: agent.enforcer.realised.state == "realised")
        assert "tampered" not in controller.kinds()
        ground.nft("insert rule inet ringfence input accept")
        async with Host(controller, tmp_path, nftables(ground.host), netns=ground.host):
            await until(lambda: "tampered" in controller.kinds())
            await until(lambda: NftablesPoint(ground.host).observe().state == "realised")
        ground.nft("delete table inet ringfence")
        async with Host(controller, tmp_path, nftables(ground.host), netns=ground.host):
            await became(servers[OTHER_PORT], False)
            await until(lambda: controller.kinds().count("tampered") == 2)
        told = [event for event in controller.events if event.kind == "tampered"]
        assert all("while no agent ran" in event.message and event.details for event in told)
        assert told[1].details == ("the table is gone",)
        await controller.bus.close()

    run(test())


_REVOKED = """
import asyncio, sys
from pathlib import Path
from scripted import OTHER, Controller, Host, body, until
from ringfence.agent.point import nftables
from ringfence.core.intent.pieces import Isolation
from ringfence.core.net.address import parse_address

async def main(netns, folder, how):
    controller = Controller()
    await controller.start()
    async with Host(controller, Path(folder), nftables(netns), netns=netns) as agent:
        await controller.say(controller.move(added=["10.1.0.1", "10.1.0.2"]))
        await controller.say(controller.assign(body("tcp/8080", "tcp/8081")))
        await until(lambda: controller.realised and controller.realised[-1].assignment == 12)
        changes = {
            "member": lambda: controller.move(removed=["10.1.0.1"]),
            "quarantine": lambda: controller.isolate(Isolation(OTHER, (parse_address("10.1.0.1"),))),
            "policy": lambda: controller.assign(body("tcp/8081")),
        }
        last = changes[how]()
        await controller.say(last)
        told = lambda one: last.revision in (one.change, one.isolations, one.assignment)
        await until(lambda: told(controller.realised[-1]))
        print("told", flush=True)
        await asyncio.Future()

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.mark.parametrize("how", ["member", "quarantine", "policy"])
def test_what_was_taken_away_stays_so_after_a_crash_at_once(
    ground: Ground, servers: dict[int, Listener], tmp_path: Path, how: str
) -> None:
    """Killed in the moment in which it told of a revocation, and the host rebooted: the boot guard does not give back
    what was taken."""
    path = os.pathsep.join(sys.path)
    with subprocess.Popen(
        [sys.executable, "-c", _REVOKED, ground.host, str(tmp_path), how], stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": path},
    ) as child:  # fmt: skip
        assert child.stdout is not None
        said = child.stdout.readline()
        child.kill()
    assert said == b"told\n"
    nftables(ground.host).remove()
    assert servers[PORT].answers()
    assert guard(Disk(tmp_path), nftables(ground.host), Clock()).state == "realised"
    assert not servers[PORT].answers()
    assert servers[OTHER_PORT].answers("10.1.0.2")


_AGENT = """
import asyncio, sys
from pathlib import Path
from scripted import Controller, Host, body, trial, until
from ringfence.agent.point import nftables
from ringfence.wire.messages import Probe

async def main(netns, folder, seconds):
    controller = Controller()
    await controller.start()
    async with Host(controller, Path(folder), nftables(netns), netns=netns) as agent:
        await controller.say(controller.move(added=["10.1.0.1"]))
        await controller.say(controller.assign(body("tcp/8080")))
        await until(lambda: controller.realised and controller.realised[-1].assignment == 12)
        failing = trial(int(seconds), Probe("172.20.0.1", 9))
        await controller.say(controller.assign(body("tcp/8081"), trial=failing))
        await until(lambda: controller.realised[-1].on_trial)
        await asyncio.sleep(0.3)
        print("on trial", flush=True)
        await asyncio.Future()

asyncio.run(main(*sys.argv[1:]))
"""


@contextmanager
def agent_on_trial(ground: Ground, folder: Path, seconds: int) -> Iterator[subprocess.Popen[bytes]]:
    """A whole agent in a process of its own, in the middle of a trial that nothing will confirm."""
    path = os.pathsep.join(sys.path)
    child = subprocess.Popen(
        [sys.executable, "-c", _AGENT, ground.host, str(folder), str(seconds)], stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": path},
    )  # fmt: skip
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == b"on trial\n"
        yield child
    finally:
        child.kill()
        child.communicate()


@pytest.mark.parametrize("fate", [signal.SIGSTOP, signal.SIGKILL])
def test_a_trial_ends_without_the_agent(
    ground: Ground, servers: dict[int, Listener], tmp_path: Path, fate: signal.Signals
) -> None:
    """Frozen or killed in the middle of a trial: the kernel itself goes back to the policy before."""
    with agent_on_trial(ground, tmp_path, 4) as child:
        child.send_signal(fate)
        asyncio.run(became(servers[PORT], True))
        assert not servers[OTHER_PORT].answers()


def test_what_the_kernel_took_back_is_not_tried_again(
    ground: Ground, servers: dict[int, Listener], tmp_path: Path
) -> None:
    """An agent that was killed in a trial, and comes back after its end, tells that it was reverted, and leaves it."""
    with agent_on_trial(ground, tmp_path, 3) as child:
        child.kill()
        asyncio.run(became(servers[PORT], True))

    async def test() -> None:
        controller = Controller()
        await controller.start()
        async with Host(controller, tmp_path, nftables(ground.host), netns=ground.host):
            await until(lambda: "trial-reverted" in controller.kinds())
            await until(lambda: controller.realised and controller.realised[-1].is_reverted)
            assert not any(told.on_trial for told in controller.realised)
            assert await asyncio.to_thread(servers[PORT].answers)
            assert not await asyncio.to_thread(servers[OTHER_PORT].answers)
        await controller.bus.close()

    run(test())


def test_a_restart_in_a_trial_has_the_time_that_is_left(
    ground: Ground, servers: dict[int, Listener], tmp_path: Path
) -> None:
    """An agent that was killed in a trial goes on with it: it neither begins anew nor ends early."""
    with agent_on_trial(ground, tmp_path, 60) as child:
        before = nftables(ground.host).observe()
        child.kill()
        child.wait()

    async def test() -> None:
        controller = Controller()
        await controller.start()
        controller.answers = False
        async with Host(controller, tmp_path, nftables(ground.host), netns=ground.host) as agent:
            await until(lambda: agent.enforcer.realised.on_trial)
            assert agent.enforcer.trial_left_s <= before.trial_left_s
            assert await asyncio.to_thread(servers[OTHER_PORT].answers)
            controller.answers = True
        await controller.bus.close()

    run(test())


def test_a_host_under_quarantine_is_one_word_from_free(
    ground: Ground, servers: dict[int, Listener], tmp_path: Path
) -> None:
    """The way to the controller is essential: quarantine of the host itself does not close it."""

    async def test() -> None:
        controller = Controller()
        await controller.start()
        point = nftables(ground.host)
        async with Host(controller, tmp_path, point, netns=ground.host) as agent:
            agent.footing.channel = (*agent.footing.channel, *_way("172.20.0.1", PORT))
            await settle(controller, f"tcp/{PORT}")
            await controller.say(controller.isolate(Isolation(UUID, (HOST,))))
            await became(servers[PORT], False)
            with ground.socket_in(ground.peer, socket.AF_INET, socket.SOCK_STREAM) as listening:
                listening.bind(("172.20.0.1", PORT))
                listening.listen(1)
                with ground.socket_in(ground.host, socket.AF_INET, socket.SOCK_STREAM) as calling:
                    await asyncio.to_thread(calling.connect, ("172.20.0.1", PORT))
        await controller.bus.close()

    run(test())


def _way(address: str, port: int) -> tuple[Any, ...]:
    from ringfence.agent.held.wanted import passages_to

    return passages_to([(parse_address(address), port)])


def test_uninstall_leaves_what_the_word_says(ground: Ground, servers: dict[int, Listener], tmp_path: Path) -> None:
    """Enforced: as it was. Closed: nothing comes in. Open: no table of ours."""
    from ringfence.agent.uninstall import rules

    async def test() -> None:
        controller = Controller()
        await controller.start()
        async with Host(controller, tmp_path, nftables(ground.host), netns=ground.host):
            await settle(controller, f"tcp/{PORT}")
        await controller.bus.close()

    run(test())
    point, disk = nftables(ground.host), Disk(tmp_path)
    rules(disk, point, "enforced")
    assert servers[PORT].answers()
    rules(disk, point, "closed")
    assert not servers[PORT].answers()
    rules(disk, point, "open")
    assert servers[OTHER_PORT].answers()
    assert point.observe().state == "absent"


def test_members_and_quarantines_move_without_a_new_policy(
    ground: Ground, servers: dict[int, Listener], tmp_path: Path
) -> None:
    """They are elements in the kernel: no whole intent is applied, and what is told is the digest of the whole one."""
    point = Counting(ground.host)

    async def test() -> None:
        controller = Controller()
        await controller.start()
        async with Host(controller, tmp_path, point, netns=ground.host) as agent:
            await settle(controller, f"tcp/{PORT}")
            await until(lambda: agent.footing.channel == () and point.converged)
            count = point.converged
            for news in (
                lambda: controller.move(added=["10.1.0.2", "fd00::7"]),
                lambda: controller.move(removed=["10.1.0.1"]),
                lambda: controller.isolate(Isolation(OTHER, (parse_address("10.1.0.2"),))),
                lambda: controller.isolate(),
            ):
                message = news()
                await controller.say(message)
                await until(partial(_is_told, controller, message.revision))
                meant = agent.held.intent(agent.clock.now())
                assert meant is not None
                assert controller.realised[-1].digest == meant.digest
                assert NftablesPoint(ground.host).audit(meant) == ()
            assert point.converged == count
            await became(servers[PORT], True, "10.1.0.2")
            await became(servers[PORT], False)
        await controller.bus.close()

    run(test())


def _is_told(controller: Controller, revision: int) -> bool:
    return revision in (controller.realised[-1].change, controller.realised[-1].isolations)


class Counting(NftablesPoint):
    """The kernel, and how often a whole intent was applied."""

    converged = 0

    def converge(self, intent: Intent, how: How) -> Observed:
        self.converged += 1
        return super().converge(intent, how)


def test_a_connection_that_is_cut_ends_for_the_program(ground: Ground, tmp_path: Path) -> None:
    """A program that only listens learns at once that its connection is refused by now."""

    async def test() -> None:
        controller = Controller()
        await controller.start()
        async with Host(controller, tmp_path, nftables(ground.host), netns=ground.host):
            await settle(controller, f"tcp/{PORT}")
            with (
                ground.socket_in(ground.host, socket.AF_INET, socket.SOCK_STREAM) as listening,
                ground.socket_in(ground.peer, socket.AF_INET, socket.SOCK_STREAM) as calling,
            ):
                listening.bind(("172.20.0.2", PORT))
                listening.listen(1)
                calling.bind(("10.1.0.1", 0))
                await asyncio.to_thread(calling.connect, ("172.20.0.2", PORT))
                accepted, _ = await asyncio.to_thread(listening.accept)
                accepted.settimeout(15)
                await controller.say(controller.move(removed=["10.1.0.1"]))
                with pytest.raises(ConnectionAbortedError):
                    await asyncio.to_thread(accepted.recv, 1)
                accepted.close()
        await controller.bus.close()

    run(test())


def test_an_address_that_comes_to_the_host_is_told_at_once(ground: Ground, tmp_path: Path) -> None:
    """The next heartbeat would be in an hour: the news of an address does not wait for it."""

    async def test() -> None:
        controller = Controller()
        await controller.start()
        point = nftables(ground.host)
        async with Host(controller, tmp_path, point, netns=ground.host, heartbeat_s=3600):
            await until(lambda: controller.beats)
            await asyncio.to_thread(ground.run, ground.host, "ip addr add 172.20.0.77/24 dev v")
            await until(
                lambda: any(parse_address("172.20.0.77") in i.addresses for i in controller.beats[-1].interfaces)
            )
        await controller.bus.close()

    run(test())


def test_a_restarted_unit_is_followed(ground: Ground, servers: dict[int, Listener], tmp_path: Path) -> None:
    """A rule about a process matches the control group of now, though systemd made it anew."""
    root = hierarchy()
    if root is None:
        pytest.skip("no cgroup v2 here")
    group = root / f"{ground.prefix}.service"
    group.mkdir()
    allowed = Cell(1, parse_service("any"), "allow", "shop/unit")
    made = Body((ClassPlan(1, WEB, (WEB,)),), (Part("in"), Part("out", (allowed,), unit=group.name), Part("out")))

    async def reaches() -> bool:
        return await asyncio.to_thread(_call_from, group, ground)

    async def test() -> None:
        controller = Controller()
        await controller.start()
        with ground.socket_in(ground.peer, socket.AF_INET, socket.SOCK_STREAM) as listening:
            listening.bind(("10.1.0.1", PORT))
            listening.listen(64)
            async with Host(controller, tmp_path, nftables(ground.host), netns=ground.host) as agent:
                await controller.say(controller.move(added=["10.1.0.1"]))
                await controller.say(controller.assign(made))
                await until(lambda: agent.enforcer.realised.state == "realised")
                assert await reaches()
                number = group.stat().st_ino
                group.rmdir()
                group.mkdir()
                assert group.stat().st_ino != number
                deadline = time.monotonic() + 30
                while not await reaches():
                    assert time.monotonic() < deadline, "the unit is not followed"
        await controller.bus.close()

    try:
        run(test())
    finally:
        group.rmdir()


_CALL = """
import socket, sys
calling = socket.socket()
calling.settimeout(0.5)
sys.exit(calling.connect_ex(("10.1.0.1", 8080)) != 0)
"""


def _call_from(group: Path, ground: Ground) -> bool:
    """Whether a program in the control group gets through to the client."""
    joining = f'echo $$ > {group}/cgroup.procs && exec "$@"'
    command = ["ip", "netns", "exec", ground.host, sys.executable, "-c", _CALL]
    return subprocess.run(["sh", "-c", joining, "sh", *command], check=False, timeout=30).returncode == 0
