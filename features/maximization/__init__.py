"""Activation maximization: sounds that drive a unit, a channel, a layer or a class most."""
