"""The GPU report: everything that takes a GPU, checked and measured, section by section.

The questions are in docs/gpu.md.

    report.py     all sections, each in a process of its own, as gpu.md and gpu.json
    section.py    one section: a question, a table, an answer

    switching.py  the switching kernels: right, and how fast
    engines.py    engines: do they run, are they right, where should the bank lie
    ways.py       every way to serve several tasks, as ``packnet bench`` measures it
    sparse.py     2:4: what sparse kernels gain, and whether the guard holds
    samples.py    the packs that are measured; PyTorch draws them
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
