"""Users who may opt in to a weekly mail, products, and who bought what."""

from __future__ import annotations

from django.contrib.auth.models import AbstractUser
from django.db import models


class User(AbstractUser):
    """A customer, or a member of staff."""

    weekly_recommendations = models.BooleanField(
        default=False, help_text="Wants a mail with recommendations every Monday."
    )


class Product(models.Model):
    """Something to buy."""

    name = models.CharField(max_length=100, unique=True)
    category = models.CharField(max_length=50)
    price = models.DecimalField(max_digits=8, decimal_places=2)

    class Meta:
        ordering = ("name",)

    def __str__(self) -> str:
        return self.name


class Purchase(models.Model):
    """A user bought a product."""

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="purchases")
    product = models.ForeignKey(Product, on_delete=models.CASCADE, related_name="purchases")
    bought_at = models.DateTimeField()

    class Meta:
        ordering = ("-bought_at",)
        constraints = (
            models.UniqueConstraint(fields=["user", "product"], name="marketplace_buys_once"),
        )

    def __str__(self) -> str:
        return f"{self.product} for {self.user}"
