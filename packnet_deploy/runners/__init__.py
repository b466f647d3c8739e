"""Running tasks, whatever runs them, and holding what they answer against what they should. Needs the pack alone.

    contract.py     what every runner promises; what graphs and engines call their ends
    devices.py      what names a device: cpu, cuda, cuda:1
    comparison.py   how far two sets of logits lie apart, or two runners over many images

    session.py      graphs in ONNX Runtime, and a bank mapped into memory for several of them
    exported.py     what exported files say about themselves
    allowed.py      what a graph may hold: operators, attributes, data
    sizes.py        how large its tensors get, and how much it computes
    wire.py         protobuf's wire format: a model without its large tensors
    rehearsal.py    graphs from elsewhere, tried out in a process of their own
    trial.py        what is done with them there
    onnx.py         the runner of exported files
    pack.py         the runner of a pack as it is
    verify.py       a whole pack, from the pack alone

PyTorch's runner is training/runner.py, TensorRT's trt/runner.py, that of a pack by way of exports export/runner.py.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
