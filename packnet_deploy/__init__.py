"""PackNet: many tasks in one network, from training to the engine.

What imports what is drawn in pyproject.toml's import contracts, and checked. Each package's own map is its docstring.
``packnet_deploy.load`` opens a pack, an export or a plan for predictions.

    errors.py      every error a user can meet, with its exit code
    fresh.py       a function called in a fresh process, within limits: JSON goes there, JSON comes back
    pack/          packs: owner maps, deltas, the directory, the weight bank
    data/          images: folders, the paper's data sets, the built-in ones, how an image becomes an input
    runners/       running tasks by one contract, ONNX Runtime behind it, and comparing what they answer
    training/      from images to a pack: PackNet itself, and all around it that runs on PyTorch
    export/        from a pack to ONNX, checked
    trt/           from a pack to TensorRT: engines, switching their tasks, running them
    triton.py      exports and plans as a repository of Triton Inference Server
    predict/       names for images, by pack, export or plan; how often they are right
    bench/         measuring what was exported and built
    doctor/        what this machine can build and run
    gpu_report/    everything that takes a GPU, checked and measured on one
    experiments/   from recipes to runs, from runs to what they show
    reports/       pages of texts, tables and figures, as HTML and Markdown
    cli/           the ``packnet`` command
    version.py     the version
    __main__.py    ``python -m packnet_deploy`` is ``packnet``
"""

from packnet_deploy.version import __version__

__all__ = ["__version__", "load"]


def __getattr__(name: str) -> object:
    """``load``, when it is asked for: packs are read where nothing is installed that it takes, lazy_loader included."""
    if name != "load":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from packnet_deploy.predict.opening import load

    return load
