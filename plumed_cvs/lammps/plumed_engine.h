// One step of PLUMED inside LAMMPS, seen from the fix.
//
// Two engines do it: GatherEngine runs PLUMED on rank 0 and brings it only the
// atoms that it asks for; CommunicatorEngine gives PLUMED LAMMPS's communicator.
// Every method is collective, and every method ends the same way on all ranks:
// what PLUMED throws anywhere becomes a PlumedError everywhere.
//
// Virials here follow LAMMPS: W = sum_i r_i (x) f_i in the order xx yy zz xy xz yz,
// energy units, to be summed over ranks.
#pragma once

#include "plumed_kernel.h"

#include <array>
#include <memory>
#include <mpi.h>
#include <string>

namespace LAMMPS_NS {
class LAMMPS;
}

namespace metamd {

using Virial = std::array<double, 6>;

/// What a PLUMED instance is told once.  Units: factors from LAMMPS's to kJ/mol, nm, ps.
struct PlumedSetup {
  std::string input_file;
  std::string log_file; ///< empty: PLUMED's default, the screen
  bool natural_units = false;
  double energy_unit = 1.0, length_unit = 1.0, time_unit = 1.0;
  double timestep = 0.0;
  int natoms = 0;
};

/// What a step starts from.  Rows of box are the cell vectors; all zero means no periodicity.
struct StepStart {
  long long step = 0;
  double box[3][3] = {};
  bool atoms_moved =
      true; ///< atoms may sit elsewhere than in the last call: other rank, other index
};

/// LAMMPS's own energy and virial without the bias, total over ranks; used only with ENERGY.
struct Unbiased {
  double energy = 0.0;
  bool with_virial = false;
  Virial virial = {};
};

/// What a step leaves besides forces, which are added to LAMMPS's directly.
struct StepResult {
  double bias = 0.0;
  Virial virial = {}; ///< this rank's share
  bool stop = false;  ///< PLUMED asks the host to end the run
};

enum class Update {
  Full,      ///< deposit hills, print
  ForcesOnly ///< the same step once more: forces without side effects
};

class PlumedEngine {
public:
  virtual ~PlumedEngine() = default;
  /// Tells PLUMED the step; returns whether it needs the potential energy now.
  virtual bool prepare(const StepStart& start) = 0;
  /// Computes and adds the forces.  unbiased is nullptr when no energy is needed.
  virtual StepResult compute(const StepStart& start, const Unbiased* unbiased, Update update) = 0;
  /// If start is the state of the last computed step, adds its forces again without asking
  /// PLUMED and returns true: a second `run` goes on as if the first had not ended.
  virtual bool repeat(const StepStart& start, bool need_virial, StepResult& result) = 0;
};

std::unique_ptr<PlumedEngine> make_gather_engine(LAMMPS_NS::LAMMPS* lmp, const PlumedSetup& setup);
std::unique_ptr<PlumedEngine> make_communicator_engine(LAMMPS_NS::LAMMPS* lmp,
                                                       const PlumedSetup& setup);
/// The communicator engine where kernel and LAMMPS call one libmpi, else the gather engine.
std::unique_ptr<PlumedEngine> make_engine(LAMMPS_NS::LAMMPS* lmp, const PlumedSetup& setup);

/// Everything before PLUMED's "init", then "init".
void initialise(PlumedSession& plumed, const PlumedSetup& setup);

/// PLUMED's virial is -sum r (x) f, a full matrix that need not be symmetric.
Virial from_plumed_virial(const double (&plumed)[3][3]);
void to_plumed_virial(const Virial& virial, double (&plumed)[3][3]);

} // namespace metamd
