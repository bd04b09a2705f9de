// What the cases do not reach: neighbour lists, the list in matrix space, MERGE,
// growing hills, hill text, nearest images.
#include "bias.h"
#include "check.h"
#include "hilltext.h"
#include "random.h"

#include <algorithm>
#include <random>

using namespace metamd;

namespace {

std::mt19937_64 generator(11);

double normal() { return std::normal_distribution<double>()(generator); }
double flat() { return std::uniform_real_distribution<double>()(generator); }

/// A liquid: points on a lattice, shaken.
std::vector<Vec3> liquid(int per_side, double spacing, const Mat3& rows) {
  std::vector<Vec3> x;
  for (int a = 0; a < per_side * per_side * per_side; ++a) {
    const Vec3 s{(a % per_side + 0.15 * normal()) / per_side,
                 (a / per_side % per_side + 0.15 * normal()) / per_side,
                 (a / per_side / per_side + 0.15 * normal()) / per_side};
    x.push_back(times(s, rows));
  }
  (void)spacing;
  return x;
}

void shake(std::vector<Vec3>& x, double scale) {
  for (Vec3& v : x) {
    for (double& c : v) {
      c += scale * normal();
    }
  }
}

void nearest_images() {
  for (int round = 0; round < 200; ++round) {
    Mat3 rows;
    for (Vec3& v : rows) {
      v = {3 * normal(), 3 * normal(), 3 * normal()};
    }
    if (std::abs(determinant(rows)) < 20.0) {
      continue;
    }
    const Cell cell(rows);
    check(cell.periodic(), "a cell with a volume is periodic");
    const Vec3 d{20 * normal(), 20 * normal(), 20 * normal()};
    const Vec3 n = cell.nearest(d);
    double best = 1e300;
    // From any image: enough of the others to hold the nearest, skewed as the cell may be.
    for (int a = -12; a <= 12; ++a) {
      for (int b = -12; b <= 12; ++b) {
        for (int c = -12; c <= 12; ++c) {
          const Vec3 t = times({double(a), double(b), double(c)}, rows);
          const Vec3 e{n[0] + t[0], n[1] + t[1], n[2] + t[2]};
          best = std::min(best, dot(e, e));
        }
      }
    }
    check_close(dot(n, n), best, 1e-9 * best, "nearest image");
    const Vec3 f = times({d[0] - n[0], d[1] - n[1], d[2] - n[2]}, inverse(rows));
    for (const double v : f) {
      check_close(v, std::nearbyint(v), 1e-8, "differs by a lattice vector");
    }
  }
  check(!Cell(Mat3{}).periodic(), "no box is no cell");
}

/// A trajectory through a neighbour list and through all pairs: the same bias.
void neighbour_list(const Mat3& rows, bool periodic, double expand) {
  const auto start = liquid(7, 3.0, rows);
  const Selection sel = Selection::all(std::vector<std::string>(start.size(), "Ar"));
  BiasOptions sparse, dense;
  sparse.matrix.metric.cutoff_ang = dense.matrix.metric.cutoff_ang = 5.0;
  sparse.matrix.metric.r_on_ang = dense.matrix.metric.r_on_ang = 4.0;
  sparse.matrix.neighbour_skin_ang = 0.6;
  sparse.sigma = dense.sigma = Sigma(0.9);
  dense.matrix.dense = true;
  MatrixBias a(sel, sparse), b(sel, dense);
  check(!a.matrix().dense() && b.matrix().dense(), "one list, one full matrix");
  std::vector<Vec3> x = start;
  Mat3 box = rows;
  int lists = 0;
  for (int step = 0; step < 30; ++step) {
    shake(x, 0.02);
    for (Vec3& v : box) {
      for (double& c : v) {
        c *= expand;
      }
    }
    const Cell cell = periodic ? Cell(box) : Cell();
    const std::size_t before = a.matrix().size();
    const double va = a.evaluate(x, cell, step), vb = b.evaluate(x, cell, step);
    lists += a.matrix().size() != before;
    check_close(va, vb, 1e-11, "bias with and without neighbour list");
    double scale = 0.0, worst = 0.0;
    for (std::size_t k = 0; k < x.size(); ++k) {
      for (int c = 0; c < 3; ++c) {
        scale = std::max(scale, std::abs(b.gradient()[k][c]));
        worst = std::max(worst, std::abs(a.gradient()[k][c] - b.gradient()[k][c]));
      }
    }
    check(worst <= 1e-9 * scale + 1e-14, "forces with and without neighbour list");
    for (int k = 0; k < 9; ++k) {
      check_close(a.virial()[k / 3][k % 3], b.virial()[k / 3][k % 3], 1e-9, "virial");
    }
    if (step % 4 == 0) {
      a.add_here(x, cell, 0.1, step);
      b.add_here(x, cell, 0.1, step);
    }
    if (step == 13) { // as another walker's hill comes in
      auto y = start;
      shake(y, 0.05);
      a.add(y, cell, 0.2, step);
      b.add(y, cell, 0.2, step);
    }
    if (step > 4) {
      check(vb > 1e-3 && scale > 1e-5, "the bias acts");
    }
  }
  check(lists > 1, "the neighbour list was made anew on the way");
  check(a.matrix().size() < b.matrix().size() / 4, "a list is shorter than all pairs");
}

void matrix_space_list() {
  const std::size_t atoms = 8;
  const Selection sel = Selection::all(std::vector<std::string>(atoms, "C"));
  BiasOptions with, without;
  with.sigma = without.sigma = Sigma(0.02);
  without.list.skin = 0.0;
  MatrixBias a(sel, with), b(sel, without);
  std::vector<Vec3> x(atoms);
  for (Vec3& v : x) {
    v = {4 * flat(), 4 * flat(), 4 * flat()};
  }
  std::size_t fewest = 1000;
  for (int step = 0; step < 400; ++step) {
    shake(x, 0.01);
    const double va = a.evaluate(x, {}, step), vb = b.evaluate(x, {}, step);
    check_close(va, vb, 1e-15 * (1 + a.hills()), "bias with and without list");
    for (std::size_t k = 0; k < atoms; ++k) {
      check_close(a.gradient()[k][0], b.gradient()[k][0], 1e-11, "forces with and without list");
    }
    if (step % 2 == 0) {
      a.add_here(x, {}, 0.1, step);
      b.add_here(x, {}, 0.1, step);
    }
    fewest = step > 300 ? std::min(fewest, a.active()) : fewest;
  }
  check(fewest < 100, "far hills stay out of the list");
  check(b.active() == b.hills(), "no list: every hill is looked at");
}

/// A molecule that moves along a few directions, and a little along all.
struct Wanderer {
  std::vector<Vec3> start;
  std::vector<std::vector<Vec3>> modes;

