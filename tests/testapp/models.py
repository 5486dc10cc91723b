"""A few models to pass as arguments and to write to."""

from __future__ import annotations

import uuid

from django.contrib.auth.models import AbstractBaseUser
from django.db import models


class Customer(models.Model):
    """Somebody to compute something for."""

    name = models.CharField(max_length=100)
    opted_in = models.BooleanField(default=True)

    def __str__(self) -> str:
        return self.name


class Token(models.Model):
    """A model whose key is no integer."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)

    def __str__(self) -> str:
        return str(self.id)


class Effect(models.Model):
    """One visible effect of a function: a test counts these."""

    name = models.CharField(max_length=100)
    detail = models.CharField(max_length=200, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return self.name


class Member(AbstractBaseUser):
    """A project's own user model (`AUTH_USER_MODEL`), as small as can be, with a key of its own."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    username = models.CharField(max_length=100, unique=True)

    USERNAME_FIELD = "username"

    def __str__(self) -> str:
        return self.username
