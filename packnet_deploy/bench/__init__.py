"""Measuring every way to serve tasks, each in a fresh process.

What the figures mean is in docs/bench.md.

    options.py    what can be asked for: the one source of flags and defaults
    job.py        the ways to serve tasks; what one process is to measure
    prepare.py    from files, or from a pack, to jobs
    run.py        one job after the other

    worker.py     what is done in a fresh process (packnet_deploy/fresh.py): load, run, say what it took
    backends.py   what is loaded: ONNX Runtime's sessions, TensorRT's engines, PyTorch's networks
    timing.py     times of calls, and whether to trust them
    memory.py     memory of this process, of the machine and of the GPU
    machine.py    the machine and the versions that figures belong to

    report.py     what was found, as data, JSON and CSV
    ways.py       the ways side by side, and which of them suits
    table.py      the same for the terminal
    plot.py       the same as a picture
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