  explicit Wanderer(std::size_t atoms) {
    for (std::size_t k = 0; k < atoms; ++k) {
      start.push_back({1.5 * (k % 2), 1.5 * (k / 2 % 2), 1.5 * double(k / 4)});
    }
    for (int m = 0; m < 5; ++m) {
      modes.emplace_back(atoms, Vec3{0, 0, 0});
      shake(modes.back(), 0.1);
    }
  }

  std::vector<Vec3> at_random() const {
    auto x = start;
    for (const auto& mode : modes) {
      const double q = normal();
      for (std::size_t k = 0; k < x.size(); ++k) {
        for (int c = 0; c < 3; ++c) {
          x[k][c] += q * mode[k][c];
        }
      }
    }
    shake(x, 0.01);
    return x;
  }
};

/// RMS of the difference of two gradients over that of the second, at some places.
double force_error(MatrixBias& a, MatrixBias& b, const std::vector<std::vector<Vec3>>& places) {
  double error = 0.0, square = 0.0;
  for (const auto& x : places) {
    a.evaluate(x, {}, 0);
    b.evaluate(x, {}, 0);
    for (std::size_t k = 0; k < x.size(); ++k) {
      for (int c = 0; c < 3; ++c) {
        const double d = a.gradient()[k][c] - b.gradient()[k][c];
        error += d * d;
        square += b.gradient()[k][c] * b.gradient()[k][c];
      }
    }
  }
  check(square > 1e-3, "the bias acts");
  return std::sqrt(error / square);
}

/// MERGE: fewer bumps, fewer numbers for each, nearly the same force; and the force is the
/// gradient of the bias that is computed.
void merging(Isa isa, double radius, double allowed) {
  const Wanderer molecule(9);
  const Selection sel = Selection::all(std::vector<std::string>(9, "C"));
  BiasOptions merged, plain;
  merged.sigma = plain.sigma = Sigma(0.2);
  merged.merge = radius;
  merged.isa = isa;
  MatrixBias a(sel, merged), b(sel, plain), again(sel, merged);
  std::vector<std::vector<Vec3>> places;
  for (int step = 0; step < 2000; ++step) {
    const auto x = molecule.at_random();
    a.evaluate(x, {}, step);
    a.add_here(x, {}, 0.01, step);
    b.add(x, {}, 0.01, step);
    again.add(x, {}, 0.01, step);
    if (step % 100 == 50) {
      places.push_back(x);
      places.push_back(molecule.at_random());
    }
  }
  const double error = force_error(a, b, places);
  check(error < allowed, "MERGE keeps the force: " + std::to_string(error));
  check(a.hills() == b.hills() && a.stored() <= b.stored(), "every hill counts");
  check(radius < 0.1 || a.stored() < b.stored(), "hills were merged");
  check(a.components() > 5, "the molecule's directions are found");
  check(radius < 0.1 || a.components() < 32, "and fewer numbers are kept than the 36 pairs");
  auto x = places.back();
  check(a.evaluate(x, {}, 0) == again.evaluate(x, {}, 0), "the same hills, the same bias");
  const auto gradient = a.gradient();
  double largest = 0.0;
  for (const Vec3& g : gradient) {
    largest = std::max({largest, std::abs(g[0]), std::abs(g[1]), std::abs(g[2])});
  }
  const double h = 2e-3;
  for (std::size_t k = 0; k < x.size(); ++k) {
    for (int c = 0; c < 3; ++c) {
      const double x0 = x[k][c];
      x[k][c] = x0 + h;
      const double up = a.evaluate(x, {}, 0);
      x[k][c] = x0 - h;
      const double down = a.evaluate(x, {}, 0);
      x[k][c] = x0;
      check_close((up - down) / (2 * h), gradient[k][c], 2e-3 * largest, "a gradient");
    }
  }
}

/// Under MERGE too far bumps are left out, and come back.
void merging_with_a_list() {
  const Wanderer molecule(9);
  const Selection sel = Selection::all(std::vector<std::string>(9, "C"));
  BiasOptions listed, all;
  listed.sigma = all.sigma = Sigma(0.02);
  listed.merge = all.merge = 0.5;
  all.list.skin = 0.0;
  MatrixBias a(sel, listed), b(sel, all);
  std::vector<std::vector<Vec3>> path;
  auto x = molecule.start;
  for (int step = 0; step < 1500; ++step) {
    shake(x, 0.004);
    a.add(x, {}, 0.01, step);
    b.add(x, {}, 0.01, step);
    path.push_back(x);
  }
  std::size_t fewest = a.stored();
  for (const auto& place : path) {
    check_close(a.evaluate(place, {}, 0), b.evaluate(place, {}, 0), 1e-8, "listed or not");
    fewest = std::min(fewest, a.active());
  }
  check(fewest < a.stored() / 2, "far bumps are left out");
}

void subspaces() {
  // Rows in three directions of a space of forty, and a hundredth beside them.
  const std::size_t full = 40;
  std::vector<std::vector<float>> rows(500, std::vector<float>(full));
  std::vector<std::vector<double>> direction(3, std::vector<double>(full));
  for (auto& d : direction) {
    std::generate(d.begin(), d.end(), normal);
  }
  std::vector<const float*> pointers;
  for (auto& row : rows) {
    const double q[3] = {normal(), normal(), 0.5 * normal()};
    for (std::size_t p = 0; p < full; ++p) {
      row[p] = float(3.0 + 0.01 * normal());
      for (int k = 0; k < 3; ++k) {
        row[p] += float(q[k] * direction[k][p]);
      }
    }
    pointers.push_back(row.data());
  }
  const Subspace few = principal_subspace(pointers, full, 0.01);
  check(few.dims == 3, "three directions are found");
  double left = 0.0;
  for (const auto& row : rows) {
    const std::vector<double> y(row.begin(), row.end());
    std::vector<double> z(full), rest(full);
    left += few.project(y.data(), z.data(), rest.data()) / double(rows.size());
  }
  check(left < 0.01 && left > 1e-4, "and hold what they are asked to");
  const Subspace most = principal_subspace(pointers, full, 5e-4);
  check(most.dims > 20 && most.dims < full, "more are taken when less may be left");
  for (std::size_t i = 0; i < most.dims; ++i) {
    for (std::size_t j = 0; j <= i; ++j) {
      double overlap = 0.0;
      for (std::size_t p = 0; p < full; ++p) {
        overlap += most.basis[i * full + p] * most.basis[j * full + p];
      }
      check_close(overlap, i == j ? 1.0 : 0.0, 1e-9, "orthonormal directions");
    }
  }
}

HillFrame some_hill(bool periodic) {
  HillFrame h;
  h.step = 120;
  h.time_ps = 0.06;
  h.height_ev = 0.1 / 3.0;
  h.sigma = "0.2,C-H:0.1";
  h.metric = "INVERSE";
  h.biasfactor = periodic ? 10.0 : 0.0;
  h.cutoff_ang = periodic ? 6.0 : 0.0;
  h.r_on_ang = periodic ? 4.8 : 0.0;
  h.pairs = 3;
  h.periodic = periodic;
  h.cell_ang = periodic ? Mat3{{{10, 0, 0}, {1, 11, 0}, {-1, 2, 12}}} : Mat3{};
  for (int a = 0; a < 3; ++a) {
    h.species.push_back(a ? "H" : "C");
    h.positions_ang.push_back({normal() * 1e-7, normal() * 10, -normal()});
    h.ids.push_back(a + 5);
  }
  return h;
}

void hill_text_round_trip() {
  for (const bool periodic : {false, true}) {
    const HillFrame h = some_hill(periodic);
    const std::string one = hill_text(h), text = one + one;
    HillFrame g;
    ParseResult r = parse_hill(text, 0, g);
    check(r.status == ParseStatus::Ok && r.next == one.size(), "a hill reads back");
    check(g.positions_ang == h.positions_ang && g.cell_ang == h.cell_ang, "to the last bit");
    check(g.height_ev == h.height_ev && g.step == h.step && g.ids == h.ids, "with its numbers");
    check(hill_text(g) == one, "and is the same text again");
    check(parse_hill(text, r.next, g).next == text.size(), "the second follows");
    check(parse_hill(text, text.size(), g).status == ParseStatus::End, "then the end");
    for (std::size_t cut = 1; cut < one.size(); ++cut) {
      check(parse_hill(one.substr(0, cut), 0, g).status == ParseStatus::Torn,
            "a hill cut at byte " + std::to_string(cut) + " is torn");
    }
  }
}

void random_heights() {
  double sum = 0.0, low = 1.0, high = 0.0;
  for (int n = 0; n < 100000; ++n) {
    const double u = uniform(7, n);
    sum += u;
    low = std::min(low, u);
    high = std::max(high, u);
  }
  check_close(sum / 100000, 0.5, 0.004, "random heights are uniform");
  check(low > 0.0 && low < 1e-3 && high <= 1.0 && high > 0.999, "over the whole range");
  check(uniform(7, 3) != uniform(8, 3), "and depend on the seed");
}

void pair_counts() {
  std::vector<std::uint8_t> sides;
  std::vector<std::string> species;
  for (int a = 0; a < 20; ++a) {
    sides.push_back(a < 6 ? 1 : a < 14 ? 2 : 3);
    species.push_back(a % 3 ? "H" : "O");
  }
  Selection sel(sides, species);
  sel.exclude_species("O", "O");
  check(sel.exclude_pair(1, 8) && !sel.exclude_pair(1, 2), "only pairs of the matrix are left out");
  PairList list;
  list.set_dense(sel);
  check(std::int64_t(list.size()) == sel.count() && sel.count() > 50, "pairs are counted right");
}

} // namespace

int main() {
  nearest_images();
  neighbour_list({{{21, 0, 0}, {0, 21, 0}, {0, 0, 21}}}, true, 1.0);
  neighbour_list({{{21, 0, 0}, {6, 20, 0}, {-5, 4, 22}}}, true, 1.001);
  neighbour_list({{{21, 0, 0}, {0, 21, 0}, {0, 0, 21}}}, false, 1.0);
  matrix_space_list();
  for (const Isa isa : {Isa::Portable, Isa::Avx2, Isa::Avx512}) {
    if (isa <= best_isa()) {
      merging(isa, 0.7, 0.03);
      merging(isa, 0.5, 0.01);
      merging(isa, 0.01, 1e-5); // single precision alone
    }
  }
  merging_with_a_list();
  subspaces();
  hill_text_round_trip();
  random_heights();
  pair_counts();
  return finish();
}
