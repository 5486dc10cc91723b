"""Starts and finishes go by the primary key, and what is to be aborted has an index of its own."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("django_defer", "0003_deadlines"),
    ]

    operations = [
        migrations.RemoveIndex(model_name="run", name="defer_run_held"),
        migrations.AddIndex(
            model_name="run",
            index=models.Index(
                "cluster",
                "worker",
                condition=models.Q(
                    ("attempt__gte", 0), ("state__in", ["claimed", "running"])
                ),
                name="defer_run_held",
            ),
        ),
        migrations.AddIndex(
            model_name="run",
            index=models.Index(
                "cluster",
                condition=models.Q(("abort_requested_at__isnull", False), ("state", "running")),
                name="defer_run_aborts",
            ),
        ),
    ]
