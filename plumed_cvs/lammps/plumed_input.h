// What the fix must know of a PLUMED input file before PLUMED runs it.
#pragma once

#include <string>

namespace metamd {

struct PlumedInput {
  bool has_actions = false; ///< anything that can act during a run
  bool has_energy = false;  ///< an ENERGY action: LAMMPS must tally its energy at every step
};

/// Reads the file and those it INCLUDEs.  PLUMED itself says only whether the current step
/// needs the energy, and LAMMPS must know one step ahead.  A file that cannot be read
/// counts as having actions; PLUMED then reports it.
PlumedInput scan_plumed_input(const std::string& file);

} // namespace metamd
