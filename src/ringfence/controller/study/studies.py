"""Everything that people explore an estate by, put together: questions, and files to begin with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ringfence.controller.desired.estate import world_in
from ringfence.controller.intake.importing import Importing
from ringfence.controller.intake.jobs import Jobs
from ringfence.controller.study.blast import Blasting
from ringfence.controller.study.drafting import Drafting
from ringfence.controller.study.exploring import Exploring
from ringfence.controller.study.grounds import Grounds, Texts
from ringfence.controller.study.posture import Standing
from ringfence.controller.study.recommending import Recommending
from ringfence.controller.study.rule_use import RuleUses
from ringfence.controller.thinking import think
from ringfence.core.world import World

if TYPE_CHECKING:
    from ringfence.controller.controller import Controller


class Studies:
    """The services that answer, over one set of grounds."""

    def __init__(self, controller: Controller) -> None:
        self._controller = controller
        self._texts = Texts(0, {}, "")
        self.grounds = Grounds(controller.flows, controller.world, lambda: self._number, self._world_of)
        self.exploring = Exploring(self.grounds, self.texts)
        self.drafting = Drafting(self.grounds, self.texts)
        self.standing = Standing(self.grounds)
        self.blasting = Blasting(self.grounds, self.texts)
        self.rule_uses = RuleUses(self.grounds)
        self.importing = Importing(
            controller.state, controller.flows, controller.world, controller.refresh_all, controller.clock
        )
        self.jobs = Jobs(
            controller.settings.directory / "uploads",
            controller.state,
            controller.flows,
            lambda: controller.reconciler.inputs.inventory,
            controller.clock,
        )
        self.recommending = Recommending(self.grounds, self.texts, self._version)

    @property
    def _number(self) -> int:
        """Of the version that most hosts have."""
        return self._controller.rollouts.running.number

    def _world_of(self, settings: str) -> World:
        return world_in(settings, self._controller.reconciler.inputs.inventory, self._controller.clock())

    async def _version(self, number: int) -> Texts:
        """Raises InputError `unknown-version`."""
        version = await self._controller.versions.get(number)
        return Texts(number, version.files, version.settings)

    async def texts(self) -> Texts:
        """The version that most hosts have, as it was written."""
        number = self._number
        if number != self._texts.number:
            version = await self._controller.versions.get(number)
            self._texts = Texts(number, version.files, version.settings)
        return self._texts if number else Texts(0, {}, "")

    async def start(self) -> None:
        await self.jobs.start()

    async def look(self) -> None:
        """See how the estate stands before anybody asks: the first question of an hour is a slow one."""
        await think(self.standing.of, int(self._controller.clock().timestamp()))

    async def close(self) -> None:
        """Finish what was begun."""
        await self.jobs.close()
