"""Metrics for Prometheus, from what the database says: any process may be asked, all say the same.

Runs are counted in a window that ends now, in gauges. A counter would have to be kept by every
outcome; one made of the rows there are goes down when runs are pruned, which Prometheus takes for
a restart and counts all of them again. `collector` alone imports prometheus_client.
"""
