"""ONNX from a pack, without torch: fold, lay out, write, check.

What can be written (``--layout``):

    ``dense``     a file of one task, zeros in place
    ``sparse``    the same; packed weights as ONNX sparse_initializer where that takes fewer bytes
    ``shared``    a folder with one bank for all tasks and a small graph for each
    ``selector``  one graph for all tasks, with the task as an input

The way from a pack to a model:

    options.py      what an export can be asked for
    target.py       what a graph is made for
    skeleton.py     the pack's graph brought to that
    sizes.py        whether a network takes an image size
    precision.py    types, written into the graph
    fold.py         normalisation folded into the layer before it, for a task by itself
    norms.py        normalisation as a scale and a shift, where tasks share a bank
    metadata.py     what a model says of itself

    bind.py         one task's model
    deploy_bank.py  one bank for all tasks, and what each of them has of its own; for exports and engines
    mask_nodes.py   the nodes that mask a bank inside a model
    selector.py     the model of all tasks over such a bank

From a model to files:

    write.py        tensors and model as bytes, files that appear by rename
    check.py        the check in ONNX Runtime before they do
    api.py          exports of a single file, whole
    shared.py       the folder of layout ``shared``, whole
    report.py       what was written
    runner.py       a pack behind the runners' contract, its tasks run as their exports
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
