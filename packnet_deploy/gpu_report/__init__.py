"""The GPU report: everything that takes a GPU, checked and measured, section by section.

The questions are in docs/gpu.md.

    report.py     all sections, each in a process of its own, as gpu.md and gpu.json, in so many minutes
    section.py    one section: a question, a table, an answer
    sheet.py      its rows, kept as they are measured, so that a crash costs one
    goals.py      what was found, held against what it should be

    switching.py  the switching kernels: right, and how fast
    engines.py    does TensorRT run here at all, and does it keep a bias
    grid.py       every way to switch, place of the bank, batch, precision, with and without CUDA graphs
    sparse.py     2:4: what sparse kernels gain, and whether the guard holds
    others.py     ONNX Runtime on CUDA, and PyTorch
    samples.py    the packs that are measured; PyTorch draws them
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
