"""Find sounds that activate a unit, a channel, a layer or a class most."""
