from .build import BuildReport as BuildReport
from .build import build_plan as build_plan
from .build import build_plans as build_plans
from .engine import Engine as Engine
from .options import BuildOptions as BuildOptions
from .runner import TensorrtRunner as TensorrtRunner
from .sidecar import Sidecar as Sidecar
from .sidecar import read_sidecar as read_sidecar
