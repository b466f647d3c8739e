"""Experiments: a recipe becomes runs of ``packnet train``, and what the runs leave behind becomes a report.

Nothing here trains: every run is a child process and everything reported is read from the files it wrote. No torch.
"""
