"""The layers of a network: their names, their outputs, their receptive fields, and running them."""
