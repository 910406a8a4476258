"""The alerts and the dashboard in config/ hold, and ask only for metrics that the running programs have."""

import json
import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from tests.integration.agent.test_control import HEALTH
from tests.support.metrics import Scrape, scraped
from tests.support.processes import Program
from tests.support.system import control_plane
from tests.support.target import Target

ROOT = Path(__file__).parents[2]
ALERTS, DASHBOARD = ROOT / "config/prometheus-alerts.yml", ROOT / "config/grafana-dashboard.json"
CASES = Path(__file__).with_name("alerts.yml")
OF_PROMETHEUS = {"job", "instance"}
"""Labels that each sample gets when it is scraped."""
SELECTOR = re.compile(r"\b((?:presence_\w+|up)\b)(?:\{([^}]*)\})?")
MATCHER = re.compile(r'(\w+)(=~|!=|!~|=)"([^"]*)"')
GROUPING = re.compile(r"\b(?:by|without) \(([^)]*)\)")
COLUMNS = 24


def promtool(*arguments: str | Path) -> str:
    done = subprocess.run(["promtool", *arguments], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]


def dashboard() -> dict[str, Any]:
    return dict(json.loads(DASHBOARD.read_text()))


def panels() -> list[dict[str, Any]]:
    return list(dashboard()["panels"])


def expressions() -> Iterator[tuple[str, str]]:
    """Where each stands, and what it asks for."""
    for rule in rules():
        yield f"alert {rule['alert']}", rule["expr"]
    for panel in panels():
        for target in panel.get("targets", []):
            yield f"panel {panel['title']}", target["expr"]
    for variable in dashboard()["templating"]["list"]:
        if variable["type"] == "query":
            yield f"variable {variable['name']}", variable["definition"]


class Selected(NamedTuple):
    """What one expression asks for: a metric, with the words that a label may have; the labels that it groups by."""

    metric: str
    matchers: list[tuple[str, str]]
    labels: set[str]


def selected(expression: str) -> list[Selected]:
    grouping = GROUPING.findall(expression)
    labels = {label.strip() for words in grouping for label in words.split(",")}
    return [
        Selected(name, [(label, value) for label, _, value in MATCHER.findall(matchers)], labels)
        for name, matchers in SELECTOR.findall(expression)
    ]


def faults(scrape: Scrape, asked: Selected) -> Iterator[str]:
    if asked.metric == "up":
        return
    if not scrape.has(asked.metric):
        yield f"{asked.metric} does not exist"
        return
    has: dict[str, set[str]] = {}
    for name, labels in scrape.samples:
        if name == asked.metric:
            for label, value in labels:
                has.setdefault(label, set()).add(value)
    known = has.keys() | OF_PROMETHEUS
    for label in ({label for label, _ in asked.matchers} | asked.labels) - known:
        yield f"{asked.metric} has no label {label}"
    for label, value in asked.matchers:
        words = value.split("|")
        # A status is any of very many, and a variable any that the reader chooses.
        if label in has and label != "status" and not value.startswith("$") and not set(words) <= has[label]:
            yield f"{asked.metric} has no {label} {value}"


def test_promtool_finds_no_fault_in_the_rules() -> None:
    assert "SUCCESS" in promtool("check", "rules", ALERTS)


def test_the_alerts_fire_when_they_should() -> None:
    assert "SUCCESS" in promtool("test", "rules", CASES)


def test_every_alert_says_what_is_wrong_and_what_to_do() -> None:
    for rule in rules():
        assert rule["annotations"].keys() == {"summary", "description", "remedy"}, rule["alert"]
        assert rule["labels"]["severity"] in {"critical", "warning", "info"}
    names = Counter(rule["alert"] for rule in rules())
    assert set(names.values()) == {1}


def test_every_alert_is_tried() -> None:
    tried = CASES.read_text()
    untried = {rule["alert"] for rule in rules() if rule["alert"] not in tried}
    assert untried == set()


