"""
What a class wants to hear, by three priors
===========================================

Activation maximization climbs the output of a network by changing the sound. What it finds depends on what sounds it
may choose from: any waveform with the spectrum of the words, noise whose envelopes alone are chosen, or what a small
decoder of speech can say.
"""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd

from brainmap import data, features, viz

checkpoint = features.load_checkpoint(data.folder() / "networks" / "ch32.safetensors")
network = features.load_network(data.folder() / "networks" / "ch32.safetensors")
sounds = checkpoint.load_sounds(data.folder() / "words" / "stimuli.tsv")
classes = checkpoint.classes
units = [classes.index(word) for word in ("six", "zero", "house")]
real = [list(sounds.items).index(f"{word}_v01") for word in ("six", "zero", "house")]
asked = {"units": units, "sounds": sounds, "class_names": classes}
viz.play_sounds(sounds, items=real, title="Recordings (synthesized voices)")

# %%
# Any waveform: Fourier coefficients scaled by the mean spectrum of the words, and a jitter of 25 ms that keeps the
# pattern from relying on the exact time of its samples. It is a texture to which this network alone responds so
# strongly.
waves = features.MaximizationSettings(steps=150, parameterization="spectrum")
free = features.maximize_activation(network, settings=waves, **asked)
viz.plot_maximization(free, labels=free.class_names, columns=3, title="Any waveform with the spectrum of the words")

# %%
viz.play_sounds(free, labels=free.class_names, title="Any waveform")

# %%
# Does the size of a step decide between texture and shape? Not here: gradients are normalized and the level is held, so
# that steps from 0.03 to 30 end alike. For these three words the gain was 3.2 to 3.5 whatever the step, and networks
# that were not climbed knew .58 to .83 of the patterns, in no order.
steps = (0.03, 0.3, 3.0, 30.0)
recipes = [replace(waves, steps=100, step_size=step, decay="none") for step in steps]
by_step = [features.maximize_activation(network, units=units[:1], sounds=sounds, settings=one) for one in recipes]
patterns = np.concatenate([one.patterns for one in by_step])
shown = SimpleNamespace(patterns=patterns, units=steps, rate=sounds.rate)
viz.plot_maximization(shown, labels=[f"step {step:g}" for step in steps], columns=4, title="six, by the size of a step")

# %%
# Envelopes of noise: the default for classes. Words can be understood from the envelopes of a few bands of noise
# (Shannon et al. 1995). Only these are optimized, and every step draws other noise, so that no fine structure can
# drive the network. When and at what frequencies it listens becomes visible, and other networks respond, too.
envelopes = features.maximize_activation(network, settings=features.MaximizationSettings(steps=150), **asked)
viz.plot_maximization(envelopes, labels=envelopes.class_names, columns=3, title="Noise in bands, with chosen envelopes")

# %%
viz.play_sounds(envelopes, labels=envelopes.class_names, title="Envelopes of noise")

# %%
# Speech: the latent of a decoder is climbed, a source and filter model of a voice that travels with brainmap.
spoken = features.maximize_activation(network, decoder=features.load_decoder(), **asked)
viz.plot_maximization(spoken, labels=spoken.class_names, columns=3, title="What the decoder can say")

# %%
viz.play_sounds(spoken, labels=spoken.class_names, title="The decoder of speech")

# %%
# Which is better depends on the question. ``gain`` is the activation over that of the best recording: the free pattern
# drives the class several times as well as any word does, that of envelopes about twice, and the decoder's about as
# well as the best one, but it sounds like it.
columns = [c for c in ("class_name", "activation", "best_real", "gain", "centroid_hz") if c in free.quality]
patterns = {"free": free, "envelopes": envelopes, "decoder": spoken}
pd.concat({name: one.quality[columns] for name, one in patterns.items()}).round(2)
