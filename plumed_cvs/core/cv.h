// Collective variables of the matrix: its mean, its distance to reference
// matrices, its projections on principal components.
#pragma once

#include "hillstore.h"
#include "matrix.h"

#include <cmath>
#include <vector>

namespace metamd {

/// A value with its derivatives by the listed matrix elements.
struct PairFunction {
  double value = 0.0;
  std::vector<double> dv_dd;
};

/// sum D / N over all N pairs of the matrix, those beyond the cutoff included.
inline PairFunction matrix_mean(const DistanceMatrix& m) {
  const double n = 1.0 / double(m.count());
  PairFunction f{0.0, std::vector<double>(m.size(), n)};
  for (std::size_t p = 0; p < m.size(); ++p) {
    f.value += m.d(p) * n;
  }
  return f;
}

/// A stored configuration as a matrix, kept over the present pair list.
class ReferenceMatrix {
public:
  ReferenceMatrix(std::vector<Vec3> x, const Cell& cell) : x_(std::move(x)), cell_(cell) {}

  /// To be called whenever the list of pairs is new.
  void project(const DistanceMatrix& m) {
    const std::vector<double> ones(m.size(), 1.0);
    row_.resize(m.size());
    m.project(x_, cell_, ones.data(), row_.data());
    rest_ = 0.0;
    if (!m.dense()) {
      if (norm2_ < 0.0) {
        const std::size_t kinds = m.selection().kinds().size();
        norm2_ = m.norm2(x_, cell_, std::vector<double>(kinds * kinds, 1.0));
      }
      rest_ = norm2_;
      for (const double d : row_) {
        rest_ -= d * d;
      }
      rest_ = rest_ > 1e-12 * norm2_ ? rest_ : 0.0;
    }
  }

  /// |D - D_ref|, each pair once.  At zero the distance has no gradient: zero is given.
  PairFunction distance(const DistanceMatrix& m) const {
    PairFunction f{0.0, std::vector<double>(m.size(), 0.0)};
    double sum = rest_;
    for (std::size_t p = 0; p < m.size(); ++p) {
      f.dv_dd[p] = m.d(p) - row_[p];
      sum += f.dv_dd[p] * f.dv_dd[p];
    }
    f.value = std::sqrt(sum);
    for (double& g : f.dv_dd) {
      g = f.value > 0.0 ? g / f.value : 0.0;
    }
    return f;
  }

private:
  std::vector<Vec3> x_;
  Cell cell_;
  std::vector<double> row_;
  double norm2_ = -1.0, rest_ = 0.0;
};

/// sum_p c_p (D_p - mean_p), over the pairs of a dense matrix.
inline PairFunction matrix_projection(const DistanceMatrix& m, const std::vector<double>& mean,
                                      const std::vector<double>& component) {
  PairFunction f{0.0, component};
  for (std::size_t p = 0; p < m.size(); ++p) {
    f.value += component[p] * (m.d(p) - mean[p]);
  }
  return f;
}

} // namespace metamd
