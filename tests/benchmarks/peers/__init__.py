"""django-defer beside the queues one would otherwise pick: `make bench-peers`.

Each is at the best settings that its own documentation names, on the same machine and in the same
run, in turns: two worker processes that execute one no-op at a time. What a queue keeps is part of
the table, since one that keeps nothing has less to do.

`lineup` says who takes part. A module a peer (`Queue` in `referee` is what it has to have) is only
imported by processes of that peer: what it needs is installed in `.venvs/peers` and nowhere else.
"""
