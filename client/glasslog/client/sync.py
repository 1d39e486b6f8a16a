"""``Producer``, ``Consumer`` and ``Admin`` for plain scripts: the same names, but every call waits."""

from glasslog.client.blocking.admin import Admin
from glasslog.client.blocking.consumer import Consumer, RebalanceListener
from glasslog.client.blocking.producer import Deliveries, Delivery, Producer

__all__ = ["Admin", "Consumer", "Deliveries", "Delivery", "Producer", "RebalanceListener"]
