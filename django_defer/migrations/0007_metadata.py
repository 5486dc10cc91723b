"""What the runs of a definition carry; PostgreSQL: an index to find runs by their metadata."""

from typing import Any

from django.db import migrations, models

INDEX = "defer_run_metadata"

# It is written at each step of a run that it holds: those without metadata are kept out of it.
CREATE = (
    f"CREATE INDEX {INDEX} ON django_defer_run USING gin (metadata jsonb_path_ops) "
    f"WHERE metadata IS NOT NULL"
)


def create_index(apps: Any, schema_editor: Any) -> None:
    _execute(schema_editor, CREATE)


def drop_index(apps: Any, schema_editor: Any) -> None:
    _execute(schema_editor, f"DROP INDEX {INDEX}")


def _execute(schema_editor: Any, sql: str) -> None:
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute(sql)


class Migration(migrations.Migration):
    dependencies = [
        ("django_defer", "0006_logs_and_progress"),
    ]

    operations = [
        migrations.AddField(
            model_name="crondefinition",
            name="metadata",
            field=models.JSONField(blank=True, null=True, verbose_name="metadata"),
        ),
        migrations.RunPython(create_index, drop_index, elidable=False),
    ]
