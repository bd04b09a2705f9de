// The part of LAMMPS's distributed atoms that rank 0 works on: a list of atom
// ids, where each lies, and the collective copies of positions and forces.
#pragma once

#include <vector>

namespace LAMMPS_NS {
class LAMMPS;
}

namespace metamd {

class AtomsOnRoot {
public:
  AtomsOnRoot(LAMMPS_NS::LAMMPS* lmp, int natoms);

  /// Which atoms: all.  Collective, as everything below.
  void request_all();
  /// Which atoms: 0-based ids, read on rank 0; how many, and whether they differ from the last
  /// list, known on all ranks.  None keeps the list: PLUMED then does nothing with atoms.
  void request(const std::vector<int>& ids, int count, bool is_new);
  /// After atoms have changed rank or index.
  void forget_locations() { located_ = false; }
  /// Finds where the requested atoms lie, if that is not known.
  void locate();

  void gather_positions();
  /// forces: 3 a atom in list order, on rank 0.
  void gather_forces(std::vector<double>& forces);
  void scatter_add_forces(const std::vector<double>& forces);
  /// Arrays over all atoms by 0-based id; the list must be Everything.
  void gather_masses_and_charges(std::vector<double>& masses, std::vector<double>& charges);

  const std::vector<int>& ids() const { return ids_; }
  /// 3 a atom in list order, on rank 0.
  const std::vector<double>& positions() const { return positions_; }

private:
  void set_list(std::vector<int> ids);
  void gather(const double* const* rows, std::vector<double>& in_list_order);
  void gather_packed(int width, std::vector<double>& in_list_order);
  bool skip() const { return skip_; }

  LAMMPS_NS::LAMMPS* const lmp_;
  const int natoms_;
  bool located_ = false;
  bool skip_ = false;           ///< nothing asked for this time
  std::vector<int> ids_;        ///< the list, 0-based ids
  std::vector<int> slot_of_id_; ///< place in the list, -1: not in it
  std::vector<int> here_;       ///< local indices of the listed atoms of this rank
  std::vector<double> packed_;  ///< send or receive buffer of this rank
  // rank 0 only
  std::vector<int> counts_, offsets_; ///< listed atoms by rank
  std::vector<int> slots_by_rank_;    ///< list places in rank order
  std::vector<double> received_;
  std::vector<double> positions_;
};

} // namespace metamd
