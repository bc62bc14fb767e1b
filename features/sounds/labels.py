"""Read the ids and conditions of sounds from their table."""

from __future__ import annotations

import pandas as pd


class LabeledSounds:
    """Give the items and conditions of a table with one row per sound (`stimulus_id`, `condition`)."""

    table: pd.DataFrame

    def __len__(self) -> int:
        return len(self.table)

    @property
    def items(self) -> list[str]:
        """List the stimulus ids."""
        return [str(s) for s in self.table["stimulus_id"]]

    @property
    def conditions(self) -> list[str]:
        """List the word or category of each sound."""
        return [str(c) for c in self.table["condition"]]

    @property
    def class_names(self) -> list[str]:
        """List the conditions in the order in which they first occur."""
        return list(dict.fromkeys(self.conditions))
