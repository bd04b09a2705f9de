#include "ReferenceFiles.h"

#include "hilltext.h"

#include <fstream>
#include <map>
#include <sstream>
#include <stdexcept>

namespace metamd::plumed {

namespace {

std::ifstream open(const std::string& path) {
  std::ifstream in(path);
  if (!in) {
    throw std::runtime_error("cannot open " + path);
  }
  return in;
}

[[noreturn]] void wrong(const std::string& path, std::size_t line, const std::string& what) {
  throw std::runtime_error(path + ", line " + std::to_string(line) + ": " + what);
}

std::vector<std::string> words(const std::string& line) {
  std::istringstream in(line);
  std::vector<std::string> out;
  for (std::string w; in >> w;) {
    out.push_back(w);
  }
  return out;
}

Mat3 lattice(const std::string& comment, const std::string& path, std::size_t line) {
  const std::string key = "Lattice=\"";
  const std::size_t at = comment.find(key);
  Mat3 out{};
  if (at == std::string::npos) {
    return out;
  }
  const std::size_t begin = at + key.size();
  const auto w = words(comment.substr(begin, comment.find('"', begin) - begin));
  for (std::size_t k = 0; k < 9; ++k) {
    if (w.size() != 9 || !parse_double(w[k], out[k / 3][k % 3])) {
      wrong(path, line, "Lattice needs nine numbers");
    }
  }
  return out;
}

} // namespace

std::vector<XyzFrame> read_xyz(const std::string& path) {
  std::ifstream in = open(path);
  std::vector<XyzFrame> out;
  std::string text;
  std::size_t line = 0;
  while (std::getline(in, text)) {
    ++line;
    const auto head = words(text);
    if (head.empty()) {
      continue; // blank lines at the end are common
    }
    long long atoms = 0;
    if (head.size() != 1 || !parse_integer(head[0], atoms) || atoms <= 0) {
      wrong(path, line, "a number of atoms is expected");
    }
    XyzFrame frame;
    if (!std::getline(in, text)) {
      wrong(path, line, "the comment line is missing");
    }
    frame.cell_ang = lattice(text, path, ++line);
    for (long long a = 0; a < atoms; ++a) {
      ++line;
      Vec3 x{};
      if (!std::getline(in, text)) {
        wrong(path, line, "the file ends within a frame");
      }
      const auto w = words(text);
      if (w.size() < 4 || !parse_double(w[1], x[0]) || !parse_double(w[2], x[1]) ||
          !parse_double(w[3], x[2])) {
        wrong(path, line, "an element and three coordinates are expected");
      }
      frame.species.push_back(w[0]);
      frame.positions_ang.push_back(x);
    }
    out.push_back(std::move(frame));
  }
  if (out.empty()) {
    throw std::runtime_error(path + " has no frame");
  }
  return out;
}

PcaFile read_pca(const std::string& path, const DistanceMatrix& matrix) {
  std::ifstream in = open(path);
  std::map<std::string, std::string> head;
  std::map<std::pair<long long, long long>, std::size_t> place;
  for (std::size_t p = 0; p < matrix.size(); ++p) {
    place[{matrix.pairs().i[p] + 1, matrix.pairs().j[p] + 1}] = p;
  }
  PcaFile out;
  std::vector<char> seen(matrix.size(), 0);
  std::size_t line = 0, rows = 0;
  long long components = 0;
  for (std::string text; std::getline(in, text);) {
    ++line;
    const auto w = words(text);
    if (w.empty() || w[0][0] == '#') {
      continue;
    }
    if (w.size() == 2 && rows == 0) {
      head[w[0]] = w[1];
      continue;
    }
    if (rows++ == 0) {
      if (!parse_integer(head["components"], components) || components < 1) {
        wrong(path, line, "'components N' must come before the pairs");
      }
      if (head["metric"] != metric_name(matrix.metric().kind)) {
        wrong(path, line,
              "the components were made with metric " + head["metric"] +
                  ", the matrix has METRIC=" + metric_name(matrix.metric().kind));
      }
      if (head["atoms"] != std::to_string(matrix.selection().size()) ||
          head["pairs"] != std::to_string(matrix.size())) {
        wrong(path, line,
              "made for " + head["atoms"] + " atoms and " + head["pairs"] +
                  " pairs, the matrix has " + std::to_string(matrix.selection().size()) + " and " +
                  std::to_string(matrix.size()));
      }
      out.mean.assign(matrix.size(), 0.0);
      out.components.assign(std::size_t(components), std::vector<double>(matrix.size(), 0.0));
    }
    long long i = 0, j = 0;
    if (w.size() != std::size_t(components) + 3 || !parse_integer(w[0], i) ||
        !parse_integer(w[1], j) || place.count({i, j}) == 0 || seen[place[{i, j}]]) {
      wrong(path, line, "expected: i j mean and the components, each pair of the matrix once");
    }
    const std::size_t p = place[{i, j}];
    seen[p] = 1;
    bool good = parse_double(w[2], out.mean[p]);
    for (std::size_t k = 0; k < out.components.size(); ++k) {
      good = good && parse_double(w[3 + k], out.components[k][p]);
    }
    if (!good) {
      wrong(path, line, "a number cannot be read");
    }
  }
  if (rows != matrix.size()) {
    throw std::runtime_error(path + " has " + std::to_string(rows) + " pairs, the matrix has " +
                             std::to_string(matrix.size()));
  }
  return out;
}

} // namespace metamd::plumed
