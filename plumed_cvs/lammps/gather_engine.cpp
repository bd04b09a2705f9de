// PLUMED on rank 0.  Each step PLUMED names the atoms it needs; their positions
// are gathered, PLUMED computes, the forces are scattered back.
#include "atom.h"
#include "atoms_on_root.h"
#include "comm.h"
#include "lammps.h"
#include "plumed_engine.h"

#include <algorithm>
#include <array>
#include <cmath>

namespace metamd {
namespace {

using LAMMPS_NS::LAMMPS;

class GatherEngine : public PlumedEngine {
public:
  GatherEngine(LAMMPS* lmp, const PlumedSetup& setup);
  bool prepare(const StepStart& start) override;
  StepResult compute(const StepStart& start, const Unbiased* unbiased, Update update) override;
  bool repeat(const StepStart& start, bool need_virial, StepResult& result) override;

private:
  static constexpr int shared_numbers = 3;
  using Shared = std::array<double, shared_numbers>;
  template <class F> void on_root(Shared& shared, F&& work);
  void read_requested_atoms();
  void give_atoms();
  void run_plumed(const StepStart& start, const Unbiased* unbiased, Update update);
  bool same_state(const StepStart& start) const;

  LAMMPS* const lmp_;
  const bool root_;
  const int natoms_;
  AtomsOnRoot atoms_;
  bool first_ = true;
  int n_requested_ = 0;      ///< how many atoms PLUMED asked for in prepare()
  bool new_request_ = false; ///< they are others than the last
  long long last_step_ = -1;
  bool virial_complete_ = false;
  StepResult result_;

