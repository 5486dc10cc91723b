"""The marketplace's own pages of the admin."""

from __future__ import annotations

from django.contrib import admin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin

from demo_site.marketplace.models import Product, Purchase, User


@admin.register(User)
class UserAdmin(DjangoUserAdmin):
    """Django's page, with the opt-in."""

    list_display = ("username", "email", "weekly_recommendations", "is_staff")
    list_filter = ("weekly_recommendations", "is_staff")
    fieldsets = (
        *DjangoUserAdmin.fieldsets,
        ("Marketplace", {"fields": ("weekly_recommendations",)}),
    )


@admin.register(Product)
class ProductAdmin(admin.ModelAdmin):
    """Products by category."""

    list_display = ("name", "category", "price")
    list_filter = ("category",)
    search_fields = ("name",)


@admin.register(Purchase)
class PurchaseAdmin(admin.ModelAdmin):
    """Who bought what."""

    list_display = ("user", "product", "bought_at")
    list_select_related = ("user", "product")
    search_fields = ("user__username", "product__name")
    autocomplete_fields = ("user", "product")
