// The pairs a matrix is stored over: all of them, or under a cutoff those that
// can come into reach before some atom has moved by half a skin.
#pragma once

#include "geometry.h"
#include "selection.h"

#include <cmath>
#include <cstdint>
#include <vector>

namespace metamd {

/// All pairs of a selection within a distance, each once, by cells: linear in the atoms.
class CellSearch {
public:
  template <class Emit>
  static void pairs(const std::vector<Vec3>& x, const Cell& cell, const Selection& sel,
                    double reach, Emit&& emit) {
    CellSearch s(x, cell, reach);
    s.walk(x, cell, sel, reach * reach, emit);
  }

private:
  CellSearch(const std::vector<Vec3>& x, const Cell& cell, double reach) {
    Vec3 low{0, 0, 0};
    Mat3 to_fraction{};
    if (cell.periodic()) {
      to_fraction = cell.reduced_inverse();
    } else {
      Vec3 high = low = x.empty() ? low : x[0];
      for (const Vec3& p : x) {
        for (int k = 0; k < 3; ++k) {
          low[k] = std::min(low[k], p[k]);
          high[k] = std::max(high[k], p[k]);
        }
      }
      for (int k = 0; k < 3; ++k) {
        to_fraction[k][k] = 1.0 / std::max(high[k] - low[k], reach);
      }
    }
    // Not more cells than atoms: a gas in a large cell would only pay for empty ones.
    const int most = 1 + static_cast<int>(std::cbrt(double(x.size())));
    for (int k = 0; k < 3; ++k) {
      const Vec3 g{to_fraction[0][k], to_fraction[1][k], to_fraction[2][k]};
      const double width = 1.0 / std::sqrt(dot(g, g));
      n_[k] = std::max(1, std::min(most, static_cast<int>(width / reach)));
    }
    head_.assign(std::size_t(n_[0]) * n_[1] * n_[2], -1);
    next_.resize(x.size());
    // Backwards, so that a cell lists its atoms in rising order.
    for (std::size_t a = x.size(); a-- > 0;) {
      Vec3 s = times({x[a][0] - low[0], x[a][1] - low[1], x[a][2] - low[2]}, to_fraction);
      std::array<int, 3> c{};
      for (int k = 0; k < 3; ++k) {
        s[k] = cell.periodic() ? s[k] - std::floor(s[k]) : s[k];
        c[k] = std::min(n_[k] - 1, std::max(0, static_cast<int>(s[k] * n_[k])));
      }
      const std::size_t id = (std::size_t(c[0]) * n_[1] + c[1]) * n_[2] + c[2];
      next_[a] = head_[id];
      head_[id] = static_cast<std::int32_t>(a);
    }
  }

  /// Neighbours of cell c along direction k, every cell once even where only one or two exist.
  int around(int c, int k, bool periodic, std::array<int, 3>& out) const {
    int count = 0;
    for (int step = -1; step <= 1; ++step) {
      int d = c + step;
      if (periodic) {
        d = (d + n_[k]) % n_[k];
      } else if (d < 0 || d >= n_[k]) {
        continue;
      }
      if (std::find(out.begin(), out.begin() + count, d) == out.begin() + count) {
        out[count++] = d;
      }
    }
    return count;
  }

  template <class Emit>
  void walk(const std::vector<Vec3>& x, const Cell& cell, const Selection& sel, double reach2,
            Emit& emit) const {
    std::array<int, 3> ax{}, ay{}, az{};
    for (int cx = 0; cx < n_[0]; ++cx) {
      const int nx = around(cx, 0, cell.periodic(), ax);
      for (int cy = 0; cy < n_[1]; ++cy) {
        const int ny = around(cy, 1, cell.periodic(), ay);
        for (int cz = 0; cz < n_[2]; ++cz) {
          const int nz = around(cz, 2, cell.periodic(), az);
          const std::size_t here = (std::size_t(cx) * n_[1] + cy) * n_[2] + cz;
          for (std::int32_t i = head_[here]; i >= 0; i = next_[i]) {
            for (int m = 0; m < nx * ny * nz; ++m) {
              const int jx = ax[m / (ny * nz)], jy = ay[m / nz % ny], jz = az[m % nz];
              const std::size_t there = (std::size_t(jx) * n_[1] + jy) * n_[2] + jz;
              for (std::int32_t j = head_[there]; j >= 0; j = next_[j]) {
                if (j <= i) {
                  continue;
                }
                const Vec3 d =
                    cell.nearest({x[j][0] - x[i][0], x[j][1] - x[i][1], x[j][2] - x[i][2]});
                if (dot(d, d) < reach2 && sel.allowed(i, j)) {
                  emit(i, j);
                }
              }
            }
          }
        }
      }
    }
  }

