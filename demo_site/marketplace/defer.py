"""The background functions of the marketplace. Workers find them here."""

from __future__ import annotations

from django.core.mail import EmailMessage

from demo_site.marketplace.models import User
from demo_site.marketplace.recommendations import recommended_products
from django_defer import RetryPolicy, current_run, defer

# STAGED, don't copy: the first attempt for this user fails, so that the demo has a retry to show.
FAILS_ONCE = "customer042"


# UTC, unless timezone="Europe/Vienna" or the like is given. On SQLite, an atomic function keeps
# others from writing while it runs, so it is not given long.
@defer.cron("0 8 * * MON", atomic=True, max_duration="30s")
def weekly_product_recommendations() -> int:
    """Enqueue a run for each user who opted in; return how many.

    Atomic: if it fails half-way, none of its runs were enqueued, and the retry starts afresh.
    """
    users = User.objects.filter(weekly_recommendations=True).order_by("pk")
    for user in users:
        compute_product_recommendation.using(label=user.email)(user)
    return len(users)


@defer(max_duration="1m", retry=RetryPolicy(initial_interval="1s"))
def compute_product_recommendation(user: User) -> list[str]:
    """Mail `user` what people with the same taste bought; return the products' names."""
    fail_once(user)
    names = [product.name for product in recommended_products(user)]
    if not names:
        return []
    lines = "\n".join(f"- {name}" for name in names)
    EmailMessage(
        subject="Picked for you this week",
        body=f"Hello {user.first_name},\n\nothers who bought what you bought also took:\n{lines}\n",
        to=[user.email],
        headers=same_in_every_attempt(),
    ).send()
    return names


# `label` and `metadata` say for whom: they are in the alert, since nobody is paid by a traceback.
@defer(retry=False, max_duration="1m")
def pay_out(user: User) -> None:
    """STAGED, don't copy: pretend that the bank refuses, so that the demo has an alert to show."""
    raise ConnectionError(f"staged for the demo: the bank refuses the account of {user.email}")


def same_in_every_attempt() -> dict[str, str]:
    """Return a Message-ID made of the run's id: a mail sent twice can be told to be the same."""
    run = current_run()
    return {"Message-ID": f"<{run.id}@marketplace.example>"} if run else {}


def fail_once(user: User) -> None:
    """STAGED, don't copy: pretend that the mail server is away, once, for one user."""
    run = current_run()
    if run and run.attempt == 1 and user.get_username() == FAILS_ONCE:
        raise ConnectionError("staged for the demo: the mail server does not answer")
