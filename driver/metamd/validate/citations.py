"""What to cite for the methods and programs a run used."""

from __future__ import annotations

from collections.abc import Iterable

from metamd.config import CompareConfig, RunConfig

#: Key: (what it is for, reference).
REFERENCES: dict[str, tuple[str, str]] = {
    "metamd": (
        "Metadynamics on the inverse-distance matrix",
        "J. E. Herr, K. Yao, R. McIntyre, D. W. Toth, J. Parkhill, J. Chem. Phys. 148, 241710 "
        "(2018), doi:10.1063/1.5020067",
    ),
    "metadynamics": (
        "Metadynamics",
        "A. Laio, M. Parrinello, Proc. Natl. Acad. Sci. 99, 12562 (2002), "
        "doi:10.1073/pnas.202427399",
    ),
    "well-tempered": (
        "Well-tempered metadynamics",
        "A. Barducci, G. Bussi, M. Parrinello, Phys. Rev. Lett. 100, 020603 (2008), "
        "doi:10.1103/PhysRevLett.100.020603",
    ),
    "wte": (
        "Well-tempered ensemble",
        "M. Bonomi, M. Parrinello, Phys. Rev. Lett. 104, 190601 (2010), "
        "doi:10.1103/PhysRevLett.104.190601",
    ),
    "nms": (
        "Normal-mode sampling",
        "J. S. Smith, O. Isayev, A. E. Roitberg, Chem. Sci. 8, 3192 (2017), doi:10.1039/C6SC05720A",
    ),
    "bmhtf": (
        "Born-Mayer-Huggins-Tosi-Fumi potential of NaCl",
        "M. P. Tosi, F. G. Fumi, J. Phys. Chem. Solids 25, 45 (1964), "
        "doi:10.1016/0022-3697(64)90160-X",
    ),
    "tip3p": (
        "TIP3P water",
        "W. L. Jorgensen, J. Chandrasekhar, J. D. Madura, R. W. Impey, M. L. Klein, J. Chem. Phys. "
        "79, 926 (1983), doi:10.1063/1.445869",
    ),
    "rdkit": (
        "RDKit (structure from SMILES)",
        "RDKit: Open-source cheminformatics, doi:10.5281/zenodo.591637",
    ),
    "packmol": (
        "packmol",
        "L. Martinez, R. Andrade, E. G. Birgin, J. M. Martinez, J. Comput. Chem. 30, 2157 (2009), "
        "doi:10.1002/jcc.21224",
    ),
    "plumed": (
        "PLUMED 2",
        "G. A. Tribello, M. Bonomi, D. Branduardi, C. Camilloni, G. Bussi, Comput. Phys. Commun. "
        "185, 604 (2014), doi:10.1016/j.cpc.2013.09.018",
    ),
    "plumed-consortium": (
        "PLUMED consortium",
        "The PLUMED consortium, Nat. Methods 16, 670 (2019), doi:10.1038/s41592-019-0506-8",
    ),
    "lammps": (
        "LAMMPS",
        "A. P. Thompson et al., Comput. Phys. Commun. 271, 108171 (2022), "
        "doi:10.1016/j.cpc.2021.108171",
    ),
    "deepmd-kit": (
        "DeePMD-kit",
        "H. Wang, L. Zhang, J. Han, W. E, Comput. Phys. Commun. 228, 178 (2018), "
        "doi:10.1016/j.cpc.2018.03.016",
    ),
    "deepmd-kit-2": (
        "DeePMD-kit v2",
        "J. Zeng et al., J. Chem. Phys. 159, 054801 (2023), doi:10.1063/5.0155600",
    ),
    "deepmd-kit-3": (
        "DeePMD-kit v3",
        "J. Zeng et al., J. Chem. Theory Comput. 21, 4375 (2025), doi:10.1021/acs.jctc.5c00340",
    ),
    "deeppot-se": (
        "Deep Potential, smooth edition (se_e2_a)",
        "L. Zhang, J. Han, H. Wang, W. A. Saidi, R. Car, W. E, Adv. Neural Inf. Process. Syst. 31 "
        "(2018), arXiv:1805.09003",
    ),
    "gfn2-xtb": (
        "GFN2-xTB",
        "C. Bannwarth, S. Ehlert, S. Grimme, J. Chem. Theory Comput. 15, 1652 (2019), "
        "doi:10.1021/acs.jctc.8b01176",
    ),
    "gfn1-xtb": (
        "GFN1-xTB",
        "S. Grimme, C. Bannwarth, P. Shushkov, J. Chem. Theory Comput. 13, 1989 (2017), "
        "doi:10.1021/acs.jctc.7b00118",
    ),
    "ase": (
        "ASE",
        "A. Hjorth Larsen et al., J. Phys.: Condens. Matter 29, 273002 (2017), "
        "doi:10.1088/1361-648X/aa680e",
    ),
    "csvr": (
        "Stochastic velocity rescaling thermostat",
        "G. Bussi, D. Donadio, M. Parrinello, J. Chem. Phys. 126, 014101 (2007), "
        "doi:10.1063/1.2408420",
    ),
    "parsl": (
        "Parsl",
        "Y. Babuji et al., Proc. 28th Int. Symp. on High-Performance Parallel and Distributed "
        "Computing, 25 (2019), doi:10.1145/3307681.3325400",
    ),
    "mdanalysis": (
        "MDAnalysis",
        "N. Michaud-Agrawal, E. J. Denning, T. B. Woolf, O. Beckstein, J. Comput. Chem. 32, 2319 "
        "(2011), doi:10.1002/jcc.21787",
    ),
    "finite-size": (
        "Finite-size correction of self-diffusion",
        "I.-C. Yeh, G. Hummer, J. Phys. Chem. B 108, 15873 (2004), doi:10.1021/jp0477147",
    ),
    "atomic-selection": (
        "Selection by energies and forces of atoms",
        "Efficient data selection methods for the development of machine learned potentials, "
        "anonymous paper under review",
    ),
    "flatten": (
        "Flattened errors, improved training",
        "G. Fonseca, I. Poltavsky, V. Vassilev-Galindo, A. Tkatchenko, J. Chem. Phys. 154, 124102 "
        "(2021), doi:10.1063/5.0035530",
    ),
    "deviation": (
        "Selection by model deviation (DP-GEN)",
        "Y. Zhang et al., Comput. Phys. Commun. 253, 107206 (2020), doi:10.1016/j.cpc.2020.107206",
    ),
    "augmentation": (
        "Physics-based data augmentation",
        "Expanding the extrapolation limits of neural network force fields using physics-based "
        "data augmentation, anonymous paper under review",
    ),
    "pyscf": (
        "PySCF",
        "Q. Sun et al., J. Chem. Phys. 153, 024109 (2020), doi:10.1063/5.0006074",
    ),
    "3dmol": (
        "3Dmol.js (the 3D view of the report)",
        "N. Rego, D. Koes, Bioinformatics 31, 1322 (2015), doi:10.1093/bioinformatics/btu829",
    ),
}


