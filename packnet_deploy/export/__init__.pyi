from .api import export_selector as export_selector
from .api import export_task as export_task
from .options import ExportOptions as ExportOptions
from .report import ExportReport as ExportReport
from .shared import export_shared as export_shared
