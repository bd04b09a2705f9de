// PLUMED on every rank, each with its own atoms: for kernels that call the same
// libmpi as LAMMPS.  PLUMED then divides its own work over the ranks too.
#include "atom.h"
#include "comm.h"
#include "lammps.h"
#include "plumed_engine.h"

#include <cstdio>
#include <cstdlib>
#include <mpi.h>
#include <vector>

namespace metamd {
namespace {

using LAMMPS_NS::LAMMPS;

/// How long a rank that failed waits for the others to notice, before it ends them.
constexpr double seconds_to_agree = 10.0;

class CommunicatorEngine : public PlumedEngine {
public:
  CommunicatorEngine(LAMMPS* lmp, const PlumedSetup& setup);
  bool prepare(const StepStart& start) override;
  StepResult compute(const StepStart& start, const Unbiased* unbiased, Update update) override;
  bool repeat(const StepStart&, bool, StepResult&) override { return false; }

private:
  template <class F> void on_all(F&& work);
  void give_atoms();
  void run_plumed(const StepStart& start, const Unbiased* unbiased, Update update);

  LAMMPS* const lmp_;
  std::unique_ptr<PlumedSession> plumed_;
  std::vector<int> ids_;
  std::vector<double> mass_, charge_;
  int stop_flag_ = 0;
  StepResult result_;
};

CommunicatorEngine::CommunicatorEngine(LAMMPS* lmp, const PlumedSetup& setup) : lmp_(lmp) {
  on_all([&] {
    // With an input that reads no atoms PLUMED starts sends at the first step that nobody
    // receives, and MPICH ends a program that frees a communicator in that state.
    setenv("PLUMED_ASYNC_SHARE", "no", 0);
    plumed_ = std::make_unique<PlumedSession>(plumed_kernel());
    plumed_->cmd("setMPIComm", &lmp->world);
    initialise(*plumed_, setup);
  });
}

/// Runs work on every rank; a failure on any of them is thrown on all.  A rank may fail
/// alone while the others wait for it inside PLUMED: then nobody will answer, and only
/// MPI_Abort ends the run.
template <class F> void CommunicatorEngine::on_all(F&& work) {
  std::string message;
  int failed = 0, any = 0;
  try {
    work();
  } catch (const std::exception& error) {
    message = error.what();
    failed = 1;
  }
  MPI_Request request;
  MPI_Iallreduce(&failed, &any, 1, MPI_INT, MPI_MAX, lmp_->world, &request);
  if (!failed) {
    MPI_Wait(&request, MPI_STATUS_IGNORE);
  } else {
    int done = 0;
    for (const double start = MPI_Wtime(); !done;) {
      MPI_Test(&request, &done, MPI_STATUS_IGNORE);
      if (!done && MPI_Wtime() - start > seconds_to_agree) {
        fprintf(stderr, "ERROR: fix plumed on rank %d: %s\n", lmp_->comm->me, message.c_str());
        MPI_Abort(lmp_->world, 1);
      }
    }
  }
  if (any) {
    // the lowest failing rank speaks for all
    const int me = failed ? lmp_->comm->me : lmp_->comm->nprocs;
    int speaker = 0;
    MPI_Allreduce(&me, &speaker, 1, MPI_INT, MPI_MIN, lmp_->world);
    int length = static_cast<int>(message.size());
    MPI_Bcast(&length, 1, MPI_INT, speaker, lmp_->world);
    message.resize(length);
    MPI_Bcast(message.data(), length, MPI_CHAR, speaker, lmp_->world);
    // Not destroyed: messages between the ranks' PLUMEDs may be under way, and MPI ends a
    // program that frees their communicator.  What has been written so far reaches the disk.
    static_cast<void>(plumed_.release());
    fflush(nullptr);
    throw PlumedError(message);
  }
}

/// Tells PLUMED which atoms this rank holds.
void CommunicatorEngine::give_atoms() {
  const auto* atom = lmp_->atom;
  const int nlocal = atom->nlocal;
  // one more than needed: a rank without atoms still passes valid addresses
  ids_.resize(nlocal + 1);
  mass_.resize(nlocal + 1);
  charge_.resize(nlocal + 1);
  for (int i = 0; i < nlocal; ++i) {
    ids_[i] = atom->tag[i] - 1;
    mass_[i] = atom->rmass_flag ? atom->rmass[i] : atom->mass[atom->type[i]];
    charge_[i] = atom->q_flag ? atom->q[i] : 0.0;
  }
  plumed_->cmd("setAtomsNlocal", &nlocal);
  plumed_->cmd("setAtomsGatindex", ids_.data());
}

bool CommunicatorEngine::prepare(const StepStart& start) {
  int needs_energy = 0;
  on_all([&] {
    plumed_->cmd("setStepLongLong", &start.step);
    plumed_->cmd("setStopFlag", &stop_flag_);
    plumed_->cmd("prepareDependencies");
    plumed_->cmd("isEnergyNeeded", &needs_energy);
  });
  return needs_energy != 0;
}

void CommunicatorEngine::run_plumed(const StepStart& start, const Unbiased* unbiased,
                                    Update update) {
  const bool root = lmp_->comm->me == 0;
  // PLUMED sums the energy over ranks but keeps the virial of rank 0
  double virial[3][3] = {};
  double energy_share = 0.0;
  if (unbiased) {
    energy_share = unbiased->energy / lmp_->comm->nprocs;
    plumed_->cmd("setEnergy", &energy_share);
    if (root) {
      to_plumed_virial(unbiased->virial, virial);
    }
  }
  if (start.atoms_moved) {
    give_atoms();
  }
  double nowhere[3] = {};
  const bool empty = lmp_->atom->nlocal == 0;
  plumed_->cmd("setBox", &start.box[0][0]);
  plumed_->cmd("setVirial", &virial[0][0]);
  plumed_->cmd("setPositions", empty ? nowhere : lmp_->atom->x[0]);
  plumed_->cmd("setForces", empty ? nowhere : lmp_->atom->f[0]);
  plumed_->cmd("setMasses", mass_.data());
  plumed_->cmd("setCharges", charge_.data());
  plumed_->cmd("shareData");
  stop_flag_ = 0; // prepareDependencies raises it on steps where PLUMED has nothing to do
  plumed_->cmd(update == Update::Full ? "performCalc" : "performCalcNoUpdate");
  plumed_->cmd("getBias", &result_.bias);
  result_.virial = from_plumed_virial(virial);
  if (unbiased && root) {
    for (int k = 0; k < 6; ++k) {
      result_.virial[k] -= unbiased->virial[k];
    }
  }
}

StepResult CommunicatorEngine::compute(const StepStart& start, const Unbiased* unbiased,
                                       Update update) {
  result_ = StepResult{};
  on_all([&] { run_plumed(start, unbiased, update); });
  int stop = 0;
  MPI_Allreduce(&stop_flag_, &stop, 1, MPI_INT, MPI_MAX, lmp_->world);
  result_.stop = stop != 0;
  return result_;
}

} // namespace

std::unique_ptr<PlumedEngine> make_communicator_engine(LAMMPS* lmp, const PlumedSetup& setup) {
  return std::make_unique<CommunicatorEngine>(lmp, setup);
}

} // namespace metamd
