// Checks that say what they compared, and a count that must not stay at zero.
#pragma once

#include <cmath>
#include <cstdio>
#include <string>

inline int checks = 0, failures = 0;

inline void check(bool good, const std::string& what) {
  ++checks;
  if (!good) {
    ++failures;
    std::printf("FAILED: %s\n", what.c_str());
  }
}

inline void check_close(double a, double b, double tolerance, const std::string& what) {
  check(std::abs(a - b) <= tolerance,
        what + ": " + std::to_string(a) + " and " + std::to_string(b) + " differ by " +
            std::to_string(std::abs(a - b) / tolerance) + " tolerances");
}

/// The exit status of a test program.
inline int finish() {
  std::printf("%d checks, %d failures\n", checks, failures);
  return failures == 0 && checks > 0 ? 0 : 1;
}
