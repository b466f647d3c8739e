"""From images to a pack, on PyTorch. algorithm.py is PackNet itself; train/three_tasks.py is the way through all of it.

Weights and owner maps, and the module around them:

    algorithm.py    PackNet's cycle, whole: train → prune → retrain → freeze
    pattern.py      the same under 2:4: which weights may be claimed and kept
    rounding.py     weights as a pack stores them
    network.py      a module taken through the cycle, task after task
    module.py       a module's tensors by what becomes of them
    packable.py     which of its parameters are packed
    separate.py     what a task may have of its own
    head.py         a task's output layer
    guard.py        keeps frozen weights bit-identical under any optimiser
    older.py        whether older tasks are as they were

Networks and images:

    backbones.py    networks by name
    pretrained.py   weights by name or from a file, and the input they were trained on
    init.py         the pretrained values kept beside a pack, from which free weights start
    inference.py    forwards outside of training
    trace.py        a network's graph as ONNX, every weight an input
    clean.py        that graph as one would write it by hand
    runner.py       one task at a time behind the runners' contract
    pooling.py      adaptive pooling for a known image size
    loader.py       batches for training and for measuring while training
    augment.py      what training does to images

``packnet train``:

    options.py      what it can be told: the one source of flags, recipes and defaults
    recipe.py       the same as TOML
    run.py          the tasks asked for, by their method, in one session
    session.py      what the tasks of one run share
    start.py        the network a task begins with, and what is refused before
    task.py         one task from its images to its place in the pack
    stages.py       its stages as plain data
    rate.py         the rate it is pruned by, given or looked for
    search.py       which rate is tried next
    fit.py          one stage: epochs over a loader
    collapse.py     whether pruning broke it
    report.py       what is kept with it
    metrics.py      its errors
    methods/        PackNet and what it is compared with
    folder.py       what lies beside the pack: logs, results, the checkpoint
    keeper.py       what can be stopped is kept after every epoch
    checkpoint.py   checkpoints, and stopping at a signal
    distributed.py  several processes training one network
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
