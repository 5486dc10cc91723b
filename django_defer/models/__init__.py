"""The tables. `claims`, `transitions` and `attempts` alone write a run's state, as the moves in
`states` allow; `sync` alone writes what code owns.
"""

from django_defer.models.clusters import Cluster
from django_defer.models.definitions import CronDefinition
from django_defer.models.functions import BackgroundFunction, Queue
from django_defer.models.runs import Attempt, Run

__all__ = ["Attempt", "BackgroundFunction", "Cluster", "CronDefinition", "Queue", "Run"]
