"""What became of items that were scored together: columns of answers, and what stands apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property

from ...integrations.ledger.answers import JobLabels, Outcomes
from ...integrations.ledger.columns import Columns
from ...schemas.errors import PrelabelError
from ...schemas.items import Item
from ...schemas.predictions import Outcome
from ..embedding.items import EmbeddedItem


class Scored:
    """What became of items that were scored together.

    Args:
        whole: which of the items got all their answers, ascending.
        columns: those answers; None where there are none.
        labels: of the job.
        others: of every other item, by its place, the outcome that says what is missing, or why it has none.

    Attributes:
        whole: as given.
        columns: as given.
        labels: as given.
        others: as given.
    """

    def __init__(
        self,
        whole: Sequence[int],
        columns: Columns | None,
        labels: JobLabels,
        others: Mapping[int, Outcome | PrelabelError],
    ) -> None:
        self.whole = whole
        self.columns = columns
        self.labels = labels
        self.others = others

    @cached_property
    def _outcomes(self) -> Outcomes:
        if self.columns is None:
            raise LookupError("no item has all its answers")
        return Outcomes(self.columns, self.labels)

    def outcome(self, at: int, item: Item) -> Outcome:
        """The outcome of one with all its answers, made now.

        Args:
            at: its place in `whole`.
            item: the item.
        """
        return self._outcomes.outcome(at, item)

    def each(self, items: Sequence[EmbeddedItem]) -> list[Outcome | PrelabelError]:
        """What became of each item, all of it made now."""
        made = {i: self.outcome(at, items[i].item) for at, i in enumerate(self.whole)}
        return [made[i] if i in made else self.others[i] for i in range(len(items))]
