"""`manage.py load_marketplace`: the same users, products and purchases on every machine."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from django.contrib.auth.hashers import make_password
from django.core.management.base import BaseCommand
from django.db import transaction

from demo_site.marketplace.models import Product, Purchase, User

USERS: Final = 400
PURCHASES: Final = (5, 12)  # a user: fewest, most
TASTE: Final = 0.8  # of a user's purchases are from the two categories they like
OPENED: Final = datetime(2025, 1, 1, 9, tzinfo=UTC)

GOODS: Final = {
    "garden": "rake spade hose trowel secateurs wheelbarrow gloves planter trellis compost",
    "kitchen": "kettle skillet whisk colander grater ladle teapot mortar apron saucepan",
    "music": "banjo cello flute harmonica ukulele metronome capo reed drumsticks tambourine",
    "outdoors": "tent lantern compass rucksack hammock stove canteen tarpaulin map boots",
    "paper": "notebook envelope fountain-pen inkwell ruler calendar sketchbook stamp folder glue",
    "toys": "kite marbles yo-yo puzzle domino dollhouse top railway blocks rocking-horse",
}
FIRST_NAMES: Final = (
    "Ada",
    "Ben",
    "Chloe",
    "Dev",
    "Elif",
    "Finn",
    "Grace",
    "Hugo",
    "Ines",
    "Jonas",
)
LAST_NAMES: Final = ("Abbot", "Berg", "Costa", "Diaz", "Eder", "Fuchs", "Gruber", "Haas", "Ito")


class Command(BaseCommand):
    """Load the sample data, once."""

    help = "Load the sample data of the marketplace, unless it is there already."

    def handle(self, *args: Any, **options: Any) -> None:
        """Load what is missing: everything, or nothing."""
        if not Product.objects.exists():
            load(random.Random("marketplace"))  # noqa: S311 - the same on every machine
        self.stdout.write(
            f"{User.objects.filter(weekly_recommendations=True).count()} users who opted in, "
            f"{Product.objects.count()} products, {Purchase.objects.count()} purchases."
        )


@transaction.atomic
def load(chance: random.Random) -> None:
    """Make users with a taste, products, and purchases that follow the taste."""
    products = Product.objects.bulk_create(
        Product(name=name.capitalize(), category=category, price=price(chance))
        for category, names in GOODS.items()
        for name in names.split()
    )
    users = User.objects.bulk_create(make_user(number) for number in range(1, USERS + 1))
    Purchase.objects.bulk_create(
        purchase for user in users for purchase in shopping(user, products, chance)
    )


def make_user(number: int) -> User:
    """Return user `number`, who cannot log in; three of four opted in."""
    username = f"customer{number:03}"
    return User(
        username=username,
        first_name=FIRST_NAMES[number % len(FIRST_NAMES)],
        last_name=LAST_NAMES[number % len(LAST_NAMES)],
        email=f"{username}@example.com",
        password=make_password(None),
        weekly_recommendations=number % 4 != 0,
    )


def shopping(user: User, products: list[Product], chance: random.Random) -> list[Purchase]:
    """Return what a user bought: mostly from the two categories they like."""
    liked = chance.sample(sorted(GOODS), 2)
    weights = [TASTE if product.category in liked else 1 - TASTE for product in products]
    bought = set(chance.choices(range(len(products)), weights, k=chance.randint(*PURCHASES)))
    return [
        Purchase(
            user=user,
            product=products[index],
            bought_at=OPENED + timedelta(minutes=chance.randrange(500_000)),
        )
        for index in sorted(bought)
    ]


def price(chance: random.Random) -> Decimal:
    """Return a price that ends with 90 cents."""
    return Decimal(chance.randint(3, 90)) + Decimal("0.90")
