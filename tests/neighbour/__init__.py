"""An app of a project that uses django-q2 for itself."""
