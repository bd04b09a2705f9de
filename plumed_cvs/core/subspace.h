// The few directions in which a cloud of matrices extends.
//
// A molecule's inverse distances move in at most 3N-6 directions and a little beyond, however
// many pairs there are: the principal components of the bumps so far hold nearly all of them.
#pragma once

#include "random.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <numeric>
#include <vector>

namespace metamd {

struct Subspace {
  std::size_t full = 0, dims = 0;
  std::vector<double> centre; ///< [full]
  std::vector<double> basis;  ///< [dims][full], orthonormal rows

  /// z = basis (y - centre); `rest` becomes the part of y - centre that z leaves out.
  /// Returns the square of its length.
  double project(const double* y, double* z, double* rest) const {
    for (std::size_t p = 0; p < full; ++p) {
      rest[p] = y[p] - centre[p];
    }
    for (std::size_t c = 0; c < dims; ++c) {
      const double* b = basis.data() + c * full;
      z[c] = std::inner_product(b, b + full, rest, 0.0);
    }
    for (std::size_t c = 0; c < dims; ++c) {
      const double* b = basis.data() + c * full;
      for (std::size_t p = 0; p < full; ++p) {
        rest[p] -= z[c] * b[p];
      }
    }
    return std::inner_product(rest, rest + full, rest, 0.0);
  }
};

namespace detail {

/// Eigenvalues and, as rows of `v`, eigenvectors of a symmetric matrix, by Jacobi's rotations.
inline void jacobi(std::vector<double>& a, std::size_t n, std::vector<double>& v) {
  v.assign(n * n, 0.0);
  for (std::size_t i = 0; i < n; ++i) {
    v[i * n + i] = 1.0;
  }
  const double size = std::inner_product(a.begin(), a.end(), a.begin(), 0.0);
  for (int sweep = 0; sweep < 50; ++sweep) {
    double off = 0.0;
    for (std::size_t i = 0; i < n; ++i) {
      for (std::size_t j = i + 1; j < n; ++j) {
        const double aij = a[i * n + j];
        off += aij * aij;
        if (aij * aij <= 1e-30 * size) {
          continue;
        }
        const double theta = 0.5 * (a[j * n + j] - a[i * n + i]) / aij;
        const double t = std::copysign(1.0, theta) / (std::abs(theta) + std::hypot(theta, 1.0));
        const double c = 1.0 / std::hypot(t, 1.0), s = t * c;
        for (std::size_t k = 0; k < n; ++k) {
          const double x = a[i * n + k], y = a[j * n + k];
          a[i * n + k] = c * x - s * y;
          a[j * n + k] = s * x + c * y;
          const double p = v[i * n + k], q = v[j * n + k];
          v[i * n + k] = c * p - s * q;
          v[j * n + k] = s * p + c * q;
        }
        for (std::size_t k = 0; k < n; ++k) {
          const double x = a[k * n + i], y = a[k * n + j];
          a[k * n + i] = c * x - s * y;
          a[k * n + j] = s * x + c * y;
        }
      }
    }
    if (off <= 1e-24 * size) {
      return;
    }
  }
}

/// Make the rows of v [n][full] orthonormal; rows that vanish become zero.
inline void orthonormalise(std::vector<double>& v, std::size_t n, std::size_t full) {
  for (std::size_t i = 0; i < n; ++i) {
    double* a = v.data() + i * full;
    const double before = std::inner_product(a, a + full, a, 0.0);
    for (int twice = 0; twice < 2; ++twice) {
      for (std::size_t j = 0; j < i; ++j) {
        const double* b = v.data() + j * full;
        const double overlap = std::inner_product(a, a + full, b, 0.0);
        for (std::size_t p = 0; p < full; ++p) {
          a[p] -= overlap * b[p];
        }
      }
    }
    const double after = std::inner_product(a, a + full, a, 0.0);
    const double scale = after > 1e-24 * before && after > 0.0 ? 1.0 / std::sqrt(after) : 0.0;
    for (std::size_t p = 0; p < full; ++p) {
      a[p] *= scale;
    }
  }
}

/// out = v C for rows of v [n][full] and a symmetric C [full][full].
inline void times_symmetric(const std::vector<double>& v, std::size_t n,
                            const std::vector<double>& c, std::size_t full,
                            std::vector<double>& out) {
  out.assign(n * full, 0.0);
  for (std::size_t i = 0; i < n; ++i) {
    double* to = out.data() + i * full;
    for (std::size_t q = 0; q < full; ++q) {
      const double x = v[i * full + q];
      const double* row = c.data() + q * full;
      for (std::size_t p = 0; p < full; ++p) {
        to[p] += x * row[p];
      }
    }
  }
}

inline std::vector<double> covariance(const std::vector<const float*>& rows,
                                      const std::vector<double>& centre) {
  const std::size_t full = centre.size();
  std::vector<double> c(full * full, 0.0), d(full);
  for (const float* row : rows) {
    for (std::size_t p = 0; p < full; ++p) {
      d[p] = row[p] - centre[p];
    }
    for (std::size_t q = 0; q < full; ++q) {
      for (std::size_t p = q; p < full; ++p) {
        c[q * full + p] += d[q] * d[p];
      }
    }
  }
  for (std::size_t q = 0; q < full; ++q) {
    for (std::size_t p = q; p < full; ++p) {
      c[q * full + p] /= double(rows.size());
      c[p * full + q] = c[q * full + p];
    }
  }
  return c;
}

} // namespace detail

/// The smallest number of principal components of the rows [full] that leaves a mean square
/// distance of at most `neglect` out.  Subspace iteration with a growing block, then Ritz
/// vectors; the start is fixed, so that the same rows always give the same components.
inline Subspace principal_subspace(const std::vector<const float*>& rows, std::size_t full,
                                   double neglect) {
  Subspace out;
  out.full = full;
  out.centre.assign(full, 0.0);
  for (const float* row : rows) {
    for (std::size_t p = 0; p < full; ++p) {
      out.centre[p] += row[p] / double(rows.size());
    }
  }
  const std::vector<double> c = detail::covariance(rows, out.centre);
  double total = 0.0;
  for (std::size_t p = 0; p < full; ++p) {
    total += c[p * full + p];
  }
  std::vector<double> v, cv, ritz, turn;
  std::size_t n = 0;
  const auto captured = [&] { return std::inner_product(v.begin(), v.end(), cv.begin(), 0.0); };
  do {
    const std::size_t before = n;
    n = std::min(full, std::max<std::size_t>(16, 2 * n));
    v.resize(n * full);
    for (std::size_t k = before * full; k < n * full; ++k) {
      v[k] = uniform(1, k) - 0.5;
    }
    for (int iteration = 0; iteration < 6; ++iteration) {
      detail::orthonormalise(v, n, full);
      detail::times_symmetric(v, n, c, full, cv);
      if (iteration < 5) {
        std::swap(v, cv);
      }
    }
  } while (n < full && total - captured() > neglect);

  ritz.assign(n * n, 0.0);
  for (std::size_t i = 0; i < n; ++i) {
    for (std::size_t j = 0; j < n; ++j) {
      ritz[i * n + j] = std::inner_product(v.begin() + std::ptrdiff_t(i * full),
                                           v.begin() + std::ptrdiff_t((i + 1) * full),
                                           cv.begin() + std::ptrdiff_t(j * full), 0.0);
    }
  }
  detail::jacobi(ritz, n, turn);
  std::vector<std::size_t> order(n);
  std::iota(order.begin(), order.end(), std::size_t(0));
  std::sort(order.begin(), order.end(),
            [&](std::size_t i, std::size_t j) { return ritz[i * n + i] > ritz[j * n + j]; });
  double left = total;
  while (out.dims < n && left > neglect) {
    const std::size_t k = order[out.dims++];
    left -= ritz[k * n + k];
    std::vector<double> direction(full, 0.0);
    for (std::size_t i = 0; i < n; ++i) {
      for (std::size_t p = 0; p < full; ++p) {
        direction[p] += turn[k * n + i] * v[i * full + p];
      }
    }
    out.basis.insert(out.basis.end(), direction.begin(), direction.end());
  }
  return out;
}

} // namespace metamd
