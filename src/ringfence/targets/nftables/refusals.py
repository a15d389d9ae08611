"""What the kernel's refusals are called, and what to do about them."""

from __future__ import annotations

import errno

from ringfence.core.errors import TargetError
from ringfence.targets.nftables.netlink import Refused

_REFUSED = {
    errno.EPERM: ("not-permitted", "run with CAP_NET_ADMIN"),
    errno.ERESTART: ("ruleset-changed", "observe and plan again"),
    errno.EOPNOTSUPP: ("kernel-lacks-feature", "load the nf_tables modules, or use a newer kernel"),
    errno.ENOENT: ("ruleset-changed", "observe and plan again"),
    errno.EEXIST: ("ruleset-changed", "observe and plan again"),
    errno.EBUSY: ("ruleset-changed", "observe and plan again"),
    errno.ENFILE: ("set-full", "a set has reached its size"),
    errno.ENOMEM: ("out-of-memory", "the kernel could not hold the rules"),
}


def refusal_of(refusal: Refused, *, was_guarded: bool = False) -> TargetError:
    """As an error of the target.

    `was_guarded`: the kernel would have said ERESTART had anybody changed the rule set, so it is not that.
    """
    if was_guarded and refusal.errno in (errno.ENOENT, errno.EEXIST, errno.EBUSY):
        help_ = (
            "the old rules are still in force; unless a module of nf_tables is missing, this is a fault in ringfence"
        )
        return TargetError("kernel-refused", f"the kernel refused {refusal.about}: {refusal.strerror}", help=help_)
    code, help_ = _REFUSED.get(refusal.errno or 0, ("kernel-refused", "the old rules are still in force"))
    return TargetError(code, f"the kernel refused {refusal.about}: {refusal.strerror}", help=help_)
