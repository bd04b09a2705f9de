// The stored matrices and the sum over them.
//
// A row holds y = D / sigma over the pairs of the list; whatever part of a hill
// lies on pairs outside it (possible only under a cutoff, where D is zero now) goes
// into `base`, its constant share of the exponent.
#pragma once

#include "kernels.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <vector>

namespace metamd {

/// Which hills are looked at.  A hill whose exponent is beyond `cutoff_exponent` stays
/// out until the matrix has moved by `skin` (in units of sigma).  What is left out is
/// below height * exp(-cutoff_exponent): at 40, below the rounding of doubles.
struct ListOptions {
  double skin = 1.0; ///< 0: look at every hill at every step
  double cutoff_exponent = 40.0;
};

class HillStore {
public:
  explicit HillStore(bool weighted = false, ListOptions list = {}, Isa isa = best_isa())
      : weighted_(weighted), list_(list), pass_(pass_function(isa, weighted)) {}

  std::size_t size() const { return rows_.size(); }
  /// Hills looked at in the last evaluation.
  std::size_t active() const { return use_list() && list_valid_ ? index_.size() : size(); }

  /// Start over with rows for this many pairs.
  void reset(std::size_t pairs) {
    pairs_ = pairs;
    width_ = (pairs + kLanes - 1) / kLanes * kLanes;
    chunks_.clear();
    rows_.clear();
    height_.clear();
    base_.clear();
    exponent_.clear();
    y_.assign_zero(width_);
    grad_.assign_zero(width_);
    w_.assign_zero(weighted_ ? width_ : 0);
    grad2_.assign_zero(weighted_ ? width_ : 0);
    list_valid_ = false;
    // Half of a small second-level cache: the rest is for y, the gradient and the next block.
    const std::size_t row_bytes = std::max<std::size_t>(width_ * sizeof(double), 1);
    block_ = std::clamp<std::size_t>(131072 / row_bytes, 1, 8);
    block_ = block_ < 8 ? 1 : 8;
  }

  /// Add a row of y = D / sigma and return it for filling.
  double* add(double height, double base = 0.0) {
    if (chunks_.empty() || used_ == per_chunk_) {
      per_chunk_ =
          std::clamp<std::size_t>((4u << 20) / std::max<std::size_t>(width_ * 8, 8), 1, 4096);
      chunks_.emplace_back();
      chunks_.back().assign_zero(per_chunk_ * width_);
      used_ = 0;
    }
    double* row = chunks_.back().get() + used_++ * width_;
    if (list_valid_) {
      index_.push_back(static_cast<std::uint32_t>(rows_.size()));
    }
    rows_.push_back(row);
    height_.push_back(height);
    base_.push_back(base);
    exponent_.push_back(base);
    return row;
  }

  double* row(std::size_t k) { return rows_[k]; }
  const double* row(std::size_t k) const { return rows_[k]; }
  double height(std::size_t k) const { return height_[k]; }
  void set_height(std::size_t k, double height) { height_[k] = height; }
  double base(std::size_t k) const { return base_[k]; }
  /// The exponent as last computed; hills outside the list keep an old one.
  double exponent(std::size_t k) const { return exponent_[k]; }
  /// Forget which hills are near, after rows were changed from outside.
  void invalidate_list() { list_valid_ = false; }

  void set_base(std::size_t k, double base) { base_[k] = base; }

  double* y() { return y_.get(); }
  const double* y() const { return y_.get(); }
  /// The weights of a SCREENED metric.
  double* w() { return w_.get(); }
  /// sum_a V_a (y - row_a)
  const double* gradient() const { return grad_.get(); }
  /// sum_a V_a (y - row_a)^2
  const double* gradient2() const { return grad2_.get(); }

  /// The bias at y(); gradient() holds the sum that its derivative is made of.
  double evaluate() {
    if (!use_list()) {
      return pass(nullptr, size());
    }
    if (list_valid_ && moved() <= list_.skin) {
      return pass(index_.data(), index_.size());
    }
    const double bias = pass(nullptr, size());
    const double reach = std::sqrt(2.0 * list_.cutoff_exponent) + list_.skin;
    index_.clear();
    for (std::size_t k = 0; k < size(); ++k) {
      if (exponent_[k] <= 0.5 * reach * reach) {
        index_.push_back(static_cast<std::uint32_t>(k));
      }
    }
    y0_.assign(y_.get(), y_.get() + width_);
    list_valid_ = true;
    return bias;
  }

private:
  struct Aligned {
    struct Free {
      void operator()(double* p) const { std::free(p); }
    };
    std::unique_ptr<double, Free> data;
    double* get() { return data.get(); }
    const double* get() const { return data.get(); }
    void assign_zero(std::size_t n) {
      const std::size_t bytes = std::max<std::size_t>((n * sizeof(double) + 63) / 64 * 64, 64);
      data.reset(static_cast<double*>(std::aligned_alloc(64, bytes)));
      if (!data) {
        throw std::bad_alloc();
      }
      std::memset(data.get(), 0, bytes);
    }
  };

  /// Distances are not those of a fixed space when the weights move with r.
  bool use_list() const { return list_.skin > 0.0 && !weighted_; }

  double moved() const {
    double sum = 0.0;
    for (std::size_t p = 0; p < pairs_; ++p) {
      const double d = y_.get()[p] - y0_[p];
      sum += d * d;
    }
    return std::sqrt(sum);
  }

  double pass(const std::uint32_t* index, std::size_t count) {
    std::memset(grad_.get(), 0, width_ * sizeof(double));
    if (weighted_) {
      std::memset(grad2_.get(), 0, width_ * sizeof(double));
    }
    return pass_({rows_.data(), index, count, width_, block_, y_.get(),
                  weighted_ ? w_.get() : nullptr, height_.data(), base_.data(), exponent_.data(),
                  grad_.get(), grad2_.get()});
  }

  bool weighted_;
  ListOptions list_;
  PassFunction pass_;
  std::size_t pairs_ = 0, width_ = 0, block_ = 8, per_chunk_ = 0, used_ = 0;
  std::vector<Aligned> chunks_;
  std::vector<double*> rows_;
  std::vector<double> height_, base_, exponent_, y0_;
  std::vector<std::uint32_t> index_;
  Aligned y_, w_, grad_, grad2_;
  bool list_valid_ = false;
};

} // namespace metamd
