"""What the server counts, for Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Measures:
    """Counters of one server, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "search_requests",
            "Requests by route, method and status.",
            ("route", "method", "status"),
            registry=self.registry,
        )
        self.seconds = Histogram(
            "search_request_seconds",
            "Seconds to answer a request.",
            ("route",),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.in_flight = Gauge("search_requests_in_flight", "Requests at work.", registry=self.registry)
        self.batches = Histogram(
            "search_encoder_batch_size",
            "Queries per run of the backbone.",
            buckets=(1, 2, 4, 8),
            registry=self.registry,
        )
        self.waiting = Gauge("search_encoder_waiting", "Queries that wait for the backbone.", registry=self.registry)
        self.text_hits = Gauge("search_text_cache_hits", "Texts that were known already.", registry=self.registry)
        self.text_misses = Gauge("search_text_cache_misses", "Texts that had to be embedded.", registry=self.registry)
        self.items = Gauge("search_catalogue_items", "Items that are searched.", registry=self.registry)

    def request(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count an answered request; a path that is no route counts as `other`."""
        self.requests.labels(route, method, str(status)).inc()
        self.seconds.labels(route).observe(seconds)

    def text(self) -> bytes:
        """Everything in Prometheus' text format."""
        return generate_latest(self.registry)
