// Files a CV reads once: reference structures and principal components.
// Errors are std::runtime_error with the file's name in the message.
#pragma once

#include "matrix.h"

#include <string>
#include <vector>

namespace metamd::plumed {

struct XyzFrame {
  std::vector<std::string> species;
  std::vector<Vec3> positions_ang;
  Mat3 cell_ang{}; ///< zero: none
};

/// Frames of an XYZ file: element and x y z first in each line; Lattice="..." is read.
std::vector<XyzFrame> read_xyz(const std::string& path);

/// Principal components over the pairs of a matrix, in the matrix's own order.
struct PcaFile {
  std::vector<double> mean;
  std::vector<std::vector<double>> components;
};

/// The file: lines with '#' are comments, then
///
///     metric INVERSE
///     atoms 9
///     pairs 36
///     components 2
///     1 2 0.653 0.12 -0.04      i j mean c_1 c_2 ..., one line a pair
///
/// i < j count the atoms of GROUP from 1; mean is in units of D made from Angstrom.
/// metric, atoms and pairs must be those of the matrix.
PcaFile read_pca(const std::string& path, const DistanceMatrix& matrix);

} // namespace metamd::plumed
