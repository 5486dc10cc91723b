"""The admin mounted elsewhere, several AdminSites, another database, a strict CSP."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
from django.contrib.admin import AdminSite, site
from django.test import override_settings
from django.urls import path

from django_defer import pauses
from django_defer.admin import RunAdmin
from django_defer.models import CronDefinition, Run
from django_defer.states import State
from django_defer.sync import sync
from tests.admin_rows import ago, make_attempt, make_finished, make_run, make_slot

if TYPE_CHECKING:
    from django.test import Client

runs_only = AdminSite(name="runs_only")
runs_only.register(Run, RunAdmin)

urlpatterns = [path("office/", site.urls), path("support/", runs_only.urls)]

here = override_settings(ROOT_URLCONF=__name__)


def read(client: Client, url: str) -> str:
    response = client.get(url)
    assert response.status_code == 200
    return response.content.decode()


@here
@pytest.mark.django_db
def test_links_and_verbs_follow_the_address_of_the_admin(admin_client: Client) -> None:
    run = make_finished(parent=make_finished())
    text = read(admin_client, f"/office/django_defer/run/{run.pk}/change/")
    assert f"/office/django_defer/run/{run.parent_id}/change/" in text
    assert f"/office/django_defer/run/{run.pk}/rerun/" in text
    assert "/support/" not in text
    response = admin_client.post(f"/office/django_defer/run/{run.pk}/rerun/", follow=True)
    assert response.redirect_chain == [(f"/office/django_defer/run/{run.pk}/change/", 302)]
    again = Run.objects.latest("id")
    assert f"/office/django_defer/run/{again.pk}/change/" in response.content.decode()


@here
@pytest.mark.django_db
def test_another_site_links_to_its_own_pages_and_to_none_it_lacks(admin_client: Client) -> None:
    parent = make_finished()
    run = make_run(parent=parent, function_id="testapp.add")
    for url in ("/support/django_defer/run/", f"/support/django_defer/run/{run.pk}/change/"):
        text = read(admin_client, url)
        assert f"/support/django_defer/run/{parent.pk}/change/" in text
        assert "testapp.add" in text
        assert "backgroundfunction" not in text
        assert "/office/" not in text
    response = admin_client.post(f"/support/django_defer/run/{run.pk}/cancel/", follow=True)
    assert response.redirect_chain == [(f"/support/django_defer/run/{run.pk}/change/", 302)]
    run.refresh_from_db()
    assert run.state == State.CANCELLED
    gone = admin_client.get("/support/django_defer/run/nonsense/change/")
    assert gone["Location"] == "/support/django_defer/run/"


@pytest.mark.django_db(databases=["default", "other"])
def test_the_rows_of_another_database_are_shown_and_acted_on(
    admin_client: Client, settings: Any
) -> None:
    settings.DEFER = {"DATABASE": "other"}
    sync()
    definition = CronDefinition.objects.get(function="testapp.weekly")
    run = make_run()
    assert run._state.db == "other"
    admin_client.post(f"/admin/django_defer/run/{run.pk}/cancel/")
    run.refresh_from_db()
    assert run.state == State.CANCELLED
    admin_client.post(f"/admin/django_defer/crondefinition/{definition.pk}/run-now/")
    made = Run.objects.get(function="testapp.weekly")
    for page in (f"run/{made.pk}/change", "run", "crondefinition", "backgroundfunction", "cluster"):
        read(admin_client, f"/admin/django_defer/{page}/")
    assert not Run.objects.using("default").exists()


@pytest.mark.django_db
def test_no_page_has_inline_scripts_or_styles(admin_client: Client) -> None:
    sync()
    definition = CronDefinition.objects.get(function="testapp.weekly")
    run = make_slot(definition, ago(days=1), failed=1)
    make_attempt(run)
    pauses.pause(definition, reason="holidays")
    pauses.pause_queue("mail")
    pages = [
        "run/",
        f"run/{run.pk}/change/",
        "crondefinition/",
        f"crondefinition/{definition.pk}/change/",
        "backgroundfunction/",
        "backgroundfunction/testapp.add/change/",
        "cluster/",
        "queue/",
    ]
    for page in pages:
        text = read(admin_client, f"/admin/django_defer/{page}")
        assert 'href="/static/django_defer/admin.css"' in text, page
        assert not re.search(r"<style|<script(?![^>]*\bsrc=)[^>]*>|\sstyle=|\son\w+=", text), page
