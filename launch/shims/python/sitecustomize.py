"""Leads libraries that do not look at the proxy variables through the proxy.

The work is in _authsome_route.py, beside this file. Here is only what must not
fail in any Python that finds this directory on PYTHONPATH, 2.7 among them: it
starts that work, then makes way for the sitecustomize that would have been
found without this one.
"""


def _route():
    try:
        import sys
        if sys.version_info >= (3, 7) and sys.implementation.name in ("cpython", "pypy"):
            import _authsome_route
            _authsome_route.install()
    except Exception:  # a program works without
        pass


def _next():
    import os
    import sys
    here = os.path.realpath(os.path.dirname(os.path.abspath(__file__)))
    path = [p for p in sys.path if os.path.realpath(p or os.curdir) != here]
    if sys.version_info[0] < 3:
        import imp
        try:
            found = imp.find_module("sitecustomize", path)
        except ImportError:
            return
        try:
            imp.load_module("sitecustomize", *found)
        finally:
            if found[0]:
                found[0].close()
        return
    from importlib.machinery import PathFinder
    from importlib.util import module_from_spec
    spec = PathFinder.find_spec("sitecustomize", path)
    if spec is None or spec.loader is None:
        return
    module = module_from_spec(spec)
    sys.modules["sitecustomize"] = module
    spec.loader.exec_module(module)  # what it raises is for site to report


_route()
_next()
