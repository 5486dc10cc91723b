"""The app of the marketplace: users, products, purchases, and a weekly mail."""
