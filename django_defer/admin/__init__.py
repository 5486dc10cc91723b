"""Admin pages: functions, cron definitions, runs and alerts to read, with verbs; clusters, queues.

They are registered on the default site. Another AdminSite registers what it wants to have:
`site.register(Run, RunAdmin)`; links lead only to what a site has.
"""

from __future__ import annotations

from django.contrib import admin

from django_defer.admin.alert_channels import AlertChannelAdmin
from django_defer.admin.alerts import AlertAdmin
from django_defer.admin.clusters import ClusterAdmin, QueueAdmin
from django_defer.admin.definitions import CronDefinitionAdmin
from django_defer.admin.functions import BackgroundFunctionAdmin
from django_defer.admin.runs import RunAdmin
from django_defer.models import (
    Alert,
    AlertChannel,
    BackgroundFunction,
    Cluster,
    CronDefinition,
    Queue,
    Run,
)

__all__ = [
    "AlertAdmin",
    "AlertChannelAdmin",
    "BackgroundFunctionAdmin",
    "ClusterAdmin",
    "CronDefinitionAdmin",
    "QueueAdmin",
    "RunAdmin",
]

admin.site.register(BackgroundFunction, BackgroundFunctionAdmin)
admin.site.register(CronDefinition, CronDefinitionAdmin)
admin.site.register(Run, RunAdmin)
admin.site.register(Cluster, ClusterAdmin)
admin.site.register(Queue, QueueAdmin)
admin.site.register(Alert, AlertAdmin)
admin.site.register(AlertChannel, AlertChannelAdmin)
