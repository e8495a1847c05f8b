"""Metrics with intervals, predictions, probes."""
