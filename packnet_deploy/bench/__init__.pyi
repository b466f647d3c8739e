from .machine import Machine as Machine
from .machine import describe_machine as describe_machine
from .options import BenchOptions as BenchOptions
from .report import BenchReport as BenchReport
from .report import Measurement as Measurement
from .run import run_bench as run_bench
from .ways import recommend as recommend
from .ways import ways_of as ways_of
