"""List the layers of a network, with their names, outputs and receptive fields, and run networks."""
