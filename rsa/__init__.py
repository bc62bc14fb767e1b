"""What network and brain share: images, patterns, RDMs, comparison, inference, searchlight, group.

Names are loaded at their first use, so that importing this package stays cheap; `__init__.pyi` lists them.
"""

import lazy_loader

if __name__ != "brainmap.rsa":
    raise ImportError("import brainmap.rsa, not rsa")

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
