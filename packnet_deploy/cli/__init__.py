"""The ``packnet`` command.

One small file per command, each loaded only when it is called, and what they share.

    app.py          the commands by name; where errors become lines and exit codes
    flags.py        flags from a command's options
    packs.py        which pack a command is about
    answering.py    which pack, export or plan answers images
    targets.py      files to write, looked at first
    screen.py       the console, through which no text commands the terminal
    show.py         tables and figures for the terminal, JSON for others
    coming.py       the line that says what can come next
    progress.py     how training goes, for the terminal
    trained.py      what a training left in a pack
    description.py  what a path holds

    train.py        packnet train
    inspect.py      packnet inspect
    verify.py       packnet verify
    against.py      the same against what was exported or built
    export.py       packnet export
    build.py        packnet build
    predict.py      packnet predict
    evaluate.py     packnet eval
    bench.py        packnet bench
    doctor.py       packnet doctor
    gpu_report.py   packnet gpu-report
    delta.py        packnet delta
    experiment.py   packnet experiment
    report.py       packnet report
    demo.py         packnet demo
"""

from packnet_deploy.cli.app import main

__all__ = ["main"]