  std::array<int, 3> n_{};
  std::vector<std::int32_t> head_, next_;
};

class PairList {
public:
  std::vector<std::int32_t> i, j; ///< atoms of each pair

  std::size_t size() const { return i.size(); }

  /// Every pair of the selection, once and for all.
  void set_dense(const Selection& sel) {
    dense_ = true;
    i.clear();
    j.clear();
    for (std::size_t a = 0; a < sel.size(); ++a) {
      for (std::size_t b = a + 1; b < sel.size(); ++b) {
        if (sel.allowed(a, b)) {
          i.push_back(static_cast<std::int32_t>(a));
          j.push_back(static_cast<std::int32_t>(b));
        }
      }
    }
  }

  /// Pairs within cutoff + skin, renewed by update().
  void set_neighbours(double cutoff_ang, double skin_ang) {
    dense_ = false;
    cutoff_ = cutoff_ang;
    skin_ = skin_ang;
    x0_.clear();
  }

  bool dense() const { return dense_; }

  /// True when the list was made anew, so that whatever is stored over it must be too.
  bool update(const std::vector<Vec3>& x, const Cell& cell, const Selection& sel) {
    if (dense_ || !stale(x, cell)) {
      return false;
    }
    i.clear();
    j.clear();
    CellSearch::pairs(x, cell, sel, cutoff_ + skin_, [this](std::int32_t a, std::int32_t b) {
      i.push_back(a);
      j.push_back(b);
    });
    x0_ = x;
    cell0_ = cell;
    return true;
  }

private:
  /// A pair left out was farther apart than cutoff + skin.  Under a cell change F
  /// and displacements u beyond it, it is now at least
  /// (1 - |F - 1|) (cutoff + skin) - 2 max|u| apart.
  bool stale(const std::vector<Vec3>& x, const Cell& cell) const {
    if (x0_.size() != x.size() || cell.periodic() != cell0_.periodic()) {
      return true;
    }
    Mat3 f{{{1, 0, 0}, {0, 1, 0}, {0, 0, 1}}};
    double strain = 0.0;
    if (cell.periodic() && cell.rows() != cell0_.rows()) {
      const Mat3 inv = inverse(cell0_.rows());
      double sum = 0.0;
      for (int k = 0; k < 3; ++k) {
        f[k] = times(inv[k], cell.rows());
        for (int l = 0; l < 3; ++l) {
          const double e = f[k][l] - (k == l ? 1.0 : 0.0);
          sum += e * e;
        }
      }
      strain = std::sqrt(sum);
    }
    const double room = (1.0 - strain) * (cutoff_ + skin_) - cutoff_;
    if (room <= 0.0) {
      return true;
    }
    const double most2 = 0.25 * room * room;
    for (std::size_t a = 0; a < x.size(); ++a) {
      const Vec3 y = strain > 0.0 ? times(x0_[a], f) : x0_[a];
      const Vec3 u = cell.nearest({x[a][0] - y[0], x[a][1] - y[1], x[a][2] - y[2]});
      if (dot(u, u) > most2) {
        return true;
      }
    }
    return false;
  }

  bool dense_ = true;
  double cutoff_ = 0.0, skin_ = 0.0;
  std::vector<Vec3> x0_;
  Cell cell0_;
};

} // namespace metamd
