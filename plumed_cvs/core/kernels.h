// The two passes over the stored matrices, for every instruction set this
// processor may have; the choice is made when a store is created.
//
//   pass 1   E_a = base_a + 1/2 sum_p w_p (y_p - row_ap)^2      w = 1 unless given
//   pass 2   grad_p  += sum_a h_a exp(-E_a) (y_p - row_ap)
//            grad2_p += sum_a h_a exp(-E_a) (y_p - row_ap)^2    only with w
//
// Both passes run over a block of rows while it is in cache, so that memory is read once. Each
// asks ahead of time for half of the rows of the next block, so that memory never rests.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>

namespace metamd {

struct PassArguments {
  const double* const* rows;  ///< all rows; each of `width` doubles, 64-byte aligned
  const std::uint32_t* index; ///< the rows to visit, or null for 0..count-1
  std::size_t count;
  std::size_t width; ///< a multiple of 8, padded with zeros
  std::size_t block; ///< rows that fit the cache together, 1..8
  const double* y;
  const double* w;      ///< null: all ones
  const double* height; ///< by row number
  const double* base;   ///< by row number
  double* exponent;     ///< by row number: E_a comes back here
  double* grad;
  double* grad2;
};

enum class Isa { Portable, Avx2, Avx512 };

constexpr std::size_t kLanes = 8; ///< doubles in a cache line: rows are padded to it

#if defined(__GNUC__)
#define METAMD_VECTOR_TYPES 1
#endif

namespace portable {
#define METAMD_TARGET
#define METAMD_VECTOR_BYTES 16
#include "kernels_body.inc"
#undef METAMD_TARGET
#undef METAMD_VECTOR_BYTES
} // namespace portable

#if defined(METAMD_VECTOR_TYPES) && defined(__x86_64__)
#define METAMD_DISPATCH 1
namespace avx2 {
#define METAMD_TARGET __attribute__((target("avx2,fma")))
#define METAMD_VECTOR_BYTES 32
#include "kernels_body.inc"
#undef METAMD_TARGET
#undef METAMD_VECTOR_BYTES
} // namespace avx2
namespace avx512 {
#define METAMD_TARGET __attribute__((target("avx512f,avx512vl,avx512dq,avx2,fma")))
#define METAMD_VECTOR_BYTES 64
#include "kernels_body.inc"
#undef METAMD_TARGET
#undef METAMD_VECTOR_BYTES
} // namespace avx512
#endif

/// The best this processor offers.
inline Isa best_isa() {
#ifdef METAMD_DISPATCH
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx512dq")) {
    return Isa::Avx512;
  }
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    return Isa::Avx2;
  }
#endif
  return Isa::Portable;
}

using PassFunction = double (*)(const PassArguments&);

inline PassFunction pass_function(Isa isa, bool weighted) {
#ifdef METAMD_DISPATCH
  if (isa == Isa::Avx512) {
    return weighted ? avx512::both_passes<true> : avx512::both_passes<false>;
  }
  if (isa == Isa::Avx2) {
    return weighted ? avx2::both_passes<true> : avx2::both_passes<false>;
  }
#endif
  (void)isa;
  return weighted ? portable::both_passes<true> : portable::both_passes<false>;
}

} // namespace metamd
