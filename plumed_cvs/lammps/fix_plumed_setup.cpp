// What happens when the fix is defined: its arguments, units, and all that it refuses.
#include "fix_plumed.h"

#include "atom.h"
#include "comm.h"
#include "domain.h"
#include "error.h"
#include "force.h"
#include "modify.h"
#include "universe.h"
#include "update.h"
#include "utils.h"

#include <cstring>

using namespace LAMMPS_NS;

namespace metamd {
namespace {

/// Factors to kJ/mol, nm, ps.  The energy factors are PLUMED's own, so that UNITS
/// ENERGY=eV (or kcal/mol, Ha) gives back LAMMPS's numbers exactly.
bool set_units(const char* style, const Force& force, PlumedSetup& setup) {
  const std::string name = style;
  setup.length_unit = 0.1 / force.angstrom;
  setup.time_unit = 0.001 / force.femtosecond;
  if (name == "lj") {
    setup.natural_units = true;
  } else if (name == "real") {
    setup.energy_unit = 4.184;
  } else if (name == "metal") {
    setup.energy_unit = 96.48530749925792;
  } else if (name == "electron") {
    setup.energy_unit = 2625.499638;
  } else {
    return false;
  }
  return true;
}

} // namespace

FixPlumed::FixPlumed(LAMMPS* lmp, int narg, char** arg) : Fix(lmp, narg, arg) {
  refuse_impossible_runs();
  if (igroup != 0 && comm->me == 0) {
    error->warning(FLERR, "Fix plumed acts on the atoms named in the PLUMED file; its group is "
                          "ignored");
  }
  scalar_flag = extscalar = 1;
  global_freq = 1;
  energy_global_flag = virial_global_flag = 1;
  thermo_energy = thermo_virial = 1;

  const PlumedSetup plumed = read_arguments(narg, arg);
  timestep_ = plumed.timestep;
  natoms_ = atom->natoms;
  input_file_ = plumed.input_file;
  int found[2] = {0, 0};
  if (comm->me == 0) {
    const PlumedInput input = scan_plumed_input(input_file_);
    found[0] = input.has_actions;
    found[1] = input.has_energy;
  }
  MPI_Bcast(found, 2, MPI_INT, 0, world);
  input_.has_actions = found[0] != 0;
  input_.has_energy = found[1] != 0;
  if (input_.has_energy) {
    add_energy_computes();
  }
  try {
    engine_ = make_engine(lmp, plumed);
  } catch (const PlumedError& failure) {
    error->all(FLERR, "Fix plumed: {}", failure.what());
  }
}

FixPlumed::~FixPlumed() {
  if (!pe_id_.empty() && modify) {
    modify->delete_compute(pe_id_);
    modify->delete_compute(pressure_id_);
  }
}

void FixPlumed::refuse_impossible_runs() const {
  if (universe->nworlds > 1) {
    error->all(FLERR, "Fix plumed does not work with -partition: run one lmp per replica");
  }
  if (!domain->box_exist) {
    error->all(FLERR, "Fix plumed must be defined after the simulation box");
  }
  if (!atom->tag_enable || !atom->tag_consecutive()) {
    error->all(FLERR, "Fix plumed needs atom IDs from 1 to N without gaps; use reset_atoms id "
                      "before it");
  }
  if (atom->natoms == 0 || atom->natoms > MAXSMALLINT) {
    error->all(FLERR, "Fix plumed needs between 1 and {} atoms when it is defined", MAXSMALLINT);
  }
  refuse_other_fixes();
}

void FixPlumed::refuse_other_fixes() const {
  // these read the pressure in setup(), before this fix would have its virial
  static const char* const read_pressure[] = {
      "^nph",         "^npt",    "^press/",    "^deform/pressure", "^msst",     "^nphug",
      "^tgnpt/drude", "^qbmsst", "^rigid/nph", "^rigid/npt",       "^box/relax"};
  for (const auto* other : modify->get_fix_list()) {
    if (strcmp(other->style, "plumed") == 0) {
      error->all(FLERR, "There can be only one fix plumed; put everything into one PLUMED file");
    }
    if (utils::strmatch(other->style, "^pimd") || utils::strmatch(other->style, "^ipi")) {
      error->all(FLERR, "Fix plumed does not work with path integrals (fix {})", other->style);
    }
    for (const char* pattern : read_pressure) {
      if (utils::strmatch(other->style, pattern)) {
        error->all(FLERR, "Fix plumed must be defined before fix {} {}, which reads the pressure",
                   other->id, other->style);
      }
    }
  }
}

PlumedSetup FixPlumed::read_arguments(int narg, char** arg) const {
  PlumedSetup plumed;
  plumed.input_file = "plumed.dat";
  for (int i = 3; i < narg; i += 2) {
    const bool is_input = strcmp(arg[i], "plumedfile") == 0;
    if (!is_input && strcmp(arg[i], "outfile") != 0) {
      error->all(FLERR,
                 "Fix plumed does not know {}: fix ID group plumed plumedfile FILE outfile LOG",
                 arg[i]);
    }
    if (i + 1 >= narg) {
      error->all(FLERR, "Fix plumed: a file name is missing after {}", arg[i]);
    }
    (is_input ? plumed.input_file : plumed.log_file) = arg[i + 1];
  }
  if (!set_units(update->unit_style, *force, plumed)) {
    error->all(FLERR, "Fix plumed works with units real, metal, lj and electron, not {}",
               update->unit_style);
  }
  plumed.timestep = update->dt;
  plumed.natoms = static_cast<int>(atom->natoms);
  return plumed;
}

void FixPlumed::add_energy_computes() {
  pe_id_ = std::string(id) + "_plumed_pe";
  pressure_id_ = std::string(id) + "_plumed_pressure";
  modify->add_compute(pe_id_ + " all pe");
  modify->add_compute(pressure_id_ + " all pressure NULL virial");
}

} // namespace metamd
