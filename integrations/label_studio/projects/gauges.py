"""Where the tasks of the projects stand, as Prometheus gauges: the figures that were taken last."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from ....schemas import PrelabelError
from . import figures
from .register import Projects


class FigureGauges(Collector):
    """Tasks by project and state. Without values where Redis does not answer.

    Args:
        projects: which projects, and where their figures are kept.
    """

    def __init__(self, projects: Projects) -> None:
        self._projects = projects

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """All gauges."""
        tasks = GaugeMetricFamily(
            "prelabel_project_tasks", "Tasks of a Label Studio project by where they stand", labels=["project", "state"]
        )
        annotated = GaugeMetricFamily(
            "prelabel_project_annotated", "Tasks of a Label Studio project with an annotation", labels=["project"]
        )
        counted = GaugeMetricFamily(
            "prelabel_project_counted_seconds", "When they were counted, Unix seconds", labels=["project"]
        )
        try:
            known = figures.last(self._projects, self._projects.numbers())
        except PrelabelError:
            known = {}
        for number, one in known.items():
            for state, _, count in one.told():
                tasks.add_metric([str(number), state], count)
            annotated.add_metric([str(number)], one.annotated)
            counted.add_metric([str(number)], one.counted_at)
        yield from (tasks, annotated, counted)

    def describe(self) -> list[GaugeMetricFamily]:
        """Nothing is known before it is asked for."""
        return []
