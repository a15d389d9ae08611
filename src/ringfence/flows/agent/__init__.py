"""Flow rows that agents report, judged by who says so, as conversations."""

from ringfence.flows.agent.merge import Report, conversations_of
from ringfence.flows.agent.own import Addresses, Judged, judged

__all__ = ["Addresses", "Judged", "Report", "conversations_of", "judged"]
