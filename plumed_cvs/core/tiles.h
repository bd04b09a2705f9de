// Many bumps in few dimensions, in single precision: sixteen of them side by side in a tile.
//
//   tile = [dims][16] coordinates, [16] heights, [16] bases          (an unused place has height 0)
//   E_a  = base_a + 1/2 sum_c (z_c - tile_ac)^2
//   grad_c += sum_a h_a exp(-E_a) (z_c - tile_ac)
//
// Nothing is summed across a vector but once in a while, and the exponential is taken of a whole
// vector.  The sums go on in double precision every kFlush tiles.
#pragma once

#include "kernels.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <vector>

namespace metamd {

constexpr std::size_t kTile = 16;   ///< bumps in a tile: a cache line of floats
constexpr std::size_t kFlush = 128; ///< tiles whose sum may be a float

struct TileArguments {
  const float* const* tiles;
  const std::uint32_t* index; ///< the tiles to visit, or null for 0..count-1
  std::size_t count;
  std::size_t dims;
  const float* z;
  float* scratch;  ///< [dims][16], 64-byte aligned
  float* exponent; ///< [tile][16]: E_a comes back here; null: not wanted
  double* grad;    ///< [dims], added to
};

namespace portable {
#define METAMD_TARGET
#define METAMD_VECTOR_BYTES 16
#include "tiles_body.inc"
#undef METAMD_TARGET
#undef METAMD_VECTOR_BYTES
} // namespace portable

#ifdef METAMD_DISPATCH
namespace avx2 {
#define METAMD_TARGET __attribute__((target("avx2,fma")))
#define METAMD_VECTOR_BYTES 32
#include "tiles_body.inc"
#undef METAMD_TARGET
#undef METAMD_VECTOR_BYTES
} // namespace avx2
namespace avx512 {
#define METAMD_TARGET __attribute__((target("avx512f,avx512vl,avx512dq,avx2,fma")))
#define METAMD_VECTOR_BYTES 64
#include "tiles_body.inc"
#undef METAMD_TARGET
#undef METAMD_VECTOR_BYTES
} // namespace avx512
#endif

using TileFunction = double (*)(const TileArguments&);

inline TileFunction tile_function(Isa isa) {
#ifdef METAMD_DISPATCH
  if (isa == Isa::Avx512) {
    return avx512::tile_pass;
  }
  if (isa == Isa::Avx2) {
    return avx2::tile_pass;
  }
#endif
  (void)isa;
  return portable::tile_pass;
}

/// Bumps of the same number of dimensions, and the sum over them.
class TileBlock {
public:
  explicit TileBlock(Isa isa = best_isa()) : pass_(tile_function(isa)) { reset(0); }

  void reset(std::size_t dims) {
    dims_ = dims;
    tiles_.clear();
    chunks_.clear();
    near_.clear();
    size_ = 0;
    listed_ = false;
    scratch_ = allocate(std::max<std::size_t>(dims, 1) * kTile);
    z_.assign(dims, 0.0f);
    grad_.assign(dims, 0.0);
  }

  std::size_t dims() const { return dims_; }
  std::size_t size() const { return size_; }
  float* z() { return z_.data(); }
  const double* gradient() const { return grad_.data(); }
  /// Bumps in the tiles looked at.
  std::size_t active() const { return listed_ ? std::min(near_.size() * kTile, size_) : size_; }

  /// A place for one more bump; fill it by set().
  std::size_t append() {
    if (size_ == tiles_.size() * kTile) {
      if (tiles_.size() % kChunk == 0) {
        chunks_.push_back(allocate(kChunk * tile_floats()));
      }
      tiles_.push_back(chunks_.back().get() + tiles_.size() % kChunk * tile_floats());
      if (listed_) {
        near_.push_back(static_cast<std::uint32_t>(tiles_.size() - 1));
      }
    }
    return size_++;
  }

  void set(std::size_t place, const float* z, double height, double base) {
    float* lane = tiles_[place / kTile] + place % kTile;
    for (std::size_t c = 0; c < dims_; ++c) {
      lane[c * kTile] = z[c];
    }
    lane[dims_ * kTile] = static_cast<float>(height);
    lane[(dims_ + 1) * kTile] = static_cast<float>(base);
  }

  /// The sum at z(); gradient() has its part.  Only over the tiles of the list if there is one.
  double evaluate() {
    return run(listed_ ? near_.data() : nullptr, listed_ ? near_.size() : tiles_.size(), nullptr);
  }

  /// The sum over all, and every exponent.
  double evaluate_all(std::vector<float>& exponents) {
    exponents.resize(tiles_.size() * kTile);
    return run(nullptr, tiles_.size(), exponents.data());
  }

  /// From now on only the tiles with an exponent below `largest`, as evaluate_all() found them.
  void list(const std::vector<float>& exponents, double largest) {
    near_.clear();
    for (std::size_t t = 0; t < tiles_.size(); ++t) {
      const auto first = exponents.begin() + static_cast<std::ptrdiff_t>(t * kTile);
      const auto last = first + static_cast<std::ptrdiff_t>(std::min(kTile, size_ - t * kTile));
      if (*std::min_element(first, last) <= largest) {
        near_.push_back(static_cast<std::uint32_t>(t));
      }
    }
    listed_ = true;
  }

  void forget_list() { listed_ = false; }

private:
  static constexpr std::size_t kChunk = 64; ///< tiles allocated together
  struct Free {
    void operator()(float* p) const { std::free(p); }
  };
  using Floats = std::unique_ptr<float, Free>;

  static Floats allocate(std::size_t n) {
    Floats out(static_cast<float*>(std::aligned_alloc(64, n * sizeof(float))));
    if (!out) {
      throw std::bad_alloc();
    }
    std::memset(out.get(), 0, n * sizeof(float));
    return out;
  }

  std::size_t tile_floats() const { return (dims_ + 2) * kTile; }

  double run(const std::uint32_t* index, std::size_t count, float* exponents) {
    std::fill(grad_.begin(), grad_.end(), 0.0);
    return pass_(
        {tiles_.data(), index, count, dims_, z_.data(), scratch_.get(), exponents, grad_.data()});
  }

  TileFunction pass_;
  std::size_t dims_ = 0, size_ = 0;
  std::vector<Floats> chunks_;
  std::vector<float*> tiles_;
  std::vector<std::uint32_t> near_;
  std::vector<float> z_;
  std::vector<double> grad_;
  Floats scratch_;
  bool listed_ = false;
};

} // namespace metamd
