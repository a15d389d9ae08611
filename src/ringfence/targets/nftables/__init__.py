"""Linux hosts, enforced by nftables in a table of our own."""

from ringfence.targets.nftables.ownership import Ownership
from ringfence.targets.nftables.plan import Plan
from ringfence.targets.nftables.realised import Realised
from ringfence.targets.nftables.target import NftablesTarget

__all__ = ["NftablesTarget", "Ownership", "Plan", "Realised"]
