// The bias over the whole distance matrix:
//
//   V(R) = sum_a h_a exp(-E_a),   E_a = 1/2 sum_{i<j} w_ij (D_ij - D_ij^a)^2 / sigma_ij^2
//
// with w = 1 for INVERSE and DISTANCE, w = 1/(1 + r_ij^2) for SCREENED.
#pragma once

#include "hillstore.h"
#include "matrix.h"
#include "mergedstore.h"
#include "sigma.h"

#include <limits>
#include <optional>
#include <vector>

namespace metamd {

struct BiasOptions {
  MatrixOptions matrix;
  Sigma sigma{0.2};
  ListOptions list;
  long long ramp_steps = 0; ///< over which a hill grows to its height
  double merge = 0.0;       ///< see mergedstore.h, in units of sigma; 0: every hill as it is
  Isa isa = best_isa();
};

class MatrixBias {
public:
  MatrixBias(Selection sel, const BiasOptions& options)
      : options_(options), matrix_(std::move(sel), options.matrix),
        sigma_(options.sigma.table(matrix_.selection())),
        store_(options.matrix.metric.weighted(), options.list, options.isa) {
    if (options.merge > 0.0) {
      check_merge();
      merged_.emplace(options.merge, options.list, options.isa);
    }
    if (matrix_.dense()) {
      rebuild();
    }
  }

  const DistanceMatrix& matrix() const { return matrix_; }
  /// Hills looked at in the last evaluation, and hills or what they were merged to.
  std::size_t active() const { return merged_ ? merged_->active() : store_.active(); }
  std::size_t stored() const { return merged_ ? merged_->size() : store_.size(); }
  /// Hills added, whether merged or not.
  std::size_t hills() const { return added_; }
  /// Principal components that MERGE keeps them in; 0: all pairs.
  std::size_t components() const { return merged_ ? merged_->components() : 0; }
  double energy() const { return energy_; }
  /// dV/dx of the last evaluation.
  const std::vector<Vec3>& gradient() const { return gradient_; }
  /// W = - sum_ij r_ij (x) dV/dr_ij of the last evaluation.
  const Mat3& virial() const { return virial_; }
  /// What all changes of the hills have done to the system since the start.
  double work() const { return work_; }

  /// As the step of a hill: it starts to grow when the bias is evaluated next.
  static constexpr long long kFirstStep = std::numeric_limits<long long>::max();

  /// Add a hill at any configuration, as read from a file; it starts to grow at `step`.
  void add(const std::vector<Vec3>& x, const Cell& cell, double height, long long step) {
    if (matrix_.dense()) {
      matrix_.update(x, cell);
      fill_y();
      insert(height, step);
    } else {
      frames_.push_back({x, cell, matrix_.norm2(x, cell, sigma_)});
      note_born(height, step);
    }
    ++added_;
  }

  /// Add a hill where the bias was last evaluated.
  void add_here(const std::vector<Vec3>& x, const Cell& cell, double height, long long step) {
    if (!matrix_.dense()) {
      frames_.push_back({x, cell, norm2_here()});
    }
    insert(height, step);
    ++added_;
    if (options_.ramp_steps == 0) {
      work_ += height;
      energy_ += height;
    }
  }

  /// Evaluate again where the bias was last evaluated, after add(): what changed is work.
  void recount(const std::vector<Vec3>& x, const Cell& cell, long long step) {
    const double before = energy_;
    evaluate(x, cell, step);
    work_ += energy_ - before;
  }

  double evaluate(const std::vector<Vec3>& x, const Cell& cell, long long step) {
    const bool renewed = matrix_.update(x, cell);
    if (renewed) {
      rebuild();
    } else if (!pending_.empty()) {
      place_pending();
    }
    fill_y();
    grow(step);
    energy_ = merged_ ? merged_->evaluate() : store_.evaluate();
    count_ramp_work();
    derivatives();
    gradient_.assign(x.size(), Vec3{0, 0, 0});
    virial_ = Mat3{};
    matrix_.chain(dv_dd_.data(), gradient_, virial_);
    return energy_;
  }

private:
  void check_merge() const {
    if (!matrix_.dense()) {
      throw std::invalid_argument("MERGE works on full matrices only: leave out CUTOFF or MERGE");
    }
    if (options_.matrix.metric.weighted()) {
      throw std::invalid_argument("MERGE works with METRIC=INVERSE and DISTANCE only");
    }
    if (options_.ramp_steps > 0) {
      throw std::invalid_argument("MERGE and RAMP exclude each other");
    }
  }

  struct Frame {
    std::vector<Vec3> x;
    Cell cell;
    double norm2;
  };
  struct Growing {
    std::size_t hill;
    double height;
    long long born;
    double change;
  };

  double norm2_here() const {
    double sum = 0.0;
    for (std::size_t p = 0; p < matrix_.size(); ++p) {
      sum += store_.y()[p] * store_.y()[p];
    }
    return sum;
  }