def test_what_an_expression_asks_for_is_read() -> None:
    """The check of the check."""
    asked = selected('sum by (job, le) (rate(presence_a_bucket{instance=~"$agent",state="x"}[5m])) / up > 1')
    assert [found.metric for found in asked] == ["presence_a_bucket", "up"]
    assert asked[0].matchers == [("instance", "$agent"), ("state", "x")]
    assert asked[0].labels == {"job", "le"}
    scrape = Scrape.of('# HELP presence_a x\n# TYPE presence_a gauge\npresence_a{state="y"} 1\n')
    wrong = 'sum by (host) (presence_a{state="x"}) + presence_b'
    assert {fault for found in selected(wrong) for fault in faults(scrape, found)} == {
        "presence_a has no label host",
        "presence_a has no state x",
        "presence_b does not exist",
    }


async def test_alerts_and_dashboard_ask_for_what_there_is(tmp_path: Path) -> None:
    cloud_directory, agent_directory = tmp_path / "cloud", tmp_path / "agent"
    cloud_directory.mkdir()
    agent_directory.mkdir()
    async with Target() as target, control_plane(cloud_directory) as cloud:
        await cloud.api.webhook(cloud.presence_id, target.url())
        async with Program("run", env=cloud.agent_env(agent_directory, **HEALTH)) as agent:
            (delivery,) = await cloud.api.event()
            await cloud.api.ended(delivery)
            place = (await agent.said("started"))["health"][0]
            both = [await scraped(f"http://{place}/metrics"), await scraped(f"{cloud.api.url}/metrics")]
    scrape = Scrape("", samples=both[0].samples | both[1].samples)
    found = {
        f"{where}: {fault}"
        for where, asked in expressions()
        for one in selected(asked)
        for fault in faults(scrape, one)
    }
    assert found == set()
    shown = {one.metric for _, asked in expressions() for one in selected(asked)}
    of_families = {name for one in both for name in one.types if not name.endswith("_created")}
    unused = {name for name in of_families if not any(metric.startswith(name) for metric in shown)}
    assert unused == UNUSED


UNUSED = {
    "presence_agent_link_changes",
    "presence_agent_journal_deliveries",
    "presence_agent_process_start_time_seconds",
    "presence_agent_process_virtual_memory_bytes",
    "presence_agent_process_open_fds",
    "presence_agent_process_max_fds",
}
"""For whoever looks closer: neither an alert nor the dashboard needs them."""


def test_the_dashboard_is_whole() -> None:
    board = dashboard()
    variables = {variable["name"]: variable for variable in board["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource"
    every = panels()
    assert {count for _, count in Counter(panel["id"] for panel in every).items()} == {1}
    for panel in every:
        assert panel["title"]
        if panel["type"] == "row":
            continue
        assert panel["datasource"]["uid"] == "${datasource}"
        refs = [target["refId"] for target in panel["targets"]]
        assert len(refs) == len(set(refs)) > 0
        for target in panel["targets"]:
            assert target["datasource"]["uid"] == "${datasource}"
            used = set(re.findall(r"\$(\w+)", target["expr"])) - {"__rate_interval"}
            assert used <= variables.keys()


def test_no_panel_covers_another_or_is_outside() -> None:
    places = [(panel["title"], panel["gridPos"]) for panel in panels()]
    for title, place in places:
        assert min(place["x"], place["y"]) >= 0, title
        assert min(place["w"], place["h"]) > 0, title
        assert place["x"] + place["w"] <= COLUMNS, title
    for (one, a), (other, b) in combinations(places, 2):
        beside = a["x"] + a["w"] <= b["x"] or b["x"] + b["w"] <= a["x"]
        below = a["y"] + a["h"] <= b["y"] or b["y"] + b["h"] <= a["y"]
        assert beside or below, (one, other)


def test_every_expression_is_one_that_prometheus_reads(tmp_path: Path) -> None:
    """As a recording rule, since promtool checks those."""
    read = [re.sub(r"\$__rate_interval", "5m", asked) for where, asked in expressions() if where.startswith("panel")]
    group = {"name": "g", "rules": [{"record": f"r{number}", "expr": asked} for number, asked in enumerate(read)]}
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": [group]}))
    assert f"{len(read)} rules found" in promtool("check", "rules", tmp_path / "rules.yml")
