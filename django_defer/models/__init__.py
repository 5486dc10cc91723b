"""The tables. `claims`, `transitions` and `attempts` alone write a run's state, as the moves in
`states` allow; `sync` alone writes what code owns.
"""

from django_defer.models.alerts import Alert, AlertChannel, AlertDelivery, AlertEvent
from django_defer.models.attempts import Attempt
from django_defer.models.clusters import Cluster
from django_defer.models.definitions import CronDefinition
from django_defer.models.functions import BackgroundFunction, Queue
from django_defer.models.logs import LogLine, Progress
from django_defer.models.pings import Ping, PingKind
from django_defer.models.runs import Run

__all__ = [
    "Alert",
    "AlertChannel",
    "AlertDelivery",
    "AlertEvent",
    "Attempt",
    "BackgroundFunction",
    "Cluster",
    "CronDefinition",
    "LogLine",
    "Ping",
    "PingKind",
    "Progress",
    "Queue",
    "Run",
]
