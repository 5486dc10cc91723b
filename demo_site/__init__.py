"""A small marketplace on django-defer: `python -m demo_site`, or code to copy from."""
