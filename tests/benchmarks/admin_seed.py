"""What the admin's pages are read beside: the runs of a week, functions, definitions, clusters.

Rows come from `generate_series` on the server. Every number is made from the row's own, so that two
seedings differ in nothing but the moment at which the week ends.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any, Final

from django.db import connection

from django_defer.ids import first_uuid7_of
from django_defer.models import BackgroundFunction, Cluster, CronDefinition, Queue, Run
from django_defer.states import State
from tests.runs import fill, new_cluster

IDLE: Final = "shop.f1999"  # never ran
BUSY: Final = "shop.f0"  # a tenth of all runs
FUNCTIONS: Final = 2_000
CHILDREN: Final = 5_000
LINES: Final = 1_000  # of the run that says most

# Run n of so many was enqueued at this moment; its id is a UUIDv7 of it.
AT: Final = "(timestamptz '{until}' - (1 - n / {rows}.0) * interval '{span}')"
ID: Final = """CAST(lpad(to_hex(CAST(floor(extract(epoch FROM {at}) * 1000) AS bigint)), 12, '0')
    || '7' || substr(md5('{salt}' || {n}), 1, 3) || 'a' || substr(md5('{salt}' || {n}), 4, 15)
    AS uuid)"""
TRACEBACK: Final = r"""E'Traceback (most recent call last):\n' || repeat(
    E'  File "/srv/shop/defer.py", line 41, in send\n    session.post(URL, json=payload)\n', 12)"""

# What the runs of the week are. A definition's own are every fiftieth.
ENDED: Final = {
    "state": """CASE WHEN n % 200 = 0 THEN 'failed' WHEN n % 1000 = 1 THEN 'cancelled'
        WHEN n % 2000 = 5 THEN 'discarded' WHEN n % 5000 = 7 THEN 'aborted'
        WHEN n % 3000 = 52 THEN 'skipped' ELSE 'succeeded' END""",
    "function": f"""CASE WHEN n % 50 = 2 THEN 'shop.f' || n / 50 % {FUNCTIONS - 1}
        WHEN n % 10 = 0 THEN '{BUSY}' ELSE 'shop.f' || n::bigint * 7919 % 1900 END""",
    "queue": "CASE WHEN n % 10 = 4 THEN 'mail' WHEN n % 1000 = 6 THEN 'rare' ELSE 'default' END",
    "label": "CASE WHEN n % 3 = 0 THEN 'order ' || n ELSE '' END",
    "metadata": """CASE WHEN n % 4 = 0 THEN
        jsonb_build_object('order', n::text, 'tenant', (n / 4 % 500)::text) END""",
    "key": "CASE WHEN n % 500 = 11 THEN 'key ' || n END",
    "args": "jsonb_build_object('args', jsonb_build_array(n), 'kwargs', '{}'::jsonb)",
    "result": "CASE WHEN n % 200 <> 0 THEN to_jsonb(n) END",
    "error_class": """CASE WHEN n % 200 = 0 OR n % 50 = 25
        THEN (ARRAY['ValueError', 'requests.exceptions.ConnectTimeout'])[1 + n / 50 % 2]
        ELSE '' END""",
    "error_message": """CASE WHEN n % 200 = 0 OR n % 50 = 25
        THEN 'mail.example.com did not answer ' || n || repeat(' in time', n % 20) ELSE '' END""",
    "attempt": "CASE WHEN n % 200 = 0 THEN 3 WHEN n % 50 = 25 OR n % 10000 = 33 THEN 2 ELSE 1 END",
    "failures": "CASE WHEN n % 200 = 0 THEN 3 WHEN n % 50 = 25 THEN 1 ELSE 0 END",
    "losses": "CASE WHEN n % 10000 = 33 THEN 1 ELSE 0 END",
    "worker": "n % 4 || '.1'",
}


class Seed:
    """Fills an empty database; the week ends at `until`."""

    def __init__(self, rows: int) -> None:
        self.rows = rows
        self.until = datetime.now(UTC)
        self.parent = first_uuid7_of(self.until - timedelta(minutes=40))
        self._numbers = count(1)

    def __call__(self) -> None:
        """Insert everything, then read statistics, once."""
        self.functions()
        self.definitions()
        self.clusters()
        self.week()
        self.unfinished()
        self.fan_out()
        self.attempts()
        self.log_lines()
        self._execute(
            """UPDATE django_defer_crondefinition AS d
            SET last_slot_at = r.slot, last_run_id = r.id
            FROM (SELECT DISTINCT ON (definition_id) definition_id, slot, id
                  FROM django_defer_run WHERE slot IS NOT NULL
                  ORDER BY definition_id, slot DESC) AS r
            WHERE r.definition_id = d.id"""
        )
        self._execute("VACUUM ANALYZE")

    # -- what the code and the operators say --------------------------------------------------

    def functions(self) -> None:
        """Insert the functions, of which some are paused or no longer in the code."""
        BackgroundFunction.objects.bulk_create(
            BackgroundFunction(
                key=f"shop.f{n}",
                queue=("default", "mail")[n % 10 == 4],
                module="shop.defer",
                line=n,
                options={"max_duration": "30m", "retry": "True"},
                synced_at=self.until,
                **self._stopped(n),
            )
            for n in range(FUNCTIONS)
        )

    def definitions(self) -> None:
        """Insert the definitions: some paused, orphaned, in error, switched off or overridden."""
        rows = []
        for n in range(FUNCTIONS):
            row = CronDefinition(
                function_id=f"shop.f{n}",
                code_expression=f"{n % 60} {n // 7 % 24} * * *" if n % 100 else "*/5 * * * *",
                code_timezone=("UTC", "Europe/Paris")[n % 2],
                enabled=n % 97 != 1,
                error="it never fires: 0 0 30 2 *" if n % 111 == 1 else "",
                timezone_override="Asia/Tokyo" if n % 43 == 1 else "",
                overridden_by="ada" if n % 43 == 1 else "",
                **self._stopped(n),
            )
            row.next_slot_at = row.next_slot_after(self.until)
            rows.append(row)
        CronDefinition.objects.bulk_create(rows)

    def _stopped(self, n: int) -> dict[str, Any]:
        if n % 29 == 28:
            return {"paused_at": self.until, "paused_by": "ada", "pause_reason": "migration"}
        return {"orphaned_at": self.until} if n % 53 == 52 else {}

    def clusters(self) -> None:
        """Insert live clusters and a silent one, and queues of which one is paused."""
        keys = [f"shop.f{n}" for n in range(FUNCTIONS)]
        facts: dict[str, Any] = {"functions": keys, "queues": [], "versions": {"python": "3.11"}}
        for n in range(6):
            soon = self.until + timedelta(hours=1)  # so that they live as long as it takes
            new_cluster(host=f"worker-{n}", workers=8, beat_at=soon, ticked_at=self.until, **facts)
        new_cluster(host="worker-6", workers=8, beat_at=self.until - timedelta(hours=1), **facts)
        Queue.objects.create(name="default")
        Queue.objects.create(name="mail", paused_at=self.until, paused_by="ada")

    # -- runs ---------------------------------------------------------------------------------

    def week(self) -> None:
        """Insert the runs that have ended."""
        first = CronDefinition.objects.order_by("pk").values_list("pk", flat=True)[0]
        ended = self._times(self.rows, "7 days")
        at, own = ended["enqueued_at"], "n % 50 = 2"
        parent = ID.format(at=at.replace("n /", "(n - 3) /"), salt="week", n="n - 3")
        fill(
            State.SUCCEEDED,
            self.rows,
            **ended,
            **ENDED,
            id=ID.format(at=at, salt="week", n="n"),
            definition_id=f"CASE WHEN {own} THEN {first} + n / 50 % {FUNCTIONS - 1} END",
            slot=f"CASE WHEN {own} THEN {at} END",
            parent_id=f"CASE WHEN n % 100 = 3 THEN {parent} END",
            root_id=f"CASE WHEN n % 100 = 3 THEN {parent} END",
            rerun_of_id=f"CASE WHEN n % 10000 = 13 THEN {parent} END",
        )

    def unfinished(self) -> None:
        """Insert what waits and runs."""
        cluster = Cluster.objects.order_by("host").values_list("pk", flat=True)[0]
        held = {"cluster": f"'{cluster}'", "claim_id": "gen_random_uuid()", "attempt": "1"}
        soon = f"timestamptz '{self.until}' + n * interval '1 minute'"
        plans: list[tuple[State, int, dict[str, str]]] = [
            (State.QUEUED, 20_000, {}),
            (State.QUEUED, 500, {"queue": "'mail'"}),
            (State.SCHEDULED, 5_000, {"run_after": soon}),
            (State.SCHEDULED, 2_000, {"run_after": soon, "attempt": "2", "failures": "2"}),
            (State.PARKED, 1_000, {"reason": "'no_code'", "function": "'shop.gone'"}),
            (State.CLAIMED, 10, {**held, "worker": "n % 8 || '.1'"}),
            (State.RUNNING, 40, {**held, "worker": "n % 8 || '.1'"}),
        ]
        for state, number, columns in plans:
            times = self._times(number, "1 hour")
            times.pop("finished_at")
            if state in (State.QUEUED, State.SCHEDULED, State.PARKED, State.CLAIMED):
                times.pop("started_at")
            salt = f"unfinished {next(self._numbers)}"
            fill(
                state,
                number,
                **{
                    "id": ID.format(at=times["enqueued_at"], salt=salt, n="n"),
                    "function": f"'shop.f' || n % {FUNCTIONS - 1}",
                    **times,
                    **columns,
                },
            )
        self._execute(
            "INSERT INTO django_defer_progress (run_id, attempt, done, total, message, at) "
            "SELECT id, 1, 120, 300, 'sending', now() FROM django_defer_run "
            "WHERE state = 'running' AND attempt >= 0"
        )

    def fan_out(self) -> None:
        """Insert a run and its children, of which some failed and some wait."""
        family = {"function": f"'{BUSY}'", "label": "'fan-out'"}
        fill(State.SUCCEEDED, 1, **self._times(1, "1 hour"), **family, id=f"'{self.parent}'")
        children = {**family, "label": "'child ' || n", "parent_id": f"'{self.parent}'"}
        children["root_id"] = children["parent_id"]
        for state, share in ((State.SUCCEEDED, 96), (State.FAILED, 2), (State.SCHEDULED, 2)):
            number = CHILDREN * share // 100
            times = self._times(number, "30 minutes")
            if state == State.SCHEDULED:
                times = {**times, "run_after": "now() + interval '1 hour'", "failures": "1"}
            salt = f"child {state}"
            fill(
                state,
                number,
                **children,
                **times,
                id=ID.format(at=times["enqueued_at"], salt=salt, n="n"),
            )

    def attempts(self) -> None:
        """Insert the attempts that failed or were lost."""
        self._execute(
            f"""INSERT INTO django_defer_attempt (run_id, number, outcome, started_at, finished_at,
                error_class, error_message, traceback, signal, worker)
            SELECT id, number, CASE WHEN losses > 0 THEN 'lost' WHEN number < failures
                OR state = 'succeeded' THEN 'retried' ELSE 'failed' END,
                started_at, finished_at, error_class, error_message, {TRACEBACK}, '', worker
            FROM django_defer_run, generate_series(1, greatest(failures, losses)) AS number
            WHERE (failures > 0 OR losses > 0) AND state IN ('succeeded', 'failed')"""
        )

    def log_lines(self) -> None:
        """Insert what some runs said, and a run that said a lot."""
        self.talker = Run.objects.in_state(State.RUNNING).values_list("pk", flat=True)[0]
        lines = """INSERT INTO django_defer_logline
                (run_id, attempt, number, level, at, logger, message)
            SELECT id, 1, number, 20 + number % 3 * 10, started_at, 'shop', 'sent mail ' || number
            FROM ({runs}) AS runs, generate_series(1, {most}) AS number"""
        newest = "SELECT * FROM django_defer_run WHERE state = 'failed' ORDER BY id DESC LIMIT 2000"
        self._execute(lines.format(runs=newest, most=20))
        self._execute(
            lines.format(
                runs=f"SELECT * FROM django_defer_run WHERE id = '{self.talker}'", most=LINES
            )
        )

    # -- within -------------------------------------------------------------------------------

    def _times(self, rows: int, span: str) -> dict[str, str]:
        at = AT.format(until=self.until, rows=rows, span=span)
        return {
            "run_after": at,
            "enqueued_at": at,
            "queued_at": at,
            "started_at": f"{at} + n % 900 * interval '1 ms'",
            "finished_at": f"{at} + (n % 900 + n % 7000) * interval '1 ms'",
        }

    def _execute(self, statement: str) -> None:
        with connection.cursor() as cursor:
            cursor.execute(statement)


def seed(rows: int) -> dict[str, str]:
    """Fill the database; return the ids of the run with many children and of the talkative one."""
    filled = Seed(rows)
    filled()
    return {"parent": str(filled.parent), "talker": str(filled.talker)}
