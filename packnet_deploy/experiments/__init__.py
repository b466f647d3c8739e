"""Experiments: a recipe becomes runs of ``packnet train``, and what the runs leave behind becomes a report.

Nothing here trains: every run is a child process and everything reported is read from the files it wrote. No torch.

    recipe.py     what is compared, on what, in which orders: TOML, a file's or one that is shipped
    design.py     the trials that a recipe asks for, and the runs they need
    runner.py     running what is missing
    folder.py     what is kept, and how far each run has come

    results.py    what a finished run left behind
    analyses.py   what figures and tables show, computed from that
    figures.py    the figures
    tables.py     the tables
    paper.py      the paper's own figures, and its way of counting sizes
    report.py     all of it as HTML and Markdown
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
