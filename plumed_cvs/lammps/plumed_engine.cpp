#include "plumed_engine.h"

#include "comm.h"
#include "lammps.h"

namespace metamd {

void initialise(PlumedSession& plumed, const PlumedSetup& setup) {
  if (setup.natural_units) {
    plumed.cmd("setNaturalUnits");
  } else {
    plumed.cmd("setMDEnergyUnits", &setup.energy_unit);
    plumed.cmd("setMDLengthUnits", &setup.length_unit);
    plumed.cmd("setMDTimeUnits", &setup.time_unit);
  }
  if (!setup.log_file.empty()) {
    plumed.cmd("setLogFile", setup.log_file.c_str());
  }
  plumed.cmd("setPlumedDat", setup.input_file.c_str());
  plumed.cmd("setMDEngine", "LAMMPS");
  plumed.cmd("setNatoms", &setup.natoms);
  plumed.cmd("setTimestep", &setup.timestep);
  plumed.cmd("init");
}

// Off-diagonal elements: LAMMPS moves x with y when the tilt xy grows, so the gradient is
// -sum y f_x, the lower triangle.  It is the same as the upper one for any bias that does
// not change under rotation.
Virial from_plumed_virial(const double (&plumed)[3][3]) {
  return {-plumed[0][0], -plumed[1][1], -plumed[2][2], -plumed[1][0], -plumed[2][0], -plumed[2][1]};
}

void to_plumed_virial(const Virial& virial, double (&plumed)[3][3]) {
  for (int k = 0; k < 3; ++k) {
    plumed[k][k] = -virial[k];
  }
  plumed[0][1] = plumed[1][0] = -virial[3];
  plumed[0][2] = plumed[2][0] = -virial[4];
  plumed[1][2] = plumed[2][1] = -virial[5];
}

namespace {

/// Rank 0 decides for all: it may see another PATH than the others.
bool decide_shared_mpi(LAMMPS_NS::LAMMPS* lmp) {
  int shares = 0;
  if (lmp->comm->nprocs > 1 && lmp->comm->me == 0) {
    try {
      shares = plumed_kernel().shares_mpi;
    } catch (const PlumedError&) {
      shares = 0; // the gather engine reports it
    }
  }
  MPI_Bcast(&shares, 1, MPI_INT, 0, lmp->world);
  return shares != 0;
}

} // namespace

std::unique_ptr<PlumedEngine> make_engine(LAMMPS_NS::LAMMPS* lmp, const PlumedSetup& setup) {
  return decide_shared_mpi(lmp) ? make_communicator_engine(lmp, setup)
                                : make_gather_engine(lmp, setup);
}

} // namespace metamd
