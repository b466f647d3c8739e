"""What a machine can build and run, and what would fix each gap.

Things are found and tried here, not measured.

    diagnosis.py   look, judge, and put it together
    abilities.py   from what was found to what can be done, and what is missing for the rest
    installed.py   packages and programs, as they are here
    probes.py      what is found out about each package, by using it
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
