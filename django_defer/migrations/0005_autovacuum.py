"""PostgreSQL: vacuum the runs often, since each leaves several dead versions behind."""

from typing import Any

from django.db import migrations

# By default a fifth of the table has to be dead first: with ten million old runs, two million rows.
OPTIONS = {
    "autovacuum_vacuum_scale_factor": "0.02",
    "autovacuum_analyze_scale_factor": "0.02",
    "autovacuum_vacuum_cost_delay": "0",
}


def set_options(apps: Any, schema_editor: Any) -> None:
    options = ", ".join(f"{name} = {value}" for name, value in OPTIONS.items())
    _alter(schema_editor, f"SET ({options})")


def reset_options(apps: Any, schema_editor: Any) -> None:
    _alter(schema_editor, f"RESET ({', '.join(OPTIONS)})")


def _alter(schema_editor: Any, change: str) -> None:
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute(f"ALTER TABLE django_defer_run {change}")


class Migration(migrations.Migration):
    dependencies = [
        ("django_defer", "0004_held_and_aborts"),
    ]

    operations = [
        migrations.RunPython(set_options, reset_options, elidable=False),
    ]
