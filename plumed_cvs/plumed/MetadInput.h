// Keywords of MATRIX_METAD beyond those of the matrix, and what a hill of it must agree in.
#pragma once

#include "MatrixInput.h"

#include "bias.h"
#include "hilltext.h"

#include <exception>
#include <string>

namespace metamd::plumed {

/// SIGMA, PACE, HEIGHT and so on.
void register_metad_keywords(PLMD::Keywords& keys);

struct MetadInput {
  int pace = 0; ///< 0: the hills of the file, as they are
  double height_ev = 0.0;
  double biasfactor = 0.0; ///< 0: constant heights
  double kbt_ev = 0.0;     ///< only with a biasfactor
  bool random = false;     ///< heights
  long long seed = -1;
  std::string file;
  int walkers = 1, walker = 0, walkers_rstride = 0;
  std::string walkers_dir;
  BiasOptions bias;
};

/// Read them; ends in action.error() when something is wrong.
MetadInput parse_metad(PLMD::Colvar& action, int stride, const Metric& metric,
                       const HostUnits& units);

/// What all hills of one bias have in common.
struct HillKind {
  const MatrixInput& matrix;
  const Sigma& sigma;
  double biasfactor;
  long long pairs;

  /// Throws std::runtime_error when a hill of a file is of another bias.
  void check(const HillFrame& hill, const std::string& path) const;
  /// A hill without place, time and height.
  HillFrame blank() const;
};

/// What went wrong below PLUMED becomes an error of the action.
template <class Job> void guarded(const PLMD::Action& action, Job&& job) {
  std::string message;
  try {
    job();
    return;
  } catch (const PLMD::Exception&) {
    throw;
  } catch (const std::exception& wrong) {
    message = wrong.what();
  }
  action.error(message);
}

} // namespace metamd::plumed
