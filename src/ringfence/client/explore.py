"""What people ask of a controller and change nothing by: `client.explore.map(Query())`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING
from urllib.parse import quote

from ringfence.wire import explore, intake, study

if TYPE_CHECKING:
    from ringfence.client.client import Client


class Explore:
    """Questions, over a client. Each raises as `Client.get`."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def map(self, asked: explore.Query) -> explore.MapView:
        return self._client.post("/map", asked, explore.MapView)

    def edge(self, asked: explore.EdgeQuery) -> explore.EdgeView:
        return self._client.post("/map/edge", asked, explore.EdgeView)

    def near(self, asked: explore.NearQuery) -> explore.NearView:
        return self._client.post("/map/near", asked, explore.NearView)

    def flows(self, asked: explore.TableQuery) -> explore.FlowPage:
        return self._client.post("/flows", asked, explore.FlowPage)

    def matrix(self, asked: explore.MatrixQuery) -> explore.MatrixView:
        return self._client.post("/matrix", asked, explore.MatrixView)

    def check(self, asked: study.Check) -> study.Checked:
        return self._client.post("/check", asked, study.Checked)

    def posture(self) -> study.Posture:
        return self._client.get("/posture", study.Posture)

    def recommend(self, asked: study.AskRecommend) -> study.Recommended:
        return self._client.post("/recommend", asked, study.Recommended)

    def simulate(self, asked: study.AskSimulate) -> study.Simulated:
        return self._client.post("/simulate", asked, study.Simulated)

    def blast_radius(self, asked: study.AskBlast) -> study.BlastView:
        return self._client.post("/blast-radius", asked, study.BlastView)

    def rules(self, *, days: int = 30, limit: int = 200) -> study.RulesView:
        return self._client.get("/rules", study.RulesView, days=days, limit=limit)

    def inventory(self, asked: intake.ImportInventory) -> intake.InventoryPlanned:
        return self._client.post("/inventory", asked, intake.InventoryPlanned)

    def import_flows(self, name: str, content: bytes | Iterable[bytes]) -> intake.Job:
        """Begin to import a file, or several as an `Archive` named `*.tar`; `job` tells how far it is."""
        return self._client.upload("/flows/import", content, intake.Job, name=name)

    def job(self, id: str) -> intake.Job:
        return self._client.get(f"/jobs/{quote(id, safe='')}", intake.Job)

    def demo(self) -> intake.DemoLoaded:
        return self._client.post("/demo", intake.LoadDemo("shop"), intake.DemoLoaded)

    def words(self) -> study.Words:
        return self._client.get("/vocabulary", study.Words)
