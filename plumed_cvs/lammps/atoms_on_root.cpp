#include "atoms_on_root.h"

#include "plumed_kernel.h"

#include "atom.h"
#include "comm.h"
#include "lammps.h"

#include <mpi.h>
#include <numeric>
#include <string>
#include <utility>

namespace metamd {

AtomsOnRoot::AtomsOnRoot(LAMMPS_NS::LAMMPS* lmp, int natoms)
    : lmp_(lmp), natoms_(natoms), slot_of_id_(natoms, -1) {}

void AtomsOnRoot::request_all() {
  skip_ = false;
  if (static_cast<int>(ids_.size()) != natoms_) {
    std::vector<int> all(natoms_);
    std::iota(all.begin(), all.end(), 0);
    set_list(std::move(all));
  }
}

void AtomsOnRoot::request(const std::vector<int>& ids, int count, bool is_new) {
  skip_ = count == 0;
  if (skip_ || !is_new) {
    return;
  }
  if (count == natoms_) {
    request_all(); // PLUMED's lists are sorted
    return;
  }
  std::vector<int> list(count);
  if (lmp_->comm->me == 0) {
    list = ids;
  }
  MPI_Bcast(list.data(), count, MPI_INT, 0, lmp_->world);
  set_list(std::move(list));
}

void AtomsOnRoot::set_list(std::vector<int> ids) {
  for (const int id : ids_) {
    slot_of_id_[id] = -1;
  }
  ids_ = std::move(ids);
  for (std::size_t k = 0; k < ids_.size(); ++k) {
    slot_of_id_[ids_[k]] = static_cast<int>(k);
  }
  located_ = false;
}

void AtomsOnRoot::locate() {
  if (located_ || skip()) {
    return;
  }
  const auto* atom = lmp_->atom;
  std::vector<int> slots;
  here_.clear();
  for (int i = 0; i < atom->nlocal; ++i) {
    const int slot = slot_of_id_[atom->tag[i] - 1];
    if (slot >= 0) {
      here_.push_back(i);
      slots.push_back(slot);
    }
  }
  const int nprocs = lmp_->comm->nprocs;
  const int mine = static_cast<int>(here_.size());
  int total = 0;
  MPI_Allreduce(&mine, &total, 1, MPI_INT, MPI_SUM, lmp_->world);
  if (total != static_cast<int>(ids_.size())) {
    throw PlumedError("Of " + std::to_string(ids_.size()) + " atoms that PLUMED needs " +
                      std::to_string(total) + " are left: atoms have been lost or deleted");
  }
  counts_.resize(nprocs);
  offsets_.assign(nprocs, 0);
  slots_by_rank_.resize(ids_.size());
  MPI_Gather(&mine, 1, MPI_INT, counts_.data(), 1, MPI_INT, 0, lmp_->world);
  for (int rank = 1; rank < nprocs; ++rank) {
    offsets_[rank] = offsets_[rank - 1] + counts_[rank - 1];
  }
  MPI_Gatherv(slots.data(), mine, MPI_INT, slots_by_rank_.data(), counts_.data(), offsets_.data(),
              MPI_INT, 0, lmp_->world);
  located_ = true;
}

/// packed_ of all ranks, `width` numbers an atom, into list order on rank 0.
void AtomsOnRoot::gather_packed(int width, std::vector<double>& in_list_order) {
  MPI_Datatype row;
  MPI_Type_contiguous(width, MPI_DOUBLE, &row);
  MPI_Type_commit(&row);
  const bool root = lmp_->comm->me == 0;
  received_.resize(root ? width * ids_.size() : 0);
  MPI_Gatherv(packed_.data(), static_cast<int>(here_.size()), row, received_.data(), counts_.data(),
              offsets_.data(), row, 0, lmp_->world);
  MPI_Type_free(&row);
  in_list_order.resize(received_.size());
  for (std::size_t k = 0; root && k < ids_.size(); ++k) {
    for (int c = 0; c < width; ++c) {
      in_list_order[width * slots_by_rank_[k] + c] = received_[width * k + c];
    }
  }
}

void AtomsOnRoot::gather(const double* const* rows, std::vector<double>& in_list_order) {
  if (skip()) {
    return;
  }
  packed_.resize(3 * here_.size());
  for (std::size_t k = 0; k < here_.size(); ++k) {
    for (int c = 0; c < 3; ++c) {
      packed_[3 * k + c] = rows[here_[k]][c];
    }
  }
  gather_packed(3, in_list_order);
}

void AtomsOnRoot::gather_positions() { gather(lmp_->atom->x, positions_); }

void AtomsOnRoot::gather_forces(std::vector<double>& forces) { gather(lmp_->atom->f, forces); }

void AtomsOnRoot::scatter_add_forces(const std::vector<double>& forces) {
  if (skip()) {
    return;
  }
  if (lmp_->comm->me == 0) {
    received_.resize(3 * ids_.size());
    for (std::size_t k = 0; k < ids_.size(); ++k) {
      for (int c = 0; c < 3; ++c) {
        received_[3 * k + c] = forces[3 * slots_by_rank_[k] + c];
      }
    }
  }
  MPI_Datatype row;
  MPI_Type_contiguous(3, MPI_DOUBLE, &row);
  MPI_Type_commit(&row);
  packed_.resize(3 * here_.size());
  MPI_Scatterv(received_.data(), counts_.data(), offsets_.data(), row, packed_.data(),
               static_cast<int>(here_.size()), row, 0, lmp_->world);
  MPI_Type_free(&row);
  double** f = lmp_->atom->f;
  for (std::size_t k = 0; k < here_.size(); ++k) {
    for (int c = 0; c < 3; ++c) {
      f[here_[k]][c] += packed_[3 * k + c];
    }
  }
}

void AtomsOnRoot::gather_masses_and_charges(std::vector<double>& masses,
                                            std::vector<double>& charges) {
  const auto* atom = lmp_->atom;
  packed_.resize(2 * here_.size());
  for (std::size_t k = 0; k < here_.size(); ++k) {
    const int i = here_[k];
    packed_[2 * k] = atom->rmass_flag ? atom->rmass[i] : atom->mass[atom->type[i]];
    packed_[2 * k + 1] = atom->q_flag ? atom->q[i] : 0.0;
  }
  std::vector<double> both;
  gather_packed(2, both);
  masses.resize(both.size() / 2);
  charges.resize(both.size() / 2);
  for (std::size_t k = 0; k < masses.size(); ++k) {
    masses[k] = both[2 * k];
    charges[k] = both[2 * k + 1];
  }
}

} // namespace metamd
