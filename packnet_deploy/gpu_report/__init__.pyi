from .report import GpuReport as GpuReport
from .report import gpu_report as gpu_report
