"""What the demo does: set up, start a web server and a worker, and stay; or work once and exit."""

from __future__ import annotations

import os
import socket
from typing import Final, NoReturn
from urllib.error import URLError
from urllib.request import urlopen

from django.conf import settings
from django.core.management import call_command
from django.urls import reverse

from demo_site import report
from demo_site.marketplace.defer import FAILS_ONCE, pay_out, weekly_product_recommendations
from demo_site.marketplace.models import User
from demo_site.processes import Processes, StopRequests
from django_defer.alerts.routes import routes
from django_defer.models import Cluster, CronDefinition, Run

HOST: Final = "127.0.0.1"  # the password is public: nobody else shall reach it
USERNAME: Final = "admin"
PASSWORD: Final = "demo"
START_TIMEOUT: Final = 30.0
FAN_OUT_TIMEOUT: Final = 120.0
ALERT_TIMEOUT: Final = 60.0
UNPAID: Final = "customer007"

LOOK_AT: Final = """
  The marketplace runs at {site}
  Log in as {username}, password {password}.

  What to look at:

  1. {functions}
     The background functions that the code registered (demo_site/marketplace/defer.py).
  2. {definition}
     When the weekly function is due. Press "Run now": it need not wait for Monday.
  3. {runs}
     The runs that appear then: one for each of the {users} users who opted in.
  4. {runs}?q={fails_once}
     The run that fails at first, on purpose: see its attempts and the error.
  5. {alerts}
     What somebody is told of: a payment that the bank refuses, on purpose. Told: {channels}.
  6. The mails: {mails}
     The worker's log: {log}

  Ctrl-C stops everything.
"""


def stay(stop: StopRequests, port: int) -> NoReturn:
    """Run a web server and a worker until told to stop, which raises Stopped."""
    prepare()
    with Processes(stop, settings.DATA) as processes:
        site = start_web_server(processes, port)
        start_worker(processes)
        fail_for_good()
        print(look_at(site, processes), flush=True)
        processes.wait_for_ever()


def once(stop: StopRequests) -> int:
    """Run the weekly function now, wait for all it started, and report; return the exit code."""
    prepare()
    with Processes(stop, settings.DATA) as processes:
        start_worker(processes)
        failure = fail_for_good()
        say("Running weekly_product_recommendations now")
        root = weekly_product_recommendations.run_now(actor="the demo")
        processes.wait_until(
            lambda: not report.family(root).unfinished().exists(),
            "The weekly run and all it started should have ended",
            FAN_OUT_TIMEOUT,
        )
        say("Waiting for the alert, which gathers for some seconds")
        processes.wait_until(
            lambda: report.is_told_of(failure),
            "Somebody should have been told of the payment that failed",
            ALERT_TIMEOUT,
        )
    return report.print_report(root, failure)


def fail_for_good() -> Run:
    """Enqueue what fails, so that there is an alert."""
    say("Paying out to a customer, which the bank will refuse")
    user = User.objects.get(username=UNPAID)
    return pay_out.using(label=user.email, metadata={"customer": user.username})(user)


def prepare() -> None:
    """Make the database, the sample data and the login, unless they are there."""
    say(f"Preparing the database in {settings.DATA}")
    call_command("migrate", verbosity=0)
    call_command("load_marketplace")
    call_command("defer_sync")
    if not User.objects.filter(username=USERNAME).exists():
        User.objects.create_superuser(USERNAME, "admin@example.com", PASSWORD)


def start_web_server(processes: Processes, port: int) -> str:
    """Start the web server and wait until it answers; return its URL."""
    port = port if is_free(port) else any_free_port()
    site = f"http://{HOST}:{port}"
    os.environ["SITE_URL"] = site  # of the links in alerts; the processes inherit it
    say(f"Starting the web server at {site}")
    processes.start("runserver", "--noreload", f"{HOST}:{port}")
    processes.wait_until(
        lambda: answers(site + reverse("admin:login")),
        "The web server should answer",
        START_TIMEOUT,
    )
    return site


def start_worker(processes: Processes) -> None:
    """Start a worker, which syncs first, and wait until it is there."""
    say("Starting a worker")
    pid = processes.start("defer_worker")
    processes.wait_until(
        lambda: Cluster.objects.filter(pid=pid).exists(),
        "The worker should be there",
        START_TIMEOUT,
    )


def look_at(site: str, processes: Processes) -> str:
    """Return what a person should know now."""

    definition = CronDefinition.objects.get(function=weekly_product_recommendations.key)
    return LOOK_AT.format(
        site=site + reverse("admin:index"),
        username=USERNAME,
        password=PASSWORD,
        functions=site + reverse("admin:django_defer_backgroundfunction_changelist"),
        definition=site + reverse("admin:django_defer_crondefinition_change", args=[definition.pk]),
        runs=site + reverse("admin:django_defer_run_changelist"),
        users=User.objects.filter(weekly_recommendations=True).count(),
        fails_once=FAILS_ONCE,
        alerts=site + reverse("admin:django_defer_alert_changelist"),
        channels=", ".join(route.name for route in routes()),
        mails=settings.EMAIL_FILE_PATH,
        log=processes.log("defer_worker"),
    )


def answers(url: str) -> bool:
    """Say whether there is a page at `url`."""
    try:
        with urlopen(url, timeout=5) as answer:  # noqa: S310
            return bool(answer.status == 200)
    except (URLError, TimeoutError, ConnectionError):
        return False


def is_free(port: int) -> bool:
    """Say whether nobody listens on the port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def any_free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def say(what: str) -> None:
    """Print what happens next."""
    print(f"{what} …", flush=True)