  void fill_y() {
    double* y = merged_ ? merged_->y() : store_.y();
    for (std::size_t p = 0; p < matrix_.size(); ++p) {
      y[p] = matrix_.d(p) * scale_[p];
    }
    if (options_.matrix.metric.weighted()) {
      double* w = store_.w();
      for (std::size_t p = 0; p < matrix_.size(); ++p) {
        w[p] = 1.0 / (1.0 + matrix_.r(p) * matrix_.r(p));
      }
    }
  }

  /// Rows over a new list of pairs, from the stored configurations.
  void rebuild() {
    std::vector<double> heights(store_.size());
    for (std::size_t k = 0; k < store_.size(); ++k) {
      heights[k] = store_.height(k);
    }
    heights.insert(heights.end(), pending_.begin(), pending_.end());
    matrix_.scales(sigma_, scale_);
    store_.reset(matrix_.size());
    if (merged_) {
      merged_->reset(matrix_.size());
    }
    dv_dd_.assign(matrix_.size(), 0.0);
    for (std::size_t k = 0; k < frames_.size(); ++k) {
      place(frames_[k], heights[k]);
    }
    pending_.clear();
  }

  /// Rows for hills that came in since the last evaluation.
  void place_pending() {
    const std::size_t first = store_.size();
    for (std::size_t k = 0; k < pending_.size(); ++k) {
      place(frames_[first + k], pending_[k]);
    }
    pending_.clear();
    store_.invalidate_list();
  }

  void place(const Frame& f, double height) {
    double* row = store_.add(height);
    matrix_.project(f.x, f.cell, scale_.data(), row);
    double listed = 0.0;
    for (std::size_t p = 0; p < matrix_.size(); ++p) {
      listed += row[p] * row[p];
    }
    // Pairs of the hill that are out of the list: D is zero there now, so their
    // share of the exponent is constant.  Rounding must not give it a value.
    const double rest = 0.5 * (f.norm2 - listed);
    store_.set_base(store_.size() - 1, rest > 1e-12 * f.norm2 ? rest : 0.0);
  }

  void note_born(double height, long long step) {
    const bool ramp = options_.ramp_steps > 0;
    const std::size_t k = store_.size() + pending_.size();
    if (!matrix_.dense()) {
      pending_.push_back(ramp ? 0.0 : height);
    }
    if (ramp) {
      growing_.push_back({k, height, step, 0.0});
    }
  }

  void insert(double height, long long step) {
    if (merged_) {
      merged_->add(height);
      return;
    }
    const bool ramp = options_.ramp_steps > 0;
    if (ramp) {
      growing_.push_back({store_.size(), height, step, 0.0});
    }
    double* row = store_.add(ramp ? 0.0 : height);
    std::copy(store_.y(), store_.y() + matrix_.size(), row);
  }

  /// Set the heights of growing hills.
  void grow(long long step) {
    for (Growing& g : growing_) {
      g.born = std::min(g.born, step); // the host may have set its counter back
      const double fraction = std::min(1.0, double(step - g.born) / double(options_.ramp_steps));
      g.change = g.height * fraction - store_.height(g.hill);
      store_.set_height(g.hill, g.height * fraction);
    }
  }

  void count_ramp_work() {
    std::size_t kept = 0;
    for (const Growing& g : growing_) {
      work_ += g.change * std::exp(-store_.exponent(g.hill));
      if (store_.height(g.hill) < g.height) {
        growing_[kept++] = g;
      }
    }
    growing_.resize(kept);
  }

  /// dV/dD from the sums of the store.
  void derivatives() {
    const double* g = merged_ ? merged_->gradient() : store_.gradient();
    if (!options_.matrix.metric.weighted()) {
      for (std::size_t p = 0; p < matrix_.size(); ++p) {
        dv_dd_[p] = -scale_[p] * g[p];
      }
      return;
    }
    // d/dr of (r - r^a)^2 / (1 + r^2) has a second term from the weight.
    const double* g2 = store_.gradient2();
    const double* w = store_.w();
    for (std::size_t p = 0; p < matrix_.size(); ++p) {
      dv_dd_[p] = -w[p] * (scale_[p] * g[p] - matrix_.r(p) * w[p] * g2[p]);
    }
  }

  BiasOptions options_;
  DistanceMatrix matrix_;
  std::vector<double> sigma_, scale_, dv_dd_;
  HillStore store_;
  std::optional<MergedStore> merged_; ///< instead of store_
  std::vector<Frame> frames_;         ///< only under a neighbour list, to make rows anew
  std::vector<double> pending_;
  std::vector<Growing> growing_;
  std::vector<Vec3> gradient_;
  Mat3 virial_{};
  double energy_ = 0.0, work_ = 0.0;
  std::size_t added_ = 0;
};

} // namespace metamd
