"""Flow rows that agents report, judged by who says so, as conversations and programs."""

from ringfence.flows.agent.merge import Report, merge
from ringfence.flows.agent.own import Addresses, Judged, judged

__all__ = ["Addresses", "Judged", "Report", "judged", "merge"]
