"""Which frame is labelled next, and how many may be in flight; one file per policy."""

from rtseg.live.policies.base import Policy
from rtseg.live.policies.deadline import Deadline
from rtseg.live.policies.every import Every
from rtseg.live.policies.newest import Newest
from rtseg.sources.base import Source

__all__ = ["Deadline", "Every", "Newest", "Policy", "policy_for"]


def policy_for(source: Source) -> Policy:
    """The default policy: the newest frame of a live source, every frame of any other."""
    return Newest() if source.live else Every()
