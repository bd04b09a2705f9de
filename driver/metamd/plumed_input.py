"""PLUMED files of the biased samplers, and what is done to a person's own."""

from __future__ import annotations

import re
from pathlib import Path

from ase import Atoms

from metamd.config import Bias, Wte
from metamd.units import KB_EV_PER_K

#: Hills of MATRIX_METAD, hills of PLUMED's METAD, the structure that ``dist`` is counted from.
HILLS, METAD_HILLS, START = "hills.xyz", "HILLS", "reference.xyz"
UNITS = "UNITS LENGTH=A ENERGY=eV TIME=ps"


def plumed_file(bias: Bias, atoms: Atoms, temperature_k: float, plugin: Path, stride: int) -> str:
    """PLUMED input for metadynamics on the pair distances (eV, A, ps).

    ``bias.cv`` is the whole matrix (MATRIX_METAD), or one number of it under PLUMED's own METAD.
    """
    chosen = bias.atoms or tuple(range(1, len(atoms) + 1))
    group = f"1-{len(atoms)}" if not bias.atoms else ",".join(str(a) for a in chosen)
    matrix = [f"GROUP={group}", f"METRIC={bias.metric}"]
    if bias.cutoff_ang is not None:
        matrix.append(f"CUTOFF={bias.cutoff_ang:g}")
    if not atoms.pbc.any():
        matrix.append("NOPBC")
    hills = [f"SIGMA={bias.sigma:g}", f"HEIGHT={bias.height_ev:g}", f"PACE={bias.pace}"]
    hills.append(f"TEMP={temperature_k:g}")
    if bias.biasfactor is not None:
        hills.append(f"BIASFACTOR={bias.biasfactor:g}")
    if bias.cv == "matrix":
        matrix.append("SPECIES=" + ",".join(atoms[a - 1].symbol for a in chosen))
        if bias.ramp_steps is not None:
            hills.append(f"RAMP={bias.ramp_steps}")
        if bias.hills:
            hills.append("RESTART=YES")
        actions = [f"metad: MATRIX_METAD {' '.join([*matrix, *hills])} FILE={HILLS}"]
        printed = "metad.bias,metad.nhills"
    else:
        if bias.cv == "dist":
            matrix.append(f"REFERENCE={START}")
        argument = {"mean": "matrix.mean", "dist": "matrix.dist-1"}[bias.cv]
        actions = [
            f"matrix: INVERSE_DISTANCE_MATRIX {' '.join(matrix)}",
            f"metad: METAD ARG={argument} {' '.join(hills)} FILE={METAD_HILLS}",
        ]
        printed = f"{argument},metad.bias"
    if bias.wall_ang is not None:
        actions += _wall_lines(bias.wall_ang, len(atoms))
    printing = f"PRINT ARG={printed} FILE=COLVAR STRIDE={stride}"
    return "\n".join([f"LOAD FILE={plugin}", UNITS, *actions, printing]) + "\n"


def wte_file(wte: Wte, sigma_ev: float, temperature_k: float, stride: int, walls: str = "") -> str:
    """PLUMED input for the well-tempered ensemble: METAD on the potential energy (eV, ps).

    M. Bonomi and M. Parrinello, Phys. Rev. Lett. 104, 190601 (2010).
    """
    height = KB_EV_PER_K * temperature_k if wte.height_ev is None else wte.height_ev
    return (
        f"{UNITS}\nenergy: ENERGY\n"
        f"wte: METAD ARG=energy SIGMA={sigma_ev:.6g} HEIGHT={height:.6g} PACE={wte.pace} "
        f"TEMP={temperature_k:g} BIASFACTOR={wte.biasfactor:g} FILE={METAD_HILLS}\n"
        f"{walls}"
        f"PRINT ARG=energy,wte.bias FILE=COLVAR STRIDE={stride}\n"
    )


def walls(wall_ang: float | None, n_atoms: int) -> str:
    """Lines that keep a cluster together; none without a wall."""
    return "" if wall_ang is None else "\n".join(_wall_lines(wall_ang, n_atoms)) + "\n"


def _wall_lines(wall_ang: float, n_atoms: int) -> list[str]:
    """A half-harmonic wall on each atom's distance from the centre: a cluster cannot evaporate."""
    lines = [f"centre: CENTER ATOMS=1-{n_atoms}"]
    names = []
    for k in range(1, n_atoms + 1):
        lines.append(f"from_centre{k}: DISTANCE ATOMS=centre,{k} NOPBC")
        names.append(f"from_centre{k}")
    ones = ",".join(f"{wall_ang:g}" for _ in names)
    kappa = ",".join("10.0" for _ in names)
    lines.append(f"wall: UPPER_WALLS ARG={','.join(names)} AT={ones} KAPPA={kappa}")
    return lines


def with_plugin(text: str, plugin: Path) -> str:
    """A person's PLUMED file, with our actions loaded where it uses them and does not itself."""
    ours = ("MATRIX_METAD", "INVERSE_DISTANCE_MATRIX")
    loads = re.search(r"^\s*LOAD\b", text, re.MULTILINE)  # not the word in a comment
    if any(name in text for name in ours) and loads is None:
        return f"LOAD FILE={plugin}\n{text}"
    return text


def carry_hills(source: Path, target: Path) -> None:
    """Copy a hills file for a run that counts its steps from 0 again.

    Steps of carried hills become 0: the action deposits once a step number, and hills newer
    than the run would be warned about.
    """
    with source.open() as old, target.open("w") as new:
        for line in old:
            new.write(re.sub(r"\bstep=\d+", "step=0", line))
