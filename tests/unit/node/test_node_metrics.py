"""Metrics as Prometheus' own parser reads them."""

from glasslog.node.metrics import Metric, counter, gauge, render
from prometheus_client.parser import text_string_to_metric_families


def test_what_is_rendered_is_what_is_parsed() -> None:
    odd = 'quo"te\\back\nline'
    metrics = [
        gauge("a_gauge", "with a\nline and a \\", 1.5),
        counter("things_total", "count", 3),
        Metric(name="log_size", help="bytes", samples=(({"topic": odd, "partition": "0"}, 12),)),
        Metric(name="empty", help="nothing", samples=()),
    ]
    found = {family.name: family for family in text_string_to_metric_families(render(metrics).decode())}
    assert found["a_gauge"].samples[0].value == 1.5
    assert found["a_gauge"].documentation == "with a\nline and a \\"
    assert found["things"].type == "counter"
    assert found["things"].samples[0].name == "things_total"
    assert found["log_size"].samples[0].labels == {"topic": odd, "partition": "0"}


def test_nothing_renders_to_nothing() -> None:
    assert render([]) == b""
