from .evaluation import Evaluation as Evaluation
from .evaluation import evaluate as evaluate
from .opening import load as load
from .predictor import Answer as Answer
from .predictor import Guess as Guess
from .predictor import Prediction as Prediction
from .predictor import Predictor as Predictor
