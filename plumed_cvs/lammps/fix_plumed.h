// fix ID group plumed plumedfile FILE outfile LOG
//
// The syntax of LAMMPS's own fix plumed, written against PLUMED's C functions.
// What differs from that fix:
//   scalar   the bias of this step, energy units (theirs lags one step)
//   ENERGY   LAMMPS's potential energy without this fix's bias, at every step
//   cost     energy only if the input has ENERGY; virial only when something reads it
//   runs     a second `run` from the same state neither prints nor deposits twice
//   box      a system without periodic directions has no box, shrink-wrapped or not
#pragma once

#include "fix.h"
#include "plumed_engine.h"
#include "plumed_input.h"

#include <memory>
#include <string>

namespace metamd {

class FixPlumed : public LAMMPS_NS::Fix {
public:
  FixPlumed(LAMMPS_NS::LAMMPS* lmp, int narg, char** arg);
  ~FixPlumed() override;

  int setmask() override;
  void init() override;
  void setup(int vflag) override;
  void min_setup(int vflag) override;
  void post_force(int vflag) override;
  void min_post_force(int vflag) override;
  void post_run() override;
  void reset_dt() override;
  double compute_scalar() override;
  double memory_usage() override;

private:
  void refuse_impossible_runs() const;
  void refuse_other_fixes() const;
  PlumedSetup read_arguments(int narg, char** arg) const;
  void add_energy_computes();

  StepStart start_of_step(bool atoms_moved) const;
  double fingerprint() const;
  Unbiased unbiased_energy_and_virial();
  void step(Update update, bool atoms_moved);
  void take(const StepResult& result);

  std::unique_ptr<PlumedEngine> engine_;
  PlumedInput input_;
  std::string input_file_;
  double timestep_ = 0.0;
  LAMMPS_NS::bigint natoms_ = 0;
  LAMMPS_NS::bigint last_step_ = -1;
  double last_fingerprint_ = 0.0; ///< of the atoms when the last run ended
  double bias_ = 0.0;
  bool own_bias_hidden_ = false; ///< compute_scalar() returns zero while pe is read for PLUMED
  std::string pe_id_, pressure_id_;
};

} // namespace metamd
