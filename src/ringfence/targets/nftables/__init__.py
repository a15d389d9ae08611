"""Linux hosts, enforced by nftables in a table of our own."""

from ringfence.targets.nftables.plan import Plan
from ringfence.targets.nftables.realised import Realised
from ringfence.targets.nftables.target import NftablesTarget

__all__ = ["NftablesTarget", "Plan", "Realised"]
