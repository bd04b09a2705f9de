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
#include "update.h"
#include "utils.h"

#include <cmath>

using namespace LAMMPS_NS;

namespace metamd {

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
  constexpr double two_pi = 6.283185307179586;
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
