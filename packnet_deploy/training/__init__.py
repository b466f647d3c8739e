"""From images to a pack, on PyTorch. algorithm.py is PackNet itself; train/three_tasks.py is the way through all of it.

The algorithm, and a module that goes through it:

    algorithm.py     PackNet's cycle, whole: train → prune → retrain → freeze
    pattern.py       the same under 2:4: which weights may be claimed and kept
    cycle.py         a live module taken through it, and what must not change meanwhile
    network.py       such a module out of a pack and into it again, to and from a checkpoint
    module.py        a module's tensors by what becomes of them
    parts.py         which tensors are the head's, which are packed, which a task may have of its own
    guard.py         keeps frozen weights bit-identical under any optimiser

Networks, their weights, their graphs:

    backbones.py     networks by name
    networks.py      the list of their names
    pretrained.py    weights by name or from a file, and the input they were trained on
    start_values.py  the pretrained values kept beside a pack, from which free weights start
    inference.py     forwards outside of training; errors
    runner.py        one task at a time behind the runners' contract
    older.py         whether older tasks are as they were, and how they do
    trace.py         a network's graph as ONNX, every weight an input
    clean.py         that graph as one would write it by hand
    pooling.py       adaptive pooling in it

Images:

    loader.py        batches for training and for measuring while training
    augment.py       what training does to images

``packnet train``:

    options.py       what it can be told: the one source of flags, recipes and defaults
    recipe.py        the same as TOML
    run.py           the tasks asked for, by their method, in one session
    session.py       what the tasks of one run share
    methods/         PackNet and what it is compared with
    start.py         the network a task begins with, and what is refused before
    task.py          one task from its images to its place in the pack
    stages.py        its stages as plain data
    fit.py           one stage: epochs over a loader
    rate.py          the rate it is pruned by, given or looked for
    search.py        which rate is tried next
    report.py        what is kept with it, what its user is warned of

Going on after a stop, and in several processes:

    train_folder.py  what lies beside the pack: logs, results, the checkpoint, the request
    checkpoint.py    the checkpoint, and stopping at a signal
    keeper.py        writes it and the log after every epoch, and stops when it is asked to
    distributed.py   several processes training one network
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
