// The core's part of bench_bias.py: one measurement a line, "name value value ...".
//
//   bench_bias_core hills PAIRS N...      time of the bias (for every instruction set) and of
//   reading its store, in ms bench_bias_core cutoff HILLS N...     time of a step per atom under
//   CUTOFF, in us bench_bias_core merge FILE MERGE...   10 000 bumps of a trajectory, merged or not
#include "bias.h"

#include <chrono>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <random>
#include <string>

using namespace metamd;

namespace {

std::mt19937_64 generator(5);
double normal() { return std::normal_distribution<double>()(generator); }

template <class Job> double best_ms(int rounds, Job&& job) {
  double best = 1e300;
  for (int r = 0; r < rounds; ++r) {
    const auto start = std::chrono::steady_clock::now();
    job();
    const std::chrono::duration<double, std::milli> took = std::chrono::steady_clock::now() - start;
    best = std::min(best, took.count());
  }
  return best;
}

volatile double sink;

/// Reading every number of the store once, as fast as this processor can.
#if defined(__x86_64__)
__attribute__((target_clones("avx512f", "avx2", "default")))
#endif
double read_all(const HillStore& store, std::size_t width) {
  double sum[32] = {};
  for (std::size_t k = 0; k < store.size(); ++k) {
    const double* row = store.row(k);
    for (std::size_t p = 0; p + 32 <= width; p += 32) {
      for (int l = 0; l < 32; ++l) {
        sum[l] += row[p + l];
      }
    }
    for (std::size_t p = width / 32 * 32; p < width; p += 8) {
      for (int l = 0; l < 8; ++l) {
        sum[l] += row[p + l];
      }
    }
  }
  double all = 0.0;
  for (const double s : sum) {
    all += s;
  }
  return all;
}

void hills(std::size_t pairs, std::size_t n, Isa isa) {
  ListOptions list;
  list.skin = 0.0; // nothing is skipped
  HillStore store(false, list, isa);
  store.reset(pairs);
  // Broad bumps: every exponent is below one.
  for (std::size_t k = 0; k < n; ++k) {
    double* row = store.add(0.01);
    for (std::size_t p = 0; p < pairs; ++p) {
      row[p] = 1.0 + 0.03 * normal();
    }
  }
  for (std::size_t p = 0; p < pairs; ++p) {
    store.y()[p] = 1.0 + 0.03 * normal();
  }
  double bias = 1e300, read = 1e300;
  const int rounds = n > 5000 ? 4 : 40;
  for (int repeat = 0; repeat < 6; ++repeat) { // in turns, so that both meet the same machine
    bias = std::min(bias, best_ms(rounds, [&] { sink = store.evaluate(); }));
    read = std::min(read, best_ms(rounds, [&] { sink = read_all(store, (pairs + 7) / 8 * 8); }));
  }
  const char* const names[] = {"SSE2", "AVX2", "AVX-512"};
  std::printf("hills %s %zu %.6f %.6f\n", names[int(isa)], n, bias, read);
}

void cutoff(std::size_t hills, int per_side, const std::string& what) {
  const double box = per_side / std::cbrt(0.1); // atoms per cubic Angstrom, as in water
  const int atoms = per_side * per_side * per_side;
  const Cell cell(Mat3{{{box, 0, 0}, {0, box, 0}, {0, 0, box}}});
  std::vector<Vec3> start, v(atoms);
  for (int a = 0; a < atoms; ++a) {
    const double s = box / per_side;
    start.push_back({s * (a % per_side) + 0.3 * normal(),
                     s * (a / per_side % per_side) + 0.3 * normal(),
                     s * (a / per_side / per_side) + 0.3 * normal()});
    v[a] = {0.004 * normal(), 0.004 * normal(), 0.004 * normal()};
  }
  BiasOptions options;
  options.matrix.metric.cutoff_ang = 5.0;
  options.matrix.metric.r_on_ang = 4.0;
  options.sigma = Sigma(0.1 * std::sqrt(double(atoms))); // the exponent grows with the atoms
  MatrixBias bias(Selection::all(std::vector<std::string>(atoms, "X")), options);
  for (std::size_t k = 0; k < hills; ++k) {
    auto y = start;
    for (Vec3& u : y) {
      for (double& c : u) {
        c += 0.05 * normal();
      }
    }
    bias.add(y, cell, 0.01, 0);
  }
  const int steps = 40;
  auto x = start;
  bias.evaluate(x, cell, 0);
  int lists = 0;
  std::size_t last = bias.matrix().size();
  const double ms = best_ms(1, [&] {
    for (int step = 1; step <= steps; ++step) {
      for (int a = 0; a < atoms; ++a) {
        for (int k = 0; k < 3; ++k) {
          x[a][k] += v[a][k];
        }
      }
      sink = bias.evaluate(x, cell, step);
      lists += bias.matrix().size() != last;
      last = bias.matrix().size();
    }
  });
  const double v0 = sink / (0.01 * double(hills));
  std::printf("cutoff %d %.6f %zu %.3f %d %s\n", atoms, 1e3 * ms / steps / atoms, bias.active(), v0,
              lists, what.c_str());
}

struct Run {
  double ms;
  std::size_t stored;
  std::vector<double> forces;
};

Run replay(const std::vector<std::vector<Vec3>>& frames, std::size_t hills, double sigma,
           double merge) {
  BiasOptions options;
  options.sigma = Sigma(sigma);
  options.merge = merge;
  const std::size_t atoms = frames[0].size();
  MatrixBias bias(Selection::all(std::vector<std::string>(atoms, "X")), options);
  for (std::size_t k = 0; k < hills; ++k) {
    bias.add(frames[k], {}, 0.01, 0);
  }
  Run out{0.0, bias.stored(), {}};
  // Where the run has been, and a little beside it.
  std::vector<std::vector<Vec3>> probes;
  for (std::size_t k = 0; k < 200; ++k) {
    probes.push_back(frames[(k * 2654435761u) % frames.size()]);
    for (Vec3& u : probes.back()) {
      for (double& c : u) {
        c += 0.01 * std::sin(double(k) + 17.0 * c); // the same for every run
      }
    }
  }
  for (const auto& x : probes) {
    bias.evaluate(x, {}, 0);
    for (const Vec3& g : bias.gradient()) {
      out.forces.insert(out.forces.end(), g.begin(), g.end());
    }
  }
  // A run moves slowly through matrix space; so does this timing.  The best of several for each
  // short stretch, since others use this machine too.
  for (std::size_t first = frames.size() - 200; first < frames.size(); first += 5) {
    out.ms += best_ms(20,
                      [&] {
                        for (std::size_t k = first; k < first + 5; ++k) {
                          sink = bias.evaluate(frames[k], {}, 0);
                        }
                      }) /
              200.0;
  }
  return out;
}

void merge(const std::string& path, double sigma, const std::vector<double>& radii) {
  std::ifstream in(path);
  std::vector<std::vector<Vec3>> frames;
  for (std::size_t atoms; in >> atoms;) {
    std::vector<Vec3> x(atoms);
    for (Vec3& u : x) {
      in >> u[0] >> u[1] >> u[2];
    }
    frames.push_back(x);
  }
  const Run thousand = replay(frames, 1000, sigma, 0.0);
  const Run all = replay(frames, frames.size(), sigma, 0.0);
  std::printf("merge %.3f none 1000 %.6f %zu 0\n", sigma, thousand.ms, thousand.stored);
  std::printf("merge %.3f none %zu %.6f %zu 0\n", sigma, frames.size(), all.ms, all.stored);
  for (const double radius : radii) {
    const Run merged = replay(frames, frames.size(), sigma, radius);
    double error = 0.0, square = 0.0;
    for (std::size_t k = 0; k < all.forces.size(); ++k) {
      const double d = merged.forces[k] - all.forces[k];
      error += d * d;
      square += all.forces[k] * all.forces[k];
    }
    std::printf("merge %.3f %.3f %zu %.6f %zu %.6f\n", sigma, radius, frames.size(), merged.ms,
                merged.stored, std::sqrt(error / square));
  }
}

} // namespace

int main(int argc, char** argv) {
  const std::string what = argc > 2 ? argv[1] : "";
  if (what == "hills") {
    for (int k = 3; k < argc; ++k) {
      for (const Isa isa : {Isa::Portable, Isa::Avx2, Isa::Avx512}) {
        if (isa <= best_isa()) {
          hills(std::stoul(argv[2]), std::stoul(argv[k]), isa);
        }
      }
    }
  } else if (what == "cutoff") {
    for (int k = 3; k < argc; ++k) {
      cutoff(std::stoul(argv[2]), int(std::lround(std::cbrt(std::stod(argv[k])))), "");
    }
  } else if (what == "merge" && argc > 4) {
    std::vector<double> radii;
    for (int k = 4; k < argc; ++k) {
      radii.push_back(std::stod(argv[k]));
    }
    merge(argv[2], std::stod(argv[3]), radii);
  } else {
    std::printf("usage: bench_bias_core hills|cutoff|merge ...\n");
    return 2;
  }
  return 0;
}
