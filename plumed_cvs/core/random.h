// Random numbers that need no state: the n-th of a seed is the n-th after any restart.
#pragma once

#include <cstdint>

namespace metamd {

/// Uniform in (0, 1], by the finalizer of splitmix64 (Steele, Lea and Flood 2014).
inline double uniform(std::uint64_t seed, std::uint64_t n) {
  std::uint64_t z = (seed + 1) * 0x9E3779B97F4A7C15ull + n * 0xD1342543DE82EF95ull;
  for (int round = 0; round < 2; ++round) {
    z += 0x9E3779B97F4A7C15ull;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
    z ^= z >> 31;
  }
  return (double(z >> 11) + 1.0) * 0x1.0p-53;
}

} // namespace metamd
