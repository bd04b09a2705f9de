"""The run file that ``metamd init`` writes."""

from __future__ import annotations

_TEXT = """# metamd run file.  `metamd schema` lists every key; units are in the names.

[system]
structure = "{structure}"        # or smiles = "CCO", or a [system.packmol] table
charge = 0
multiplicity = 1

[reference]
kind = "ase"                       # any ASE calculator, as "module:Class"; or "lammps", "files"
calculator = "tblite.ase:TBLite"
arguments = {{ method = "GFN2-xTB", accuracy = 0.001 }}

# Plain dynamics and metadynamics on the inverse-distance matrix, at equal budget.
# Other methods: "wte" (biased energy), "nms" (normal modes), "rattle" (random displacements).
[[sample]]
name = "md"
method = "md"
temperature_k = 300.0
timestep_fs = 0.5
equilibration_steps = 2000
steps = 10000
stride = 20
walkers = 2

[[sample]]
name = "metamd"
method = "metamd"
temperature_k = 300.0
timestep_fs = 0.5
equilibration_steps = 2000
steps = 10000
stride = 20
walkers = 2
[sample.bias]
height_ev = 0.03
sigma = 0.2
pace = 20

# A test set that neither was made for; no model is trained on it.
[[sample]]
name = "hot"
role = "test"
temperature_k = 600.0
timestep_fs = 0.5
equilibration_steps = 2000
steps = 4000
stride = 20

[select]
method = "time"
count = 1000

[train]
models = 2
steps = 40000

[validate]
usable_force_error_ev_per_ang = 0.1
temperatures_k = [300.0, 500.0]
steps = 20000

# Active learning: sample again with the trained models and label what they disagree about.
# [loop]
# iterations = 3
# hills = "carry"                  # or "fresh", "ramp"
# [loop.select]
# count = 200

# On a cluster (the same run file; this table may change while a folder is at work):
# [execution]
# kind = "slurm"
# provider = {{ partition = "main", walltime = "04:00:00", max_blocks = 10 }}
"""


def run_file_text(structure: str) -> str:
    """A commented run file for ``structure``."""
    return _TEXT.format(structure=structure)
