"""Measurements against django-q2's own broker, on PostgreSQL: `python -m tests.benchmarks`.

They are no tests: nothing here asserts a time. What is compared is measured in one run, in turns,
so that the ratios mean something on a machine that does other things too.

A topic (throughput, latency, enqueueing, schedules, recovery, …) is a module with a function
that takes an `Arena` and returns a `Report`; `__main__.TOPICS` lists them. This package is also a
Django app, whose `defer.py` and `functions.py` hold what is executed.
"""
