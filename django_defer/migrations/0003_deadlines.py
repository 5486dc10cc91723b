"""Runs that are discarded when they have not begun by a time: how they are found."""

from django.db import migrations, models

import django_defer.models.runs


class Migration(migrations.Migration):
    dependencies = [
        ("django_defer", "0002_schedules"),
    ]

    operations = [
        # The column stays as it is: only Python reads back what the database worked out.
        migrations.SeparateDatabaseAndState(
            state_operations=[
                migrations.AlterField(
                    model_name="run",
                    name="discard_after",
                    field=django_defer.models.runs.DefaultInstant(
                        null=True, verbose_name="discard after"
                    ),
                ),
            ],
        ),
        migrations.AddIndex(
            model_name="run",
            index=models.Index(
                "discard_after",
                condition=models.Q(
                    ("discard_after__isnull", False),
                    ("state__in", ["parked", "queued", "scheduled"]),
                ),
                name="defer_run_deadlines",
            ),
        ),
    ]