  // rank 0 only
  std::unique_ptr<PlumedSession> plumed_;
  std::vector<int> requested_; ///< what PLUMED asked for in prepare()
  std::vector<int> given_;     ///< what PLUMED was last told it gets
  std::vector<double> mass_by_id_, charge_by_id_, mass_, charge_;
  std::vector<double> forces_;
  StepStart last_start_;
  std::vector<double> last_positions_;
  int stop_flag_ = 0;
};

GatherEngine::GatherEngine(LAMMPS* lmp, const PlumedSetup& setup)
    : lmp_(lmp), root_(lmp->comm->me == 0), natoms_(setup.natoms), atoms_(lmp, setup.natoms) {
  Shared unused{};
  on_root(unused, [&] {
    plumed_ = std::make_unique<PlumedSession>(plumed_kernel());
    initialise(*plumed_, setup);
  });
}

/// Runs work on rank 0 and shares the numbers it leaves in `shared`, in one message; a
/// PlumedError there is thrown on every rank.
template <class F> void GatherEngine::on_root(Shared& shared, F&& work) {
  std::string message;
  double buffer[1 + shared_numbers] = {};
  if (root_) {
    try {
      work();
    } catch (const std::exception& error) {
      message = error.what();
      buffer[0] = static_cast<double>(message.size() + 1);
      plumed_.reset(); // so that what PLUMED has written so far reaches the disk
    }
    std::copy(shared.begin(), shared.end(), buffer + 1);
  }
  MPI_Bcast(buffer, 1 + shared_numbers, MPI_DOUBLE, 0, lmp_->world);
  std::copy(buffer + 1, buffer + 1 + shared_numbers, shared.begin());
  if (buffer[0] > 0.0) {
    message.resize(static_cast<std::size_t>(buffer[0]) - 1);
    MPI_Bcast(message.data(), static_cast<int>(message.size()), MPI_CHAR, 0, lmp_->world);
    throw PlumedError(message);
  }
}

void GatherEngine::read_requested_atoms() {
  int count = 0;
  const int* ids = nullptr;
  plumed_->cmd("createFullList", &count);
  plumed_->cmd("getFullList", &ids);
  requested_.assign(ids, ids + (ids ? count : 0));
  plumed_->cmd("clearFullList");
}

bool GatherEngine::prepare(const StepStart& start) {
  Shared shared{};
  on_root(shared, [&] {
    int needs_energy = 0;
    plumed_->cmd("setStepLongLong", &start.step);
    plumed_->cmd("setStopFlag", &stop_flag_);
    plumed_->cmd("prepareDependencies");
    plumed_->cmd("isEnergyNeeded", &needs_energy);
    read_requested_atoms();
    shared = {static_cast<double>(needs_energy), static_cast<double>(requested_.size()),
              requested_ == atoms_.ids() ? 0.0 : 1.0};
  });
  n_requested_ = static_cast<int>(shared[1]);
  new_request_ = shared[2] != 0.0;
  return shared[0] != 0.0;
}

/// Tells PLUMED which atoms the arrays hold, if that has changed.
void GatherEngine::give_atoms() {
  const auto& ids = atoms_.ids();
  if (given_ != ids || first_) {
    given_ = ids;
    const int count = static_cast<int>(given_.size());
    plumed_->cmd("setAtomsNlocal", &count);
    plumed_->cmd("setAtomsGatindex", given_.data());
    mass_.resize(count);
    charge_.resize(count);
    for (int k = 0; k < count; ++k) {
      mass_[k] = mass_by_id_[given_[k]];
      charge_[k] = charge_by_id_[given_[k]];
    }
  }
}

void GatherEngine::run_plumed(const StepStart& start, const Unbiased* unbiased, Update update) {
  double virial[3][3] = {};
  if (unbiased) {
    plumed_->cmd("setEnergy", &unbiased->energy);
    to_plumed_virial(unbiased->virial, virial);
  }
  give_atoms();
  const std::vector<double> forces_before = forces_;
  plumed_->cmd("setBox", &start.box[0][0]);
  plumed_->cmd("setVirial", &virial[0][0]);
  plumed_->cmd("setPositions", atoms_.positions().data());
  plumed_->cmd("setForces", forces_.data());
  plumed_->cmd("setMasses", mass_.data());
  plumed_->cmd("setCharges", charge_.data());
  plumed_->cmd("shareData");
  stop_flag_ = 0; // prepareDependencies raises it on steps where PLUMED has nothing to do
  plumed_->cmd(update == Update::Full ? "performCalc" : "performCalcNoUpdate");
  plumed_->cmd("getBias", &result_.bias);
  result_.stop = stop_flag_ != 0;

  for (std::size_t k = 0; k < forces_.size(); ++k) {
    forces_[k] -= forces_before[k];
  }
  result_.virial = from_plumed_virial(virial);
  if (unbiased) {
    for (int k = 0; k < 6; ++k) {
      result_.virial[k] -= unbiased->virial[k];
    }
  }
  last_start_ = start;
  last_positions_ = atoms_.positions();
}

StepResult GatherEngine::compute(const StepStart& start, const Unbiased* unbiased, Update update) {
  result_ = StepResult{};
  // PLUMED reads masses and charges at its first step and scales the force of every atom
  // when it biases the energy
  if (unbiased || first_) {
    atoms_.request_all();
  } else {
    atoms_.request(requested_, n_requested_, new_request_);
  }
  if (start.atoms_moved) {
    atoms_.forget_locations();
  }
  atoms_.locate();
  if (first_) {
    atoms_.gather_masses_and_charges(mass_by_id_, charge_by_id_);
  }
  atoms_.gather_positions();
  forces_.assign(atoms_.positions().size(), 0.0);
  if (unbiased) {
    atoms_.gather_forces(forces_);
  }
  Shared shared{};
  on_root(shared, [&] {
    run_plumed(start, unbiased, update);
    shared = {result_.bias, result_.stop ? 1.0 : 0.0, 0.0};
  });
  result_.bias = shared[0];
  result_.stop = shared[1] != 0.0;
  atoms_.scatter_add_forces(forces_);
  first_ = false;
  last_step_ = start.step;
  virial_complete_ = !unbiased || unbiased->with_virial;
  return result_;
}

/// Equal up to whole cell vectors and the rounding of LAMMPS's wrapping.
bool GatherEngine::same_state(const StepStart& start) const {
  const double (*h)[3] = start.box;
  const double scale = std::abs(h[0][0]) + std::abs(h[1][1]) + std::abs(h[2][2]);
  const double tolerance = 1e-11 * (scale > 0.0 ? scale : 1.0);
  for (int i = 0; i < 3; ++i) {
    for (int j = 0; j < 3; ++j) {
      if (std::abs(h[i][j] - last_start_.box[i][j]) > tolerance) {
        return false;
      }
    }
  }
  const auto& now = atoms_.positions();
  if (now.size() != last_positions_.size()) {
    return false;
  }
  for (std::size_t k = 0; k < now.size(); k += 3) {
    double d[3];
    for (int i = 0; i < 3; ++i) {
      d[i] = now[k + i] - last_positions_[k + i];
    }
    for (int i = 2; i >= 0; --i) { // lower triangular cell: c first
      const double shift = h[i][i] > 0.0 ? std::round(d[i] / h[i][i]) : 0.0;
      for (int j = 0; j <= i; ++j) {
        d[j] -= shift * h[i][j];
      }
    }
    if (std::abs(d[0]) + std::abs(d[1]) + std::abs(d[2]) > tolerance) {
      return false;
    }
  }
  return true;
}

bool GatherEngine::repeat(const StepStart& start, bool need_virial, StepResult& result) {
  if (first_ || start.step != last_step_ || (need_virial && !virial_complete_)) {
    return false;
  }
  atoms_.forget_locations();
  atoms_.locate();
  atoms_.gather_positions();
  int same = root_ && same_state(start);
  MPI_Bcast(&same, 1, MPI_INT, 0, lmp_->world);
  if (same) {
    atoms_.scatter_add_forces(forces_);
    result = result_;
  }
  return same != 0;
}

} // namespace

std::unique_ptr<PlumedEngine> make_gather_engine(LAMMPS* lmp, const PlumedSetup& setup) {
  return std::make_unique<GatherEngine>(lmp, setup);
}

} // namespace metamd
