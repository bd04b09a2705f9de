"""The run file: every key with its type, default, unit and meaning in one place.

``metamd schema`` prints the JSON schema of this package and the reference page is made from it.
Unknown keys are errors; units are in the names.
"""

from metamd.config.compare import Arm, Compare, CompareConfig, load_compare
from metamd.config.execution import Execution, TimeLimits
from metamd.config.loop import Loop, LoopSelect
from metamd.config.runfile import RunConfig, is_thermal, load_config, parse_config, schema_json
from metamd.config.sample import Bias, Nms, Rattle, Sample, Wte
from metamd.config.select import Augment, Flatten, Select
from metamd.config.system import Molecule, Packmol, Reference, System
from metamd.config.train import Dataset, Label, Train
from metamd.config.validate import Validate

__all__ = [
    "Arm",
    "Augment",
    "Bias",
    "Compare",
    "CompareConfig",
    "Dataset",
    "Execution",
    "Flatten",
    "Label",
    "Loop",
    "LoopSelect",
    "Molecule",
    "Nms",
    "Packmol",
    "Rattle",
    "Reference",
    "RunConfig",
    "Sample",
    "Select",
    "System",
    "TimeLimits",
    "Train",
    "Validate",
    "Wte",
    "is_thermal",
    "load_compare",
    "load_config",
    "parse_config",
    "schema_json",
]