def citations(keys: Iterable[str]) -> list[dict[str, str]]:
    """``summary.json``'s citations for keys of ``REFERENCES``, each once, in its order."""
    wanted = set(keys)
    unknown = wanted - REFERENCES.keys()
    if unknown:
        raise KeyError(f"no reference for {', '.join(sorted(unknown))}")
    return [
        {"what": what, "reference": reference}
        for key, (what, reference) in REFERENCES.items()
        if key in wanted
    ]


#: Keys of what a selection method is from.
SELECTION = {
    "atomic-energy": {"atomic-selection"},
    "force": {"atomic-selection"},
    "energy": {"atomic-selection"},
    "flatten": {"flatten"},
    "deviation": {"deviation"},
}


#: Keys of what a check is from.
CHECKS = {
    "clusters": {"flatten"},
    "deviation": {"deviation"},
    "rdf": {"mdanalysis"},
    "diffusion": {"finite-size"},
}


def run_citations(config: RunConfig) -> list[dict[str, str]]:
    """What to cite for a run file: its sampler, reference, programs and thermostats."""
    keys = {"lammps", "deepmd-kit", "deepmd-kit-2", "deepmd-kit-3"}
    keys |= {"deeppot-se", "ase", "parsl", "3dmol"}
    for arm in config.sample:
        if arm.method == "metamd":
            keys |= {"metamd", "metadynamics"}
        if arm.method == "wte":
            keys |= {"wte", "metadynamics", "well-tempered"}
        if arm.method == "nms":
            keys.add("nms")
        if arm.biased:
            keys |= {"plumed", "plumed-consortium"}
        if arm.bias is not None and arm.bias.biasfactor is not None:
            keys.add("well-tempered")
        if arm.thermostat == "csvr":
            keys.add("csvr")
    if config.reference.potential is not None:
        keys.add("bmhtf" if config.reference.potential == "nacl-bmhtf" else "tip3p")
    if config.system.smiles is not None:
        keys.add("rdkit")
    if config.system.packmol is not None:
        keys.add("packmol")
    if (config.reference.calculator or "").startswith("tblite"):
        method = str(config.reference.arguments.get("method", "GFN2-xTB"))
        keys.add("gfn1-xtb" if method.upper().startswith("GFN1") else "gfn2-xtb")
    if "PySCF" in (config.reference.calculator or ""):
        keys.add("pyscf")
    keys |= SELECTION.get(config.select.method, set())
    if config.loop.iterations > 1 or config.loop.models:
        keys |= SELECTION.get(config.loop.select.method, set())
    arms = config.arms if isinstance(config, CompareConfig) else ()
    for select in [arm.select for arm in arms if arm.select is not None]:
        keys |= SELECTION.get(select.method, set())
    if config.augment is not None or any(arm.augment is not None for arm in arms):
        keys.add("augmentation")
    for check in config.validation.checks:
        keys |= CHECKS.get(check, set())
    return citations(keys)
