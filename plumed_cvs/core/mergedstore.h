// The bumps under MERGE: fewer of them, shorter, in single precision.
//
//   1  A bump within `radius` (in units of sigma) of an older one becomes part of it.
//   2  Bumps are kept in the principal components z = B (y - c) of all so far.  The distance to
//      bump a is then (z - z_a)^2 + q^2 + r_a^2, with q and r_a the lengths of what B leaves out of
//      y and of y_a: all of the true one but the product of the two small parts.  B has as
//      many rows as it takes to bring the mean r_a^2 below (radius/8)^2.
//   3  A bump with r_a beyond radius/4, and every new one until enough have come, is kept in full.
//
// What is computed is the exact gradient of a slightly different, smooth bias, so that dynamics
// conserves energy.  It depends on the bumps and their order alone: a restart gives it again.
#pragma once

#include "hillstore.h"
#include "subspace.h"
#include "tiles.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

namespace metamd {

class MergedStore {
public:
  MergedStore(double radius, ListOptions list, Isa isa)
      : radius_(radius), list_(list), full_(isa), reduced_(isa) {}

  /// Start over with rows of this many pairs.
  void reset(std::size_t pairs) {
    pairs_ = pairs;
    y_.assign(pairs, 0.0);
    grad_.assign(pairs, 0.0);
    rest_.assign(pairs, 0.0);
    z_.assign(pairs, 0.0);
    row_.assign(pairs, 0.0f);
    origin_.clear();
    bumps_.clear();
    archive_.clear();
    full_.reset(pairs);
    reduced_.reset(0);
    full_bumps_.clear();
    reduced_bumps_.clear();
    fitted_ = folded_ = 0;
    listed_ = false;
  }

  /// Bumps kept, after merging.
  std::size_t size() const { return bumps_.size(); }
  /// Bumps looked at in the last evaluation.
  std::size_t active() const { return full_.active() + reduced_.active(); }
  /// Principal components in use; 0 while there are too few bumps to have any.
  std::size_t components() const { return reduced_.dims(); }

  double* y() { return y_.data(); }
  const double* y() const { return y_.data(); }
  /// sum_a V_a (y - row_a), of the bias that is computed here.
  const double* gradient() const { return grad_.data(); }

  /// Add a bump at y().
  void add(double height) {
    if (bumps_.empty()) {
      origin_ = y_;
    }
    if (merge_into_nearest(height)) {
      return;
    }
    archive_.insert(archive_.end(), y_.begin(), y_.end());
    bumps_.push_back({height, 0.0, height, full_.append(), false});
    full_bumps_.push_back(bumps_.size() - 1);
    place(bumps_.size() - 1);
    if (full_bumps_.size() - folded_ >= std::max(kFirst, reduced_bumps_.size() / 16)) {
      fold();
    }
  }

  /// The bias at y().
  double evaluate() {
    if (list_.skin > 0.0 && !(listed_ && moved() <= list_.skin)) {
      const double bias = evaluate_all();
      const double reach = std::sqrt(2.0 * list_.cutoff_exponent) + list_.skin;
      full_.list(full_exponents_, 0.5 * reach * reach);
      // an exponent without the shares of q, which all bumps have in common
      reduced_.list(reduced_exponents_, 0.5 * (reach * reach - rest2_));
      y0_ = y_;
      listed_ = true;
      return bias;
    }
    enter();
    return leave(full_.evaluate(), reduced_.evaluate());
  }

private:
  static constexpr std::size_t kFirst = 256;   ///< bumps before there are principal components
  static constexpr std::size_t kSample = 1024; ///< bumps that these are made of, at most
  static constexpr std::size_t kPairs = 2048;  ///< beyond, components cost too much to find

  struct Bump {
    double weight; ///< sum of the heights in it
    double spread; ///< their mean square distance from its centre
    double height;
    std::size_t place;
    bool reduced;
  };

  double moved() const {
    double sum = 0.0;
    for (std::size_t p = 0; p < pairs_; ++p) {
      sum += (y_[p] - y0_[p]) * (y_[p] - y0_[p]);
    }
    return std::sqrt(sum);
  }

  /// y() into the coordinates of both blocks.
  void enter() {
    for (std::size_t p = 0; p < pairs_ && !origin_.empty(); ++p) {
      full_.z()[p] = static_cast<float>(y_[p] - origin_[p]);
    }
    if (components() > 0) {
      rest2_ = space_.project(y_.data(), z_.data(), rest_.data());
      std::copy_n(z_.begin(), components(), reduced_.z());
    } else {
      rest2_ = 0.0;
    }
  }

  /// From the sums of the blocks to the bias and its gradient over the pairs.
  double leave(double bias, double reduced_bias) {
    std::copy_n(full_.gradient(), pairs_, grad_.begin());
    if (components() == 0) {
      return bias;
    }
    const double share = std::exp(-0.5 * rest2_);
    for (std::size_t c = 0; c < components(); ++c) {
      const double g = share * reduced_.gradient()[c];
      const double* b = space_.basis.data() + c * pairs_;
      for (std::size_t p = 0; p < pairs_; ++p) {
        grad_[p] += g * b[p];
      }
    }
    for (std::size_t p = 0; p < pairs_; ++p) {
      grad_[p] += share * reduced_bias * rest_[p];
    }
    return bias + share * reduced_bias;
  }

