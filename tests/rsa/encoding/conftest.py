"""Simulated features and responses: planted layers, repetitions, words with several tokens."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray
from rsatoolbox.data.dataset import Dataset


@dataclass
class Features:
    """A feature set in memory."""

    arrays: dict[str, NDArray[np.float64]]
    items: list[str]
    conditions: list[str]

    @property
    def layers(self) -> list[str]:
        return list(self.arrays)

    def __getitem__(self, layer: str) -> NDArray[np.float64]:
        return self.arrays[layer]

    def __iter__(self):
        return iter(self.arrays)

    def take(self, order) -> Features:
        """The same features of some items, in another order."""
        arrays = {name: x[order] for name, x in self.arrays.items()}
        return Features(arrays, [self.items[k] for k in order], [self.conditions[k] for k in order])


class World:
    """What simulated studies are made of."""

    Features = Features

    @staticmethod
    def features(rng, *, n_items=96, layers=("conv1", "conv2", "conv3"), n_units=30, conditions=None):
        items = [f"sound{k:03d}" for k in range(n_items)]
        arrays = {name: rng.normal(size=(n_items, n_units)) for name in layers}
        return Features(arrays, items, items if conditions is None else list(conditions))

    @staticmethod
    def responses(rng, signal, items, *, reliability=0.5, n_runs=2, conditions=None, roi=None) -> Dataset:
        """Signals `(n_items, n_voxels)` of unit variance with noise: the mean over runs has the given reliability."""
        noise = np.sqrt(n_runs * (1 - reliability) / reliability)
        values = [signal + noise * rng.normal(size=signal.shape) for _ in range(n_runs)]
        channels = {"voxel": np.arange(signal.shape[1])}
        if roi is not None:
            channels["roi"] = np.array(roi)
        return Dataset(
            np.concatenate(values),
            obs_descriptors={
                "stimulus_id": list(items) * n_runs,
                "condition": list(conditions or items) * n_runs,
                "run": np.repeat([str(k + 1) for k in range(n_runs)], len(items)),
            },
            channel_descriptors=channels,
        )

    @staticmethod
    def plant(rng, x, n_voxels):
        """Signals of unit variance: random weights on the z-scored units of a layer."""
        z = (x - x.mean(0)) / x.std(0)
        signal = z @ rng.normal(size=(x.shape[1], n_voxels))
        return (signal - signal.mean(0)) / signal.std(0)


@pytest.fixture
def world():
    return World
