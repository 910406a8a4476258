"""What a scrape holds, as Prometheus's own client reads it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Self

import aiohttp
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_families
from prometheus_client.parser import text_string_to_metric_families

Sample = tuple[str, tuple[tuple[str, str], ...]]


@dataclass
class Scrape:
    """`types` by family, `labels`: the values that each label of each family has, `samples` by name and labels."""

    text: str
    types: dict[str, str] = field(default_factory=dict)
    labels: dict[str, dict[str, set[str]]] = field(default_factory=dict)
    samples: dict[Sample, float] = field(default_factory=dict)

    @classmethod
    def of(cls, text: str, families: Callable[[str], Any] = text_string_to_metric_families) -> Self:
        scrape = cls(text)
        for family in families(text):
            assert family.documentation, f"{family.name} is not explained"
            scrape.types[family.name] = family.type
            known = scrape.labels.setdefault(family.name, {})
            for sample in family.samples:
                for label, value in sample.labels.items():
                    if label != "le":
                        known.setdefault(label, set()).add(value)
                scrape.samples[sample.name, tuple(sorted(sample.labels.items()))] = sample.value
        return scrape

    def value(self, name: str, **labels: str) -> float:
        """The value of the sample with that name and exactly these labels."""
        return self.samples[name, tuple(sorted(labels.items()))]

    def has(self, name: str) -> bool:
        return any(sample == name for sample, _ in self.samples)


async def scraped(url: str, accept: str | None = None, connector: aiohttp.BaseConnector | None = None) -> Scrape:
    headers = {} if accept is None else {"Accept": accept}
    async with aiohttp.ClientSession(connector=connector) as http, http.get(url, headers=headers) as answer:
        text = await answer.text()
        assert answer.status == 200, text
        kind = answer.headers["Content-Type"]
    if kind.startswith("application/openmetrics-text"):
        return Scrape.of(text, open_families)
    assert kind == "text/plain; version=0.0.4; charset=utf-8"
    return Scrape.of(text)
