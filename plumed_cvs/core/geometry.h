// Vectors, the simulation cell and minimum images.
//
// Conventions of the whole core: lengths in Angstrom, energies in eV; a cell
// matrix holds one lattice vector in each row; r_ij = r_j - r_i, taken to the
// nearest image; W = - sum_ij r_ij (x) dV/dr_ij.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>

namespace metamd {

using Vec3 = std::array<double, 3>;
using Mat3 = std::array<Vec3, 3>;

inline double dot(const Vec3& a, const Vec3& b) { return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]; }

inline Vec3 cross(const Vec3& a, const Vec3& b) {
  return {a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]};
}

inline double determinant(const Mat3& m) { return dot(m[0], cross(m[1], m[2])); }

/// Inverse of a 3x3 matrix; the caller has checked the determinant.
inline Mat3 inverse(const Mat3& m) {
  const double d = 1.0 / determinant(m);
  const Vec3 a = cross(m[1], m[2]), b = cross(m[2], m[0]), c = cross(m[0], m[1]);
  return {{{a[0] * d, b[0] * d, c[0] * d},
           {a[1] * d, b[1] * d, c[1] * d},
           {a[2] * d, b[2] * d, c[2] * d}}};
}

/// Row vector times matrix: fractional to Cartesian when m is a cell.
inline Vec3 times(const Vec3& v, const Mat3& m) {
  return {v[0] * m[0][0] + v[1] * m[1][0] + v[2] * m[2][0],
          v[0] * m[0][1] + v[1] * m[1][1] + v[2] * m[2][1],
          v[0] * m[0][2] + v[1] * m[1][2] + v[2] * m[2][2]};
}

/// A cell periodic in three directions, or none at all (open boundaries).
class Cell {
public:
  Cell() = default;

  /// A zero matrix means open boundaries.
  explicit Cell(const Mat3& rows) : rows_(rows) {
    const double volume = std::abs(determinant(rows));
    const double scale =
        std::sqrt(dot(rows[0], rows[0]) * dot(rows[1], rows[1])) * std::sqrt(dot(rows[2], rows[2]));
    periodic_ = scale > 0.0 && volume > 1e-10 * scale;
    if (!periodic_) {
      return;
    }
    reduced_ = reduce(rows);
    inverse_ = inverse(reduced_);
    double width = 1e300;
    for (int k = 0; k < 3; ++k) {
      // Column k of the inverse is the reciprocal vector of row k.
      const Vec3 g{inverse_[0][k], inverse_[1][k], inverse_[2][k]};
      width = std::min(width, 1.0 / std::sqrt(dot(g, g)));
    }
    min_width_ = width;
    safe2_ = 0.25 * width * width;
    orthogonal_ = true;
    for (int i = 0; i < 3; ++i) {
      for (int j = 0; j < 3; ++j) {
        orthogonal_ = orthogonal_ && (i == j || reduced_[i][j] == 0.0);
      }
    }
    set_shifts();
  }

  bool periodic() const { return periodic_; }
  const Mat3& rows() const { return rows_; }
  /// Lattice vectors as short and as orthogonal as they get.
  const Mat3& reduced() const { return reduced_; }
  const Mat3& reduced_inverse() const { return inverse_; }
  /// Smallest distance between opposite faces; images closer than half of it are unique.
  double min_width() const { return min_width_; }

  /// The shortest periodic image of d.
  Vec3 nearest(Vec3 d) const {
    if (!periodic_) {
      return d;
    }
    if (orthogonal_) {
      for (int k = 0; k < 3; ++k) {
        d[k] -= reduced_[k][k] * std::nearbyint(d[k] * inverse_[k][k]);
      }
      return d;
    }
    Vec3 s = times(d, inverse_);
    for (double& x : s) {
      x -= std::nearbyint(x);
    }
    d = times(s, reduced_);
    double best = dot(d, d);
    if (best <= safe2_) {
      return d;
    }
    // Rounding in a reduced cell is off by at most one lattice vector each way.
    Vec3 out = d;
    for (const Vec3& t : shifts_) {
      const Vec3 e{d[0] + t[0], d[1] + t[1], d[2] + t[2]};
      const double r2 = dot(e, e);
      if (r2 < best) {
        best = r2;
        out = e;
      }
    }
    return out;
  }

private:
  /// Pairwise reduction, then the shortest combination of the two shorter
  /// vectors off the longest (Semaev 2001), until nothing gets shorter.
  static Mat3 reduce(Mat3 m) {
    const auto norm2 = [](const Vec3& v) { return dot(v, v); };
    for (int round = 0; round < 1000; ++round) {
      std::sort(m.begin(), m.end(),
                [&](const Vec3& a, const Vec3& b) { return norm2(a) < norm2(b); });
      bool shorter = false;
      for (int i = 1; i < 3; ++i) {
        for (int j = 0; j < i; ++j) {
          const double q = std::nearbyint(dot(m[i], m[j]) / norm2(m[j]));
          const Vec3 v{m[i][0] - q * m[j][0], m[i][1] - q * m[j][1], m[i][2] - q * m[j][2]};
          if (q != 0.0 && norm2(v) < norm2(m[i]) * (1.0 - 1e-12)) {
            m[i] = v;
            shorter = true;
          }
        }
      }
      for (int x = -1; x <= 1; ++x) {
        for (int y = -1; y <= 1; ++y) {
          Vec3 v;
          for (int k = 0; k < 3; ++k) {
            v[k] = m[2][k] + x * m[0][k] + y * m[1][k];
          }
          if (norm2(v) < norm2(m[2]) * (1.0 - 1e-12)) {
            m[2] = v;
            shorter = true;
          }
        }
      }
      if (!shorter) {
        break;
      }
    }
    // An orthogonal cell keeps its axes in order, so that nearest() stays cheap.
    Mat3 axes{};
    for (const Vec3& v : m) {
      int axis = -1, nonzero = 0;
      for (int k = 0; k < 3; ++k) {
        if (v[k] != 0.0) {
          axis = k;
          ++nonzero;
        }
      }
      if (nonzero != 1) {
        return m;
      }
      axes[axis] = v;
    }
    return axes;
  }

  void set_shifts() {
    std::size_t n = 0;
    for (int x = -1; x <= 1; ++x) {
      for (int y = -1; y <= 1; ++y) {
        for (int z = -1; z <= 1; ++z) {
          if (x != 0 || y != 0 || z != 0) {
            shifts_[n++] = times({double(x), double(y), double(z)}, reduced_);
          }
        }
      }
    }
  }

  Mat3 rows_{}, reduced_{}, inverse_{};
  std::array<Vec3, 26> shifts_{};
  double min_width_ = 0.0, safe2_ = 0.0;
  bool periodic_ = false, orthogonal_ = false;
};

} // namespace metamd
