"""System checks. Placeholder until each id has its function."""
