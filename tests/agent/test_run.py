"""An agent and a scripted controller: what is said is enforced, and what is enforced is told."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
from nacl.signing import SigningKey
from scripted import OTHER, OWN, UUID, Controller, Host, Paper, body, trial, until

from ringfence.agent.run import Agent
from ringfence.core.intent.pieces import Isolation
from ringfence.core.net.address import parse_address
from ringfence.wire.messages import Order, Pieces, Probe, Upcoming


@asynccontextmanager
async def estate(
    folder: Path, point: Paper | None = None, **options: Any
) -> AsyncIterator[tuple[Controller, Agent, Paper]]:
    controller, point = Controller(), point or Paper()
    await controller.start()
    try:
        async with Host(controller, folder, point, **options) as agent:
            yield controller, agent, point
    finally:
        await controller.bus.close()


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(test, 60))


async def settle(controller: Controller, *services: str) -> int:
    """A member and a policy, realised; its revision."""
    await controller.say(controller.move(added=["10.0.0.1"]))
    revision = controller.assign(body(*services or ("tcp/80",))).revision
    assert controller.assignment is not None
    await controller.say(controller.assignment)
    await until(lambda: is_realised(controller, revision))
    return revision


def is_realised(controller: Controller, revision: int) -> bool:
    return bool(controller.realised) and (
        controller.realised[-1].state == "realised"
        and controller.realised[-1].assignment == revision
        and not controller.realised[-1].on_trial
    )


def test_what_is_assigned_is_realised_and_told(tmp_path: Path) -> None:
    """A notice, a fetch of what it names, rules, and a report with the digest of exactly what the controller meant."""

    async def test() -> None:
        async with estate(tmp_path) as (controller, agent, point):
            controller.move(added=["10.0.0.1"])
            await controller.say(controller.assign(body("tcp/80")))
            assert controller.assignment
            await until(lambda: is_realised(controller, controller.assignment.revision))  # type: ignore[union-attr]
            assert point.intent is not None
            assert parse_address("10.0.0.1") in point.intent.peers[0].addresses
            meant = agent.held.intent(agent.clock.now())
            assert meant is not None
            assert controller.realised[-1].digest == meant.digest

    run(test())


def test_an_address_that_joins_is_enforced_without_asking(tmp_path: Path) -> None:
    """Membership travels as one message: nothing is fetched for it."""

    async def test() -> None:
        async with estate(tmp_path) as (controller, _, point):
            await settle(controller)
            asked = len(controller.fetches)
            change = controller.move(added=["10.0.0.7"])
            await controller.say(change)
            await until(lambda: controller.realised[-1].change == change.revision)
            assert point.intent is not None
            assert parse_address("10.0.0.7") in point.intent.peers[0].addresses
            assert len(controller.fetches) == asked

    run(test())


def test_what_was_missed_is_found_by_the_heartbeat(tmp_path: Path) -> None:
    """A change nobody delivered is noticed by the next heartbeat and fetched."""

    async def test() -> None:
        async with estate(tmp_path) as (controller, _, point):
            await settle(controller)
            controller.move(added=["10.0.0.8"])
            missed = parse_address("10.0.0.8")
            await until(lambda: point.intent and missed in point.intent.peers[0].addresses)

    run(test())


def test_a_quarantine_does_not_wait_for_the_policy_beside_it(tmp_path: Path) -> None:
    """News of both at once: the kernel isolates under the policy it has before it gets the new one."""

    async def test() -> None:
        async with estate(tmp_path) as (controller, agent, point):
            await settle(controller)
            before, count = point.intent, len(point.applied)
            assert before is not None
            made = body("tcp/81")
            assignment = controller.assign(made)
            bad = parse_address("10.0.0.66")
            agent.held._bodies[made.digest] = made
            agent.held.take(controller.isolate(Isolation(OTHER, (bad,))))
            agent.held.take(assignment)
            agent.enforcer.news()
            await until(lambda: is_realised(controller, 13))
            first, second = point.isolations[-1], point.applied[count][0]
            assert first.isolated == second.isolated == (bad,)
            assert first.parts == before.parts
            assert second.parts != before.parts

    run(test())


def test_a_policy_that_proves_itself_is_confirmed(tmp_path: Path) -> None:
    """On trial until controller and probes answer through the new rules; then it is what the next one falls back to."""

    async def test() -> None:
        async with estate(tmp_path) as (controller, agent, point):
            with socket.create_server(("127.0.0.1", 0)) as server:
                probe = Probe("127.0.0.1", server.getsockname()[1])
            await controller.say(controller.assign(body("tcp/80"), trial=trial(60, probe)))
            await until(lambda: any(told.on_trial for told in controller.realised))
            with socket.create_server(("127.0.0.1", probe.port)):
                await until(lambda: is_realised(controller, 11))
            assert point.confirmed == 1
            assert agent.held.confirmed is agent.held.assignment
            assert any(how.trial_s and how.fallback is not None for _, how in point.applied)

    run(test())


def test_a_policy_that_cuts_the_controller_off_is_taken_back(tmp_path: Path) -> None:
    """Nobody answers while it is on trial: the policy before it decides again, truthfully told, and it stays so."""

    async def test() -> None:
        async with estate(tmp_path) as (controller, agent, point):
            await settle(controller)
            good = point.intent
            controller.answers = False
            made = controller.assign(body("tcp/81"), trial=trial(1))
            agent.held._bodies[made.station.body] = body("tcp/81")
            await controller.say(made)
            await until(lambda: agent.footing.rejected == made.revision and point.intent == good)
            controller.answers = True
            await until(lambda: controller.realised[-1].is_reverted)
            assert controller.realised[-1].assignment == 12
            await until(lambda: "trial-reverted" in controller.kinds())
        again = Paper()
        async with Host(controller, tmp_path, again) as agent:
            await until(lambda: again.intent == good)
            await until(lambda: agent.enforcer.realised.is_reverted)

    run(test())


def test_a_probe_that_fails_takes_the_policy_back(tmp_path: Path) -> None:
    """A declared probe that nothing answers is as bad as a lost controller, and the event names it."""

    async def test() -> None:
        async with estate(tmp_path) as (controller, _, point):
            await settle(controller)
            good = point.intent
            await controller.say(controller.assign(body("tcp/81"), trial=trial(1, Probe("127.0.0.1", 1))))
            await until(lambda: "trial-reverted" in controller.kinds())
            await until(lambda: point.intent == good)
            event = next(event for event in controller.events if event.kind == "trial-reverted")
            assert "127.0.0.1 tcp/1" in event.details[0]
            assert controller.assignment is not None
            await until(lambda: controller.realised[-1].rejected == controller.assignment.revision)  # type: ignore[union-attr]
            assert controller.realised[-1].is_reverted
            assert "127.0.0.1 tcp/1" in controller.realised[-1].problems[0]
            await controller.say(controller.assign(body("tcp/82")))
            await until(lambda: controller.realised[-1].assignment == controller.assignment.revision)  # type: ignore[union-attr]
            told = controller.realised[-1]
            assert (told.is_reverted, told.rejected, told.problems) == (False, 0, ())

    run(test())


def test_a_policy_no_host_can_express_leaves_the_one_before(tmp_path: Path) -> None:
    """Refused as a whole, with its codes; members and quarantines go on being followed under the old policy."""

    async def test() -> None:
        async with estate(tmp_path) as (controller, _, point):
            await settle(controller)
            old = point.intent
            assert old is not None
            point.refusing = lambda intent: any("tcp/81" in cell.rule for part in intent.parts for cell in part.cells)
            await controller.say(controller.assign(body("tcp/81")))
            await until(lambda: controller.realised[-1].state == "refused" and controller.realised[-1].assignment == 12)
            assert "unsupported-condition" in controller.realised[-1].problems[0]
            await controller.say(controller.move(added=["10.0.0.9"]))
            await controller.say(controller.isolate(Isolation(UUID, OWN)))
            await until(lambda: point.intent and point.intent.is_quarantined)
            assert point.intent is not None
            assert point.intent.parts == old.parts
            await until(lambda: point.intent and len(point.intent.peers[0].addresses) == 2)
            assert controller.realised[-1].state == "refused"

    run(test())


def test_a_kernel_that_says_no_is_asked_again(tmp_path: Path) -> None:
    """The old rules stay in force meanwhile, and that is what is told."""

    async def test() -> None:
        async with estate(tmp_path) as (controller, _, point):
            point.failing = 1
            await settle(controller)
            assert any(told.state == "pending" and "kernel-refused" in told.problems[0] for told in controller.realised)
            await until(lambda: "not-applied" in controller.kinds())

    run(test())


def test_tampering_is_put_right_and_told_in_words(tmp_path: Path) -> None:
    """Rules somebody changed are those of the intent again, and an event says what was changed."""

    async def test() -> None:
        async with estate(tmp_path) as (controller, _, point):
            await settle(controller)
            point.tamper()
            await until(lambda: point.state == "realised")
            await until(lambda: "tampered" in controller.kinds())
            event = next(event for event in controller.events if event.kind == "tampered")
            assert event.details == ("nft (pid 7): rule added to input",)

    run(test())


def test_a_cloned_identity_is_told_and_goes_on_hearing(tmp_path: Path) -> None:
    """What the controller signs binds a host that has a double: permissions go, quarantines come, and people know."""

    async def test() -> None:
        async with estate(tmp_path) as (controller, agent, point):
            await settle(controller)
            controller.is_cloned = True
            await until(lambda: agent.enforcer.is_cloned)
            await controller.say(controller.assign(body("tcp/81")))
            await until(lambda: is_realised(controller, controller.assignment.revision))
            assert point.intent is not None
            assert all("tcp/80" not in cell.rule for part in point.intent.parts for cell in part.cells)
            await controller.say(controller.isolate(Isolation(UUID, OWN)))
            await until(lambda: point.intent and point.intent.is_quarantined)
            await until(lambda: "identity-cloned" in controller.kinds())
            controller.is_cloned = False
            await until(lambda: not agent.enforcer.is_cloned)

    run(test())


def test_only_what_was_tried_is_confirmed(tmp_path: Path) -> None:
    """A policy heard while the one before is being confirmed has proven nothing: it gets a trial of its own."""

    async def test() -> None:
        async with estate(tmp_path) as (controller, agent, point):
            await settle(controller)
            tried = controller.assign(body("tcp/81"), trial=trial(60))
            newer = controller.assign(body("tcp/82"), trial=trial(60, Probe("127.0.0.1", 1)))
            controller.assignment = tried
            confirm = point.confirm

            def confirm_late() -> None:
                point.confirm = confirm  # type: ignore[method-assign]
                agent.held.take(newer)
                fetched = Pieces(bodies=tuple(controller.bodies.values()), workload=UUID)
                agent.held.take(fetched)
                assert agent.held.assignment is newer
                confirm()

            point.confirm = confirm_late  # type: ignore[method-assign]
            await controller.say(tried)
            await until(lambda: agent.held.confirmed is not None and agent.held.confirmed.revision == tried.revision)
            agent.enforcer.news()
            await until(lambda: agent.enforcer.trial_left_s > 0)
            assert agent.held.confirmed is not None
            assert agent.held.confirmed.revision == tried.revision
            assert agent.held.fallback(agent.clock.now()) is not None

    run(test())


def test_a_message_nobody_trusted_signed_changes_nothing(tmp_path: Path) -> None:
    """It is told with its code, once, and what is held stays."""

    async def test() -> None:
        async with estate(tmp_path) as (controller, _, point):
            await settle(controller)
            real = controller.assignment
            for _ in range(3):
                await controller.say(controller.assign(body("any")), key=SigningKey.generate())
                controller.assignment = real
            await until(lambda: "message-forged" in controller.kinds())
            await asyncio.sleep(0.3)
            assert controller.kinds().count("message-forged") == 1
            assert point.intent is not None
            assert point.intent.revision == 12

    run(test())


def test_losing_the_controller_changes_no_rule(tmp_path: Path) -> None:
    """Policy stays, events wait on the disk, and both arrive when the bus is back."""

    async def test() -> None:
        async with estate(tmp_path) as (controller, _, point):
            await settle(controller)
            before = point.intent
            controller.broker.stop()
            point.tamper()
            await until(lambda: point.state == "realised")
            assert point.intent == before
            controller.broker.start()
            await until(lambda: "tampered" in controller.kinds())

    run(test())


def test_a_restarted_agent_enforces_what_it_was_told_before_anybody_speaks(tmp_path: Path) -> None:
    """From the disk alone, with no controller in sight."""

    async def test() -> None:
        async with estate(tmp_path) as (controller, _, point):
            await settle(controller)
            before = point.intent
        controller.broker.stop()
        again = Paper()
        async with Host(controller, tmp_path, again) as agent:
            await until(lambda: again.intent == before)
            await until(lambda: agent.enforcer.realised.assignment == 12)

    run(test())


def test_an_order_is_carried_out_once_and_not_too_late(tmp_path: Path) -> None:
    """An order said twice, past its time, for somebody else, without an end or good for long: one of them is done."""

    async def test() -> None:
        async with estate(tmp_path) as (controller, agent, _):
            await until(lambda: controller.beats)
            done: list[str] = []

            async def carry(order: Order) -> None:
                done.append(order.id)

            agent.link._order = carry
            soon = time.time() + 60
            first = Order("a", "evidence", until=soon, workload=UUID)
            for order in (
                first,
                first,
                Order("b", "evidence", until=1.0, workload=UUID),
                Order("d", "uninstall", "open", until=soon, workload="somebody else"),
                Order("e", "uninstall", "open", workload=UUID),
                Order("f", "evidence", until=soon + 86400, workload=UUID),
            ):
                await controller.say(order)
            await controller.say(Order("c", "evidence", until=soon, workload=UUID))
            await until(lambda: "c" in done)
            assert done == ["a", "c"]

    run(test())


def test_an_answer_to_somebody_else_is_no_answer(tmp_path: Path) -> None:
    """Sealed answers name whom they are for and which heartbeat they answer: exchanged, they change nothing."""

    async def test() -> None:
        async with estate(tmp_path) as (controller, agent, _):
            await until(lambda: agent.link.answered_at)
            controller.answers_to, controller.is_cloned = "somebody else", True
            before = agent.link.answered_at
            seen = len(controller.beats)
            agent.link.beat()
            await until(lambda: len(controller.beats) > seen)
            await asyncio.sleep(0.1)
            assert agent.link.answered_at == before
            assert not agent.enforcer.is_cloned

    run(test())


def test_a_clock_that_is_wrong_is_told(tmp_path: Path) -> None:
    """The offset is known from the heartbeat, and is in the status."""

    async def test() -> None:
        async with estate(tmp_path) as (controller, agent, _):
            controller.offset_s = 500.0
            await until(lambda: "clock-skewed" in controller.kinds())
            assert 490 < agent.status().clock_offset_s < 510

    run(test())


def test_a_heartbeat_says_how_the_host_is(tmp_path: Path) -> None:
    """What is in force, by which revision, and what the agent uses."""

    async def test() -> None:
        async with estate(tmp_path) as (controller, _, _point):
            await controller.say(controller.assign(body("tcp/80")))
            await until(lambda: controller.beats and controller.beats[-1].realised.assignment == 11)
            beat = controller.beats[-1]
            assert beat.mode.inbound == "enforce"
            assert beat.rss_bytes > 0
            assert beat.machine
            assert msgspec.json.encode(beat)

    run(test())


def test_a_policy_turns_at_its_time_without_news(tmp_path: Path) -> None:
    """A scheduled body comes into force when its time comes, with no message, heartbeat or audit in between."""

    async def test() -> None:
        async with estate(tmp_path) as (controller, agent, point):
            later = body("tcp/81")
            controller.bodies[later.digest] = later
            await controller.say(controller.move(added=["10.0.0.1"]))
            turns = Upcoming(datetime.now(UTC) + timedelta(seconds=2), later.digest)
            made = controller.assign(body("tcp/80"), schedule=(turns,))
            await controller.say(made)
            await until(lambda: is_realised(controller, made.revision))
            controller.answers = False
            await until(lambda: point.intent and any("tcp/81" in c.rule for p in point.intent.parts for c in p.cells))
            assert agent.held.policy(made, agent.clock.now()).endswith(later.digest[:32])

    run(test())
