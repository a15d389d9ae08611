"""What people ask of a controller and change nothing by: `client.explore.map(Query())`."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from ringfence.wire import explore

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

    def check(self, asked: explore.Check) -> explore.Checked:
        return self._client.post("/check", asked, explore.Checked)

    def posture(self) -> explore.Posture:
        return self._client.get("/posture", explore.Posture)

    def recommend(self, asked: explore.AskRecommend) -> explore.Recommended:
        return self._client.post("/recommend", asked, explore.Recommended)

    def simulate(self, asked: explore.AskSimulate) -> explore.Simulated:
        return self._client.post("/simulate", asked, explore.Simulated)

    def blast_radius(self, asked: explore.AskBlast) -> explore.BlastView:
        return self._client.post("/blast-radius", asked, explore.BlastView)

    def rules(self, *, days: int = 30, limit: int = 200) -> explore.RulesView:
        return self._client.get("/rules", explore.RulesView, days=days, limit=limit)

    def inventory(self, asked: explore.ImportInventory) -> explore.InventoryPlanned:
        return self._client.post("/inventory", asked, explore.InventoryPlanned)

    def import_flows(self, name: str, content: bytes) -> explore.Job:
        return self._client.upload("/flows/import", content, explore.Job, name=name)

    def job(self, id: str) -> explore.Job:
        return self._client.get(f"/jobs/{quote(id, safe='')}", explore.Job)

    def demo(self) -> explore.DemoLoaded:
        return self._client.post("/demo", explore.LoadDemo("shop"), explore.DemoLoaded)

    def words(self) -> explore.Words:
        return self._client.get("/vocabulary", explore.Words)