  double evaluate_all() {
    enter();
    const double bias = full_.evaluate_all(full_exponents_);
    return leave(bias, reduced_.evaluate_all(reduced_exponents_));
  }

  /// Replace a bump by the height-weighted mean of it and the matrix here.  To second order a
  /// cluster of bumps is lower than their sum by half its spread: so is its height.
  bool merge_into_nearest(double height) {
    evaluate_all();
    std::size_t best = bumps_.size();
    double closest = 0.5 * radius_ * radius_;
    for (std::size_t k = 0; k < full_bumps_.size(); ++k) {
      if (full_exponents_[k] <= closest) {
        closest = full_exponents_[k];
        best = full_bumps_[k];
      }
    }
    for (std::size_t k = 0; k < reduced_bumps_.size(); ++k) {
      if (reduced_exponents_[k] + 0.5 * rest2_ <= closest) {
        closest = reduced_exponents_[k] + 0.5 * rest2_;
        best = reduced_bumps_[k];
      }
    }
    if (best == bumps_.size()) {
      return false;
    }
    Bump& bump = bumps_[best];
    const double f = height / (bump.weight + height);
    float* row = archive_.data() + best * pairs_;
    double distance2 = 0.0;
    for (std::size_t p = 0; p < pairs_; ++p) {
      const double d = y_[p] - row[p];
      distance2 += d * d;
      row[p] = static_cast<float>(row[p] + f * d);
    }
    bump.weight += height;
    bump.spread = (1.0 - f) * (bump.spread + f * distance2);
    bump.height = bump.weight * std::exp(-0.5 * bump.spread);
    place(best);
    full_.forget_list();
    reduced_.forget_list();
    listed_ = false;
    return true;
  }

  /// Write a bump into its block.
  void place(std::size_t k) {
    const Bump& bump = bumps_[k];
    const float* row = archive_.data() + k * pairs_;
    if (bump.reduced) {
      const double rest2 = project(row);
      reduced_.set(bump.place, row_.data(), bump.height, 0.5 * rest2);
      return;
    }
    for (std::size_t p = 0; p < pairs_; ++p) {
      row_[p] = static_cast<float>(row[p] - origin_[p]);
    }
    full_.set(bump.place, row_.data(), bump.height, 0.0);
  }

  /// The components of a row into row_, and the square of what they leave out.
  double project(const float* row) {
    const std::vector<double> y(row, row + pairs_);
    std::vector<double> z(pairs_), rest(pairs_);
    const double rest2 = space_.project(y.data(), z.data(), rest.data());
    std::copy_n(z.begin(), space_.dims, row_.begin());
    return rest2;
  }

  /// Bumps out of the full block into the reduced one, once in a while with new components.
  void fold() {
    if (pairs_ > kPairs) {
      folded_ = full_bumps_.size();
      return;
    }
    if (2 * bumps_.size() >= 3 * fitted_) {
      fitted_ = bumps_.size();
      std::vector<const float*> rows;
      const std::size_t step = (bumps_.size() + kSample - 1) / kSample;
      for (std::size_t k = 0; k < bumps_.size(); k += step) {
        rows.push_back(archive_.data() + k * pairs_);
      }
      space_ = principal_subspace(rows, pairs_, radius_ * radius_ / 64.0);
      reduced_.reset(space_.dims);
      reduced_bumps_.clear();
      full_bumps_.resize(bumps_.size());
      std::iota(full_bumps_.begin(), full_bumps_.end(), std::size_t(0));
    }
    const std::vector<std::size_t> waiting = std::move(full_bumps_);
    full_bumps_.clear();
    full_.reset(pairs_);
    for (const std::size_t k : waiting) {
      Bump& bump = bumps_[k];
      bump.reduced = project(archive_.data() + k * pairs_) <= radius_ * radius_ / 16.0;
      bump.place = bump.reduced ? reduced_.append() : full_.append();
      (bump.reduced ? reduced_bumps_ : full_bumps_).push_back(k);
      place(k);
    }
    folded_ = full_bumps_.size();
    reduced_.forget_list();
    listed_ = false;
  }

  double radius_;
  ListOptions list_;
  std::size_t pairs_ = 0;
  std::vector<double> y_, y0_, grad_, origin_, z_, rest_;
  std::vector<float> row_;
  double rest2_ = 0.0; ///< q^2 of y()
  std::vector<Bump> bumps_;
  std::vector<float> archive_; ///< [bump][pairs]: what the components are made of
  TileBlock full_, reduced_;
  std::vector<std::size_t> full_bumps_, reduced_bumps_; ///< bump by place
  std::vector<float> full_exponents_, reduced_exponents_;
  Subspace space_;
  std::size_t fitted_ = 0; ///< bumps when the components were made
  std::size_t folded_ = 0; ///< bumps in the full block that do not fit these
  bool listed_ = false;
};

} // namespace metamd
