"""The demo site, as a person starts it: once to the end, and staying until told to stop."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from email import message_from_bytes
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode
from urllib.request import HTTPCookieProcessor, build_opener

import pytest

from tests.listeners import http_listener

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.sqlite  # the demo brings its own database

ROOT: Final = Path(__file__).parents[2]
USERS: Final = 300
START: Final = [sys.executable, "-m", "demo_site"]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """An environment that gives the demo a data folder of its own."""
    return {**os.environ, "DEMO_DATA": str(tmp_path)}


def once(environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run the demo once, to its end."""
    return subprocess.run(
        [*START, "--once"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )


def test_the_checks_have_nothing_to_say(environment: dict[str, str]) -> None:
    environment["DJANGO_SETTINGS_MODULE"] = "demo_site.settings"
    command = [sys.executable, "-W", "error", "demo_site/manage.py", "check"]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "no issues" in done.stdout


def test_once_goes_through_for_everybody_and_shows_a_retry(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    done = once(environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    rows = {line.split()[0]: line.split()[1:4] for line in done.stdout.splitlines() if line.strip()}
    # runs, succeeded, failed
    assert rows["marketplace.weekly_product_recommendations"] == ["1", "1", "0"]
    assert rows["marketplace.compute_product_recommendation"] == [str(USERS), str(USERS), "0"]
    assert done.stdout.count("Retried: customer042@example.com, after ConnectionError") == 1
    assert "Alert: marketplace.pay_out failed\n" in done.stdout
    assert re.search(r"\n  console at \d\d:\d\d:\d\d UTC: logged\n", done.stdout)
    log = (tmp_path / "defer_worker.log").read_text()
    assert "alert.run_failed marketplace.pay_out failed: ConnectionError: staged" in log
    assert "http://127.0.0.1:8000/admin/django_defer/alert/1/change/" in log
    mails = [message_from_bytes(path.read_bytes()) for path in (tmp_path / "mails").iterdir()]
    assert len(mails) == USERS
    assert len({mail["To"] for mail in mails}) == USERS
    assert processes_of(tmp_path) == []


def test_slack_is_told_if_its_address_is_set(environment: dict[str, str]) -> None:
    with http_listener() as slack:
        environment["SLACK_WEBHOOK_URL"] = slack.url("/services/T0/B1/sesame")
        done = once(environment)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert re.search(r"\n  slack at \d\d:\d\d:\d\d UTC: HTTP 200: ok\n", done.stdout)
    assert "sesame" not in done.stdout
    [request] = slack.requests
    text = str(request.json["blocks"])
    assert "marketplace.pay_out failed" in text
    assert "customer007@example.com" in text
    assert "http://127.0.0.1:8000/admin/django_defer/run/" in text


def test_once_more_shows_where_the_alert_went_before(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    for said in ("failed", "failed 2 times"):
        done = once(environment)
        assert (done.returncode, done.stderr) == (0, ""), done.stdout
        assert f"Alert: marketplace.pay_out {said}" in done.stdout
        assert done.stdout.count("  console at ") == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_the_site_stays_until_told_to_stop_and_leaves_nothing_behind(
    tmp_path: Path, environment: dict[str, str], number: signal.Signals
) -> None:
    with staying(tmp_path, environment) as demo:
        site = wait_for(demo, tmp_path, r"runs at (http://127\.0\.0\.1:\d+/admin/)")
        log_in_and_visit(site, output(tmp_path))
        assert len(processes_of(tmp_path)) > 3  # the demo, its web server, a supervisor, workers
        demo.send_signal(number)
        assert demo.wait(timeout=30) == 0, output(tmp_path)
    assert output(tmp_path).endswith("Stopped.\n")
    assert "Traceback" not in output(tmp_path)
    assert processes_of(tmp_path) == []


def test_the_demo_ends_when_one_of_its_processes_dies(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    with staying(tmp_path, environment) as demo:
        wait_for(demo, tmp_path, r"(Ctrl-C) stops")
        [web_server] = [pid for pid in processes_of(tmp_path) if "runserver" in command_line(pid)]
        os.kill(web_server, signal.SIGKILL)
        assert demo.wait(timeout=30) == 1
    assert "runserver ended by itself, with code -9" in output(tmp_path)
    assert processes_of(tmp_path) == []


@contextmanager
def staying(folder: Path, environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """Start the demo on a free port, its output in a file; at the end it is gone in any case."""
    with (folder / "output").open("wb") as file:
        demo = subprocess.Popen(
            [*START, "--port", str(free_port())],
            cwd=ROOT,
            env=environment,
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    try:
        yield demo
    finally:
        demo.kill()
        demo.wait()
        for pid in processes_of(folder):
            os.kill(pid, signal.SIGKILL)


def log_in_and_visit(site: str, printed: str) -> None:
    """Log in as the demo says, and see every page it names; an error page raises."""
    [(username, password)] = re.findall(r"Log in as (\w+), password (\w+)", printed)
    browser = build_opener(HTTPCookieProcessor())
    form = browser.open(f"{site}login/", timeout=10).read().decode()
    [token] = re.findall(r'name="csrfmiddlewaretoken" value="(\w+)"', form)
    fields = {"username": username, "password": password, "csrfmiddlewaretoken": token}
    browser.open(f"{site}login/?next=/admin/", urlencode(fields).encode(), timeout=10)
    pages = re.findall(r"\d\. (http\S+)", printed)
    assert len(pages) == 5
    for page in pages:
        content = browser.open(page, timeout=10).read().decode()
        assert "Log out" in content, page


def wait_for(demo: subprocess.Popen[bytes], folder: Path, pattern: str, timeout: float = 60) -> str:
    """Return the first group of `pattern` once it is in the output."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        if (found := re.search(pattern, output(folder))) and "Ctrl-C stops" in output(folder):
            return found[1]
        if demo.poll() is not None:
            break
        time.sleep(0.1)
    pytest.fail(f"no {pattern!r} in:\n{output(folder)}")


def output(folder: Path) -> str:
    """Return what the demo printed."""
    return (folder / "output").read_text()


def processes_of(folder: Path) -> list[int]:
    """Return the ids of the processes that have this data folder in their environment."""
    wanted = f"DEMO_DATA={folder}".encode()
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if wanted in (process / "environ").read_bytes().split(b"\0"):
                found.append(int(process.name))
        except OSError:  # it ended meanwhile
            continue
    return found


def command_line(pid: int) -> str:
    """Return the command line of a process."""
    return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
