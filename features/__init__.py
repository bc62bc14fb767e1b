"""Analyze audio networks: sounds, networks, activations, activation maximization, class activation maps.

Names are loaded at their first use, so that importing this package stays cheap; `__init__.pyi` lists them.
"""

import lazy_loader

if __name__ != "brainmap.features":
    raise ImportError("import brainmap.features, not features")

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
