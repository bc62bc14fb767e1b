"""Small Keras networks with random weights and statistics, built on the spot."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np

from brainmap.features.networks.keras_graph import import_keras

SAMPLES = 400
NAMES = ("cnn", "flat", "odd", "recurrent", "picture", "first")


def build_keras(name: str) -> Any:
    """Build a Keras network by its name; weights, also those of normalizations, are random."""
    keras = import_keras()
    keras.utils.set_random_seed(0)
    network = {"cnn": _cnn, "flat": _flat, "odd": _odd, "recurrent": _recurrent, "picture": _picture, "first": _first}[
        name
    ](keras, keras.layers)
    rng = np.random.default_rng(1)
    for one in network.variables:
        if one.name in ("gamma", "moving_variance"):
            one.assign(rng.uniform(0.5, 2.0, one.shape))
        elif one.name in ("beta", "bias", "moving_mean"):
            one.assign(rng.normal(0, 0.3, one.shape))
    return network


def save_keras(network: Any, path: Path) -> Path:
    """Save a network; Keras warns of the older format."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network.save(path)
    return path


def predict(network: Any, given: Any) -> np.ndarray:
    """Let Keras predict; its conversion of tensors to arrays warns."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return np.asarray(network.predict(given, verbose=0))


def _cnn(keras: Any, layers: Any) -> Any:
    return keras.Sequential([
        keras.Input((SAMPLES, 1)),
        layers.Conv1D(4, 9, padding="same", name="conv1"), layers.BatchNormalization(name="norm1"),
        layers.ReLU(name="relu1"), layers.MaxPooling1D(4, name="pool1"),
        layers.Conv1D(6, 5, activation="relu", name="conv2"),
        layers.GlobalAveragePooling1D(name="mean"), layers.Dense(4, activation="softmax", name="classes"),
    ])  # fmt: skip


def _flat(keras: Any, layers: Any) -> Any:
    inner = keras.Sequential(
        [layers.Conv1D(3, 5, padding="causal", dilation_rate=2, name="conv"), layers.Activation("tanh", name="act")],
        name="inner",
    )
    return keras.Sequential([
        keras.Input((SAMPLES,)), layers.Reshape((SAMPLES, 1)), inner, layers.Dropout(0.5), layers.Flatten(),
        layers.Dense(5, name="hidden"), layers.LeakyReLU(negative_slope=0.1), layers.Dense(4, name="classes"),
    ])  # fmt: skip


def _odd(keras: Any, layers: Any) -> Any:
    """Everything whose arithmetic differs between Keras and torch: same padding with strides, branches, separable."""
    given = keras.Input((SAMPLES, 1))
    x = layers.Conv1D(6, 8, strides=3, padding="same", activation="elu", name="strided")(given)
    y = layers.Conv1D(6, 2, padding="same", groups=2, name="even")(x)
    x = layers.Concatenate()([layers.Add()([x, y]), y])
    x = layers.SeparableConv1D(5, 4, padding="same", activation="silu", name="separable")(x)
    x = layers.DepthwiseConv1D(3, depth_multiplier=2, name="depthwise")(x)
    x = layers.LayerNormalization(name="norm")(x)
    x = layers.Dense(7, activation="gelu", name="dense")(x)
    x = layers.MaxPooling1D(3, padding="same")(x) * 2.0
    x = layers.AveragePooling1D(2, padding="same")(x)
    return keras.Model(given, layers.Dense(4, name="classes")(layers.GlobalMaxPooling1D()(x)))


def _recurrent(keras: Any, layers: Any) -> Any:
    given = keras.Input((SAMPLES, 1))
    x = layers.Conv1D(4, 9, strides=8, activation="relu", name="conv")(given)
    x = layers.Bidirectional(layers.LSTM(3, return_sequences=True), name="both")(x)
    return keras.Model(given, layers.Dense(4, name="classes")(layers.GRU(5, name="gru")(x)))


def _picture(keras: Any, layers: Any) -> Any:
    return keras.Sequential([
        keras.Input((20, 24, 1)), layers.Conv2D(4, (5, 4), strides=2, padding="same", name="conv"),
        layers.BatchNormalization(), layers.Activation("relu"), layers.ZeroPadding2D(((1, 2), (0, 1))),
        layers.MaxPooling2D(2), layers.Flatten(), layers.Dense(4, activation="sigmoid", name="classes"),
    ])  # fmt: skip


def _first(keras: Any, layers: Any) -> Any:
    """A network with the channels first, as torch has them."""
    return keras.Sequential([
        keras.Input((1, SAMPLES)), layers.Conv1D(4, 5, data_format="channels_first", name="conv"),
        layers.BatchNormalization(axis=1), layers.ReLU(), layers.MaxPooling1D(4, data_format="channels_first"),
        layers.GlobalAveragePooling1D(data_format="channels_first"), layers.Dense(4, name="classes"),
    ])  # fmt: skip
