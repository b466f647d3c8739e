"""TensorRT and TensorRT-RTX: one plan that any task of a pack can be switched to, its sidecar, and running it.

    flavour.py     the two libraries behind one name
    gpu.py         the GPU, as its driver describes it

From a pack to a plan:

    options.py     what a build can be asked for, and the settings of ``--config``
    bank.py        the exports' bank, split into what never changes and what a task brings
    graph.py       the ONNX graph for each way of switching; which layers may be sparse
    network.py     from that graph to a plan's bytes
    inspection.py  what TensorRT tells of an engine's layers
    sidecar.py     the JSON beside a plan
    build.py       ``packnet build``, whole
    dry_run.py     what a build would do

From a plan to logits:

    check.py       everything that is checked of a plan, before it runs and after a build
    loader.py      its bytes made into an engine
    lane.py        one request at a time through it: stream, context, memory, the task it is at; who takes which
    tensors.py     images and logits of other libraries, where they lie
    switch.py      the ways of becoming another task
    refit.py       the one in which TensorRT is given weights
    groups.py      what it is given in one go
    buffer.py      a bank in its place, and buffers on the GPU that it fills
    placement.py   which parts lie where, and the GPU memory that takes
    layout.py      where every switched weight lies in one buffer
    difference.py  a bank ordered by owner, for switches that touch what differs
    kernel.py      the CUDA kernels, compiled
    device.py      memory, copies, kernels and graphs on the GPU
    engine.py      load a plan, infer: requests, each with its task
    runner.py      the same behind the runners' contract
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
