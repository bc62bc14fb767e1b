"""Pictures, and the report page.

Names are loaded at their first use, so that importing this package stays cheap; `__init__.pyi` lists them.
"""

import lazy_loader

if __name__ != "brainmap.viz":
    raise ImportError("import brainmap.viz, not viz")

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
