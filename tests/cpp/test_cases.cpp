// tests/cases through the core: values against the oracle, derivatives against
// finite differences of the core's own values.
#include "case_setup.h"
#include "check.h"

#include <functional>

using namespace metamd;

namespace {

using Energy = std::function<double(const std::vector<Vec3>&, const Cell&)>;

double largest(const std::vector<Vec3>& v) {
  double out = 0.0;
  for (const Vec3& a : v) {
    for (const double c : a) {
      out = std::max(out, std::abs(c));
    }
  }
  return out;
}

double fourth_order(const std::function<double(double)>& f, double h) {
  return (8.0 * (f(h) - f(-h)) - (f(2.0 * h) - f(-2.0 * h))) / (12.0 * h);
}

void finite_differences(const Case& set, const Energy& energy, const std::vector<Vec3>& gradient,
                        const Mat3& virial) {
  const double tolerance = 1e-6 * largest(gradient);
  for (std::size_t a = 0; a < set.x.size(); ++a) {
    for (int k = 0; k < 3; ++k) {
      const double slope = fourth_order(
          [&](double h) {
            auto x = set.x;
            x[a][k] += h;
            return energy(x, set.cell);
          },
          1e-3);
      check_close(gradient[a][k], slope, tolerance, set.name + " finite difference");
    }
  }
  double scale = 0.0;
  for (int k = 0; k < 9; ++k) {
    scale = std::max(scale, std::abs(virial[k / 3][k % 3]));
  }
  check(scale > 1e-4, set.name + " has a virial");
  for (int k = 0; k < 9; ++k) {
    const double slope = fourth_order(
        [&](double h) {
          Mat3 strain{{{1, 0, 0}, {0, 1, 0}, {0, 0, 1}}};
          strain[k / 3][k % 3] += h;
          auto x = set.x;
          for (Vec3& v : x) {
            v = times(v, strain);
          }
          Mat3 rows = set.cell.rows();
          for (Vec3& v : rows) {
            v = times(v, strain);
          }
          return energy(x, Cell(rows));
        },
        1e-4);
    check_close(virial[k / 3][k % 3], -slope, 1e-6 * scale, set.name + " virial by strain");
  }
}

void against_oracle(const Case& set, const Json& expected, const std::string& forces, double sign,
                    const std::vector<Vec3>& gradient, const std::string& virial_key,
                    const Mat3& virial) {
  const auto want = vectors(expected.at(forces));
  const double scale = largest(want);
  check(scale > 1e-3, set.name + " has forces");
  std::vector<char> in_group(want.size(), 0);
  for (std::size_t k = 0; k < set.atoms.size(); ++k) {
    in_group[set.atoms[k]] = 1;
    for (int c = 0; c < 3; ++c) {
      check_close(sign * gradient[k][c], want[set.atoms[k]][c], 1e-9 * scale, set.name + " forces");
    }
  }
  for (std::size_t a = 0; a < want.size(); ++a) {
    check(in_group[a] || (want[a][0] == 0.0 && want[a][1] == 0.0 && want[a][2] == 0.0),
          set.name + " no force outside the group");
  }
  const auto w = vectors(expected.at(virial_key));
  for (int k = 0; k < 9; ++k) {
    check_close(virial[k / 3][k % 3], w[k / 3][k % 3], 1e-8 * scale, set.name + " virial");
  }
}

void run_bias(const Json& c, const BiasOptions& options, bool differences) {
  const Case set = set_up(c);
  MatrixBias bias = bias_of(c, set, options);
  const double energy = bias.evaluate(set.x, set.cell, 0);
  const double want = c.at("expected").at("energy_ev").number;
  check(want > 1e-4, set.name + " has a bias");
  check_close(energy, want, 1e-12, set.name + " bias");
  against_oracle(set, c.at("expected"), "forces_ev_per_ang", -1.0, bias.gradient(), "virial_ev",
                 bias.virial());
  if (differences) {
    const auto gradient = bias.gradient();
    const Mat3 virial = bias.virial();
    finite_differences(
        set,
        [&](const std::vector<Vec3>& x, const Cell& cell) { return bias.evaluate(x, cell, 0); },
        gradient, virial);
  }
}

void run_cv(const Json& c) {
  const Case set = set_up(c);
  MatrixOptions options;
  options.metric = set.metric;
  DistanceMatrix matrix(set.selection, options);
  const auto value = [&](const std::vector<Vec3>& x, const Cell& cell) {
    matrix.update(x, cell);
    if (c.at("component").string == "mean") {
      return matrix_mean(matrix);
    }
    ReferenceMatrix reference(vectors(c.at("reference").at("positions_ang")),
                              cell_of(c.at("reference").at("cell_ang")));
    reference.project(matrix);
    return reference.distance(matrix);
  };
  const PairFunction f = value(set.x, set.cell);
  check_close(f.value, c.at("expected").at("value").number, 1e-12, set.name + " value");
  std::vector<Vec3> gradient(set.x.size(), Vec3{0, 0, 0});
  Mat3 virial{};
  matrix.chain(f.dv_dd.data(), gradient, virial);
  against_oracle(set, c.at("expected"), "gradient", 1.0, gradient, "virial", virial);
  finite_differences(
      set, [&](const std::vector<Vec3>& x, const Cell& cell) { return value(x, cell).value; },
      gradient, virial);
}

} // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::printf("usage: test_cases FOLDER\n");
    return 2;
  }
  const std::string folder = argv[1];
  const Json bias = Json::load(folder + "/bias.json");
  const Json cv = Json::load(folder + "/cv.json");
  check(bias.at("cases").array.size() >= 60, "at least 60 cases of the bias");
  check(cv.at("cases").array.size() >= 40, "at least 40 cases of the variables");
  for (const Json& c : bias.at("cases").array) {
    run_bias(c, {}, true);
    for (const Isa isa : {Isa::Portable, Isa::Avx2, Isa::Avx512}) {
      if (isa <= best_isa()) {
        BiasOptions options;
        options.isa = isa;
        options.list.skin = 0.0;
        run_bias(c, options, false);
      }
    }
  }
  for (const Json& c : cv.at("cases").array) {
    run_cv(c);
  }
  return finish();
}
