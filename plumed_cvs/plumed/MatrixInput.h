// Keywords that both actions share: the atoms, the pairs, the metric.
#pragma once

#include "Compat.h"

#include "matrix.h"

#include <string>
#include <vector>

namespace metamd::plumed {

void register_matrix_keywords(PLMD::Keywords& keys);

struct MatrixInput {
  std::vector<PLMD::AtomNumber> atoms; ///< as asked of PLUMED, in the order of the selection
  std::vector<long long> ids;          ///< their serial numbers
  Selection selection;
  Metric metric;
  bool periodic = true; ///< false: NOPBC
};

/// Read them; ends in action.error() when something is wrong.
MatrixInput parse_matrix(PLMD::Colvar& action, double angstrom);

/// Positions in Angstrom.
void copy_positions(const std::vector<PLMD::Vector>& from, double angstrom, std::vector<Vec3>& to);

Cell make_cell(const PLMD::Tensor& box, double angstrom);

PLMD::Tensor to_tensor(const Mat3& m);

/// Comma-separated words.
std::vector<std::string> split(const std::string& text);

} // namespace metamd::plumed
