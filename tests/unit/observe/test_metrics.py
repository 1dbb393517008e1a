"""What is written as Prometheus text, read again by prometheus-client's own parser."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.parser import text_string_to_metric_families

from trunkline.observe.metric_table import MetricTable
from trunkline.observe.metrics import Publisher, render_metrics

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def samples_of(text: str) -> Samples:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8) | st.sampled_from(
    ['a"b', "a\\nb", "{x}", "a\nb", ""]
)


@given(st.dictionaries(st.tuples(texts, texts), st.floats(0, 1e18) | st.integers(0, 1 << 60), max_size=5))
def test_a_table_says_what_was_counted(values: dict[tuple[str, ...], float]) -> None:
    counter = MetricTable("events", "All events.", ["to", "from"], kind="counter")
    gauge = MetricTable("now", "Events now.", ["to", "from"], kind="gauge")
    for _ in range(2):
        gauge.replace({("gone", "gone"): 1.0})
        gauge.replace(values)
        for labels, value in values.items():
            counter.add(labels, value)
    expected = {(("from", source), ("to", target)): float(value) for (target, source), value in values.items()}
    assert samples_of(counter.text()) == {("events_total", key): value * 2 for key, value in expected.items()}
    assert samples_of(gauge.text()) == {("now", key): value for key, value in expected.items()}


def test_a_table_forgets_labels_that_went() -> None:
    gauge = MetricTable("now", "Events now.", ["replay"], kind="gauge")
    for number in range(100):
        gauge.replace({(str(number),): 1})
        assert samples_of(gauge.text()) == {("now", (("replay", str(number)),)): 1.0}
    assert len(gauge._beginnings) <= 2


def test_all_processes_are_told_as_one(tmp_path: Path) -> None:
    for process, count in (("one", 1), ("two", 2)):
        registry = CollectorRegistry()
        Counter("plain", "No labels.", registry=registry).inc(count)
        Counter("by", "By a label.", ["a"], registry=registry).labels('{"x" 1}').inc(count)
        Histogram("took_seconds", "Time.", buckets=(1,), registry=registry).observe(count)
        table = MetricTable("lanes", "Lanes.", ["lane"], kind="gauge")
        table.replace({("a\rb\u2028",): count})
        Publisher(registry, tmp_path, process, [table]).publish()
    text = render_metrics(tmp_path).decode()
    samples = samples_of(text)
    for process, count in (("one", 1), ("two", 2)):
        own = ("process", process)
        assert samples["plain_total", (own,)] == count
        assert samples["by_total", (("a", '{"x" 1}'), own)] == count
        assert samples["took_seconds_sum", (own,)] == count
        assert samples["took_seconds_bucket", (("le", "1.0"), own)] == (count == 1)
        assert samples["lanes", (("lane", "a\rb\u2028"), own)] == count
    heads = [line for line in text.splitlines() if line.startswith("# TYPE")]
    assert len(heads) == len(set(heads)) == 4
    assert len(samples) == 2 * (1 + 1 + 4 + 1)
