"""What to recommend: products bought by people who bought the same things."""

from __future__ import annotations

from django.db.models import Count, QuerySet

from demo_site.marketplace.models import Product, Purchase, User


def recommended_products(user: User, count: int = 3) -> QuerySet[Product]:
    """Return up to `count` products that `user` does not have, the most bought first."""
    own = Purchase.objects.filter(user=user).values("product")
    alike = Purchase.objects.filter(product__in=own).exclude(user=user).values("user")
    candidates = Product.objects.filter(purchases__user__in=alike).exclude(pk__in=own)
    return candidates.annotate(buyers=Count("purchases")).order_by("-buyers", "name")[:count]
