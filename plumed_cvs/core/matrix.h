// The distance matrix of a configuration: its elements over the pair list, their
// derivatives, and the way from derivatives by D to gradients and virial.
#pragma once

#include "geometry.h"
#include "metric.h"
#include "numbers.h"
#include "pairlist.h"
#include "selection.h"

#include <cmath>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace metamd {

struct MatrixOptions {
  Metric metric;
  double neighbour_skin_ang = 1.0; ///< how far a pair may be beyond the cutoff and still be listed
  bool dense = false;              ///< all pairs even under a cutoff
};

class DistanceMatrix {
public:
  /// Below this many atoms a neighbour list saves nothing.
  static constexpr std::size_t kSmall = 64;

  DistanceMatrix(Selection sel, const MatrixOptions& options)
      : sel_(std::move(sel)), metric_(options.metric), count_(sel_.count()) {
    if (count_ <= 0) {
      throw std::invalid_argument("no pair of atoms is left in the matrix");
    }
    if (metric_.has_cutoff() && !options.dense && sel_.size() > kSmall) {
      pairs_.set_neighbours(metric_.cutoff_ang, options.neighbour_skin_ang);
    } else {
      pairs_.set_dense(sel_);
      resize();
    }
  }

  const Selection& selection() const { return sel_; }
  const Metric& metric() const { return metric_; }
  const PairList& pairs() const { return pairs_; }
  bool dense() const { return pairs_.dense(); }
  /// Pairs in the list now.
  std::size_t size() const { return pairs_.size(); }
  /// Pairs in the matrix, those beyond the cutoff included.
  std::int64_t count() const { return count_; }
  double d(std::size_t p) const { return d_[p]; }
  double r(std::size_t p) const { return r_[p]; }

  /// Compute all elements; true when the list of pairs is a new one.
  bool update(const std::vector<Vec3>& x, const Cell& cell) {
    check_cell(cell);
    const bool renewed = pairs_.update(x, cell, sel_);
    if (renewed) {
      resize();
    }
    for (std::size_t p = 0; p < size(); ++p) {
      const Vec3 v = vector(x, cell, p);
      const double r = std::sqrt(dot(v, v));
      vec_[p] = v;
      r_[p] = r;
      metric_.evaluate(r, d_[p], slope_[p]);
    }
    return renewed;
  }

  /// The elements of another configuration over the present list, times scale[p].
  void project(const std::vector<Vec3>& x, const Cell& cell, const double* scale,
               double* row) const {
    for (std::size_t p = 0; p < size(); ++p) {
      const Vec3 v = vector(x, cell, p);
      double d, slope;
      metric_.evaluate(std::sqrt(dot(v, v)), d, slope);
      row[p] = d * scale[p];
    }
  }

  /// sum (D_ij scale_ij)^2 over all pairs of another configuration: what a row
  /// over a neighbour list must be completed to.
  double norm2(const std::vector<Vec3>& x, const Cell& cell,
               const std::vector<double>& sigma_by_kind) const {
    double sum = 0.0;
    CellSearch::pairs(x, cell, sel_, metric_.cutoff_ang, [&](std::int32_t i, std::int32_t j) {
      const Vec3 v = cell.nearest({x[j][0] - x[i][0], x[j][1] - x[i][1], x[j][2] - x[i][2]});
      double d, slope;
      metric_.evaluate(std::sqrt(dot(v, v)), d, slope);
      const double y = d / sigma_by_kind[sel_.kind(i) * sel_.kinds().size() + sel_.kind(j)];
      sum += y * y;
    });
    return sum;
  }

  /// 1/sigma for each listed pair.
  void scales(const std::vector<double>& sigma_by_kind, std::vector<double>& out) const {
    out.resize(size());
    for (std::size_t p = 0; p < size(); ++p) {
      const std::size_t k =
          std::size_t(sel_.kind(pairs_.i[p])) * sel_.kinds().size() + sel_.kind(pairs_.j[p]);
      out[p] = 1.0 / sigma_by_kind[k];
    }
  }

  /// From dV/dD per listed pair to dV/dx per atom and W = - sum r (x) dV/dr, both added to.
  void chain(const double* dv_dd, std::vector<Vec3>& gradient, Mat3& virial) const {
    for (std::size_t p = 0; p < size(); ++p) {
      const double s = dv_dd[p] * slope_[p];
      if (s == 0.0) {
        continue;
      }
      const double q = s / r_[p];
      const Vec3& v = vec_[p];
      Vec3& gi = gradient[pairs_.i[p]];
      Vec3& gj = gradient[pairs_.j[p]];
      for (int k = 0; k < 3; ++k) {
        const double g = q * v[k];
        gj[k] += g;
        gi[k] -= g;
        for (int l = 0; l < 3; ++l) {
          virial[l][k] -= v[l] * g;
        }
      }
    }
  }

private:
  Vec3 vector(const std::vector<Vec3>& x, const Cell& cell, std::size_t p) const {
    const Vec3& a = x[pairs_.i[p]];
    const Vec3& b = x[pairs_.j[p]];
    return cell.nearest({b[0] - a[0], b[1] - a[1], b[2] - a[2]});
  }

  void resize() {
    vec_.resize(size());
    r_.resize(size());
    d_.resize(size());
    slope_.resize(size());
  }

  /// Beyond half the cell a pair has a second image in reach, and D would jump between them.
  void check_cell(const Cell& cell) const {
    if (metric_.has_cutoff() && cell.periodic() && 2.0 * metric_.cutoff_ang > cell.min_width()) {
      throw std::runtime_error("CUTOFF is " + format_double(metric_.cutoff_ang) +
                               " A, more than half the smallest width of the cell (" +
                               format_double(cell.min_width()) +
                               " A): use a smaller CUTOFF or a larger cell");
    }
  }

  Selection sel_;
  Metric metric_;
  PairList pairs_;
  std::int64_t count_;
  std::vector<Vec3> vec_;
  std::vector<double> r_, d_, slope_;
};

} // namespace metamd
