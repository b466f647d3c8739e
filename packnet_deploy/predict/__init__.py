"""From an image to names: a pack, exports or a plan that answer with classes, and how often they are right.

    predictor.py    names and probabilities for images, whatever runs the tasks
    images.py       an image, once decoded, as the input of several tasks
    opening.py      a predictor from what lies at a path
    evaluation.py   a task held against labelled images: errors, confusion, every single answer
    written.py      what was found, as CSV and as a picture

``packnet_deploy.load`` is the door.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
