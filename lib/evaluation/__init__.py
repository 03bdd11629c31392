"""Metrics, intervals, evaluations and the scoreboard."""
