#include "fix_plumed.h"

#include "atom.h"
#include "comm.h"
#include "compute.h"
#include "domain.h"
#include "error.h"
#include "force.h"
#include "modify.h"
#include "neighbor.h"
#include "pair.h"
#include "timer.h"
#include "universe.h"
#include "update.h"
#include "utils.h"

#include <cmath>
#include <cstring>

using namespace LAMMPS_NS;

namespace metamd {
namespace {

constexpr double two_pi = 6.283185307179586;

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

int FixPlumed::setmask() {
  return FixConst::POST_FORCE | FixConst::MIN_POST_FORCE | FixConst::POST_RUN;
}

void FixPlumed::init() {
  if (utils::strmatch(update->integrate_style, "^respa")) {
    error->all(FLERR, "Fix plumed does not work with run_style respa");
  }
  if (update->dt != timestep_) {
    error->all(FLERR,
               "Fix plumed: the timestep has changed from {} to {}; define fix plumed after "
               "the timestep command",
               timestep_, update->dt);
  }
  for (double& component : virial) {
    component = 0.0; // read by computes before the first step
  }
  if (!input_.has_energy) {
    return;
  }
  bool after = false;
  for (const auto* other : modify->get_fix_list()) {
    if (after && other->energy_global_flag && other->thermo_energy) {
      error->all(FLERR,
                 "The PLUMED file reads ENERGY, so fix {} {}, which adds to the potential energy, "
                 "must be defined before fix plumed",
                 other->id, other->style);
    }
    after = after || other == this;
    if (!after && comm->me == 0 && utils::strmatch(other->style, "^langevin")) {
      error->warning(FLERR,
                     "Biasing ENERGY scales all forces, also the noise of fix {} {}: define "
                     "it after fix plumed",
                     other->id, other->style);
    }
  }
  if (force->pair && force->pair->tail_flag && comm->me == 0) {
    error->warning(FLERR, "ENERGY contains the tail correction of the pair style, which is no "
                          "force: turn it off (pair_modify tail no) when the cell changes");
  }
}

void FixPlumed::setup(int) {
  if (!input_.has_actions) {
    return;
  }
  // the state at which the last run ended was already computed there
  StepResult result;
  const StepStart start = start_of_step(true);
  bool repeated = false;
  try {
    repeated = engine_->repeat(start, update->vflag_global == update->ntimestep, result);
  } catch (const PlumedError& failure) {
    error->all(FLERR, "Fix plumed: {}", failure.what());
  }
  if (repeated) {
    take(result);
    return;
  }
  const bool same = update->ntimestep == last_step_ &&
                    std::abs(fingerprint() - last_fingerprint_) < 1e-12 * (10.0 + natoms_);
  step(same ? Update::ForcesOnly : Update::Full, true);
}

void FixPlumed::post_run() {
  if (input_.has_actions) {
    last_fingerprint_ = fingerprint();
  }
}

/// One number that changes when any atom or the cell moves, but not when LAMMPS wraps atoms or
/// deals them out to other ranks.  Collective.
double FixPlumed::fingerprint() const {
  double mine = 0.0;
  for (int i = 0; i < atom->nlocal; ++i) {
    double fraction[3];
    domain->x2lamda(atom->x[i], fraction);
    const double phase = 0.618 * static_cast<double>(atom->tag[i] % 1000);
    for (int k = 0; k < 3; ++k) {
      mine += domain->periodicity[k] ? std::cos(two_pi * fraction[k] + phase + k)
                                     : atom->x[i][k] * std::cos(phase + k);
    }
  }
  double sum = 0.0;
  MPI_Allreduce(&mine, &sum, 1, MPI_DOUBLE, MPI_SUM, world);
  for (int k = 0; k < 6; ++k) {
    sum += domain->h[k];
  }
  return sum;
}

void FixPlumed::min_setup(int) { step(Update::Full, true); }

void FixPlumed::post_force(int) { step(Update::Full, neighbor->ago == 0); }

void FixPlumed::min_post_force(int) {
  // a line search tries several positions at one step: only the first deposits and prints
  const bool again = update->ntimestep == last_step_;
  step(again ? Update::ForcesOnly : Update::Full, neighbor->ago == 0);
}

StepStart FixPlumed::start_of_step(bool atoms_moved) const {
  StepStart start;
  start.step = update->ntimestep;
  start.atoms_moved = atoms_moved;
  if (domain->xperiodic || domain->yperiodic || domain->zperiodic) {
    const double* h = domain->h;
    const bool periodic[3] = {domain->xperiodic != 0, domain->yperiodic != 0,
                              domain->zperiodic != 0};
    for (int k = 0; k < 3; ++k) {
      // a direction without images is made so long that no nearest image lies across it
      start.box[k][k] = periodic[k] ? h[k] : 3.0 * h[k];
    }
    start.box[2][1] = h[3];
    start.box[2][0] = h[4];
    start.box[1][0] = h[5];
  }
  return start;
}

/// Collective.  Called only when the energy has been tallied.
Unbiased FixPlumed::unbiased_energy_and_virial() {
  if (update->eflag_global != update->ntimestep) {
    error->all(FLERR,
               "Fix plumed: the PLUMED file needs ENERGY, but LAMMPS did not compute the "
               "energy of this step. ENERGY was not found in {}; define it there",
               input_file_);
  }
  Unbiased unbiased;
  own_bias_hidden_ = true;
  unbiased.energy = modify->get_compute_by_id(pe_id_)->compute_scalar();
  own_bias_hidden_ = false;
  unbiased.with_virial = update->vflag_global == update->ntimestep;
  if (unbiased.with_virial) {
    for (double& component : virial) {
      component = 0.0;
    }
    Compute* pressure = modify->get_compute_by_id(pressure_id_);
    pressure->compute_vector();
    const double area_or_volume =
        domain->xprd * domain->yprd * (domain->dimension == 3 ? domain->zprd : 1.0);
    for (int k = 0; k < 6; ++k) {
      unbiased.virial[k] = pressure->vector[k] * area_or_volume / force->nktv2p;
    }
  }
  return unbiased;
}

void FixPlumed::step(Update how, bool atoms_moved) {
  if (!input_.has_actions) {
    return;
  }
  if (atom->natoms != natoms_) {
    error->all(FLERR, "Fix plumed: the number of atoms has changed from {} to {}", natoms_,
               atom->natoms);
  }
  const StepStart start = start_of_step(atoms_moved);
  StepResult result;
  try {
    Unbiased unbiased;
    const bool needs_energy = engine_->prepare(start);
    if (needs_energy) {
      if (pe_id_.empty()) {
        add_energy_computes();
        input_.has_energy = true;
      }
      unbiased = unbiased_energy_and_virial();
    }
    result = engine_->compute(start, needs_energy ? &unbiased : nullptr, how);
  } catch (const PlumedError& failure) {
    error->all(FLERR, "Fix plumed at step {}: {}", update->ntimestep, failure.what());
  }
  take(result);
}

void FixPlumed::take(const StepResult& result) {
  bias_ = result.bias;
  for (int k = 0; k < 6; ++k) {
    virial[k] = result.virial[k];
  }
  last_step_ = update->ntimestep;
  if (input_.has_energy) {
    modify->get_compute_by_id(pe_id_)->addstep(update->ntimestep + 1);
  }
  if (result.stop) {
    if (comm->me == 0) {
      utils::logmesg(lmp, "PLUMED asks to stop at step {}\n", update->ntimestep);
    }
    timer->force_timeout();
  }
}

void FixPlumed::reset_dt() {
  error->all(FLERR, "Fix plumed does not work with a changing timestep");
}

double FixPlumed::compute_scalar() { return own_bias_hidden_ ? 0.0 : bias_; }

double FixPlumed::memory_usage() { return 4.0 * static_cast<double>(natoms_); }

} // namespace metamd
