"""Flow rows that agents report, as conversations."""

from ringfence.flows.agent.merge import Report, conversations_of

__all__ = ["Report", "conversations_of"]
