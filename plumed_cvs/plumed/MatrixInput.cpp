#include "MatrixInput.h"

#include <map>

namespace metamd::plumed {

using PLMD::AtomNumber;

void register_matrix_keywords(PLMD::Keywords& keys) {
  keys.add("atoms", "GROUP", "the atoms of the matrix: every pair of them");
  keys.add("atoms", "GROUPA",
           "with GROUPB: the pairs of one atom of GROUPA and one of GROUPB, each pair once");
  keys.add("atoms", "GROUPB", "see GROUPA");
  keys.add("optional", "SPECIES",
           "elements of the atoms, comma-separated in the order of GROUP (or of GROUPA, then "
           "those of GROUPB not in GROUPA); H*6 stands for six times H; one name alone is for "
           "all atoms. PLUMED itself knows no elements");
  keys.add("optional", "METRIC",
           "the matrix element D as a function of the distance r: INVERSE (1/r, default), "
           "DISTANCE (r) or, in a bias only, SCREENED (r, with bumps of width "
           "SIGMA*sqrt(1+r^2), r in Angstrom)");
  keys.add("optional", "CUTOFF",
           "INVERSE only: D goes smoothly to zero at this distance, and cost and memory grow "
           "linearly with the number of atoms");
  keys.add("optional", "R_ON",
           "where the switch of CUTOFF begins (default 0.8 CUTOFF): D = s/r, s = "
           "1-10x^3+15x^4-6x^5, x = (r-R_ON)/(CUTOFF-R_ON)");
  keys.add("optional", "EXCLUDE_SPECIES",
           "pairs of elements left out of the matrix, as in H-H,C-H; needs SPECIES");
  keys.add("optional", "EXCLUDE_PAIRS",
           "pairs of atoms left out of the matrix, by serial numbers as in 1-2,1-3");
}

std::vector<std::string> split(const std::string& text) {
  std::vector<std::string> out;
  std::size_t begin = 0;
  while (begin <= text.size()) {
    const std::size_t end = std::min(text.find(',', begin), text.size());
    out.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return out;
}

namespace {

std::string serials(const std::string& keyword, long long a, long long b) {
  return keyword + ": " + std::to_string(a) + "-" + std::to_string(b);
}

/// The atoms of GROUP or of GROUPA and GROUPB, and the sides they may stand on.
std::vector<std::uint8_t> parse_groups(PLMD::Colvar& action, MatrixInput& in) {
  std::vector<AtomNumber> group, a, b;
  action.parseAtomList("GROUP", group);
  action.parseAtomList("GROUPA", a);
  action.parseAtomList("GROUPB", b);
  if (!group.empty() && (!a.empty() || !b.empty())) {
    action.error("GROUP and GROUPA/GROUPB exclude each other: give one or the other");
  }
  if (a.empty() != b.empty()) {
    action.error("GROUPA and GROUPB belong together: one of them is missing");
  }
  if (group.empty() && a.empty()) {
    action.error("GROUP is missing: give the atoms of the matrix as GROUP=..., or as "
                 "GROUPA=... and GROUPB=...");
  }
  std::vector<std::uint8_t> sides;
  std::map<unsigned, std::size_t> place;
  const auto put = [&](const std::vector<AtomNumber>& list, std::uint8_t side, const char* key) {
    std::vector<char> seen(sides.size() + list.size(), 0);
    for (const AtomNumber atom : list) {
      const auto [at, is_new] = place.emplace(atom.index(), sides.size());
      if (is_new) {
        in.atoms.push_back(atom);
        in.ids.push_back(atom.serial());
        sides.push_back(0);
      }
      if (seen[at->second]) {
        action.error(std::string(key) + " has atom " + std::to_string(atom.serial()) + " twice");
      }
      seen[at->second] = 1;
      sides[at->second] |= side;
    }
  };
  put(group, Selection::Both, "GROUP");
  put(a, Selection::A, "GROUPA");
  put(b, Selection::B, "GROUPB");
  return sides;
}

std::vector<std::string> parse_species(PLMD::Colvar& action, std::size_t atoms) {
  std::string text;
  action.parse("SPECIES", text);
  if (text.empty()) {
    return std::vector<std::string>(atoms, "X");
  }
  std::vector<std::string> out;
  for (const std::string& word : split(text)) {
    const std::size_t star = word.find('*');
    const std::string element = word.substr(0, star);
    long long times = 1;
    if (element.empty() || element.find_first_of("-: \"=") != std::string::npos ||
        (star != std::string::npos &&
         (!parse_integer(std::string_view(word).substr(star + 1), times) || times < 1 ||
          std::size_t(times) > atoms))) {
      action.error("SPECIES: '" + word + "' is no element; write C,O,H*6");
    }
    out.insert(out.end(), std::size_t(times), element);
  }
  if (out.size() == 1) {
    out.resize(atoms, out[0]);
  }
  if (out.size() != atoms) {
    action.error("SPECIES names " + std::to_string(out.size()) + " atoms, but there are " +
                 std::to_string(atoms));
  }
  return out;
}

void parse_exclusions(PLMD::Colvar& action, MatrixInput& in) {
  std::string elements, pairs;
  action.parse("EXCLUDE_SPECIES", elements);
  action.parse("EXCLUDE_PAIRS", pairs);
  for (const std::string& word : elements.empty() ? std::vector<std::string>() : split(elements)) {
    const std::size_t dash = word.find('-');
    if (dash == std::string::npos ||
        !in.selection.exclude_species(word.substr(0, dash), word.substr(dash + 1))) {
      action.error("EXCLUDE_SPECIES: '" + word + "' is no pair of elements in SPECIES");
    }
  }
  std::map<long long, std::size_t> place;
  for (std::size_t k = 0; k < in.ids.size(); ++k) {
    place[in.ids[k]] = k;
  }
  for (const std::string& word : pairs.empty() ? std::vector<std::string>() : split(pairs)) {
    const std::size_t dash = word.find('-');
    long long a = 0, b = 0;
    if (dash == std::string::npos || !parse_integer(word.substr(0, dash), a) ||
        !parse_integer(word.substr(dash + 1), b)) {
      action.error("EXCLUDE_PAIRS: '" + word + "' is not written as 1-2");
    }
    if (place.count(a) == 0 || place.count(b) == 0 ||
        !in.selection.exclude_pair(place[a], place[b])) {
      action.error(serials("EXCLUDE_PAIRS", a, b) + " is no pair of the matrix");
    }
  }
  if (in.selection.count() <= 0) {
    action.error("no pair of atoms is left in the matrix: GROUP needs two atoms at least, and "
                 "EXCLUDE_SPECIES and EXCLUDE_PAIRS must leave some");
  }
}

Metric parse_metric(PLMD::Colvar& action, double angstrom) {
  Metric out;
  std::string kind = "INVERSE";
  action.parse("METRIC", kind);
  try {
    out.kind = metric_from_name(kind);
  } catch (const std::invalid_argument& wrong) {
    action.error(wrong.what());
  }
  double cutoff = -1.0, r_on = -1.0;
  action.parse("CUTOFF", cutoff);
  action.parse("R_ON", r_on);
  if (cutoff == -1.0) {
    if (r_on != -1.0) {
      action.error("R_ON has no meaning without CUTOFF");
    }
    return out;
  }
  if (!(cutoff > 0.0)) {
    action.error("CUTOFF must be positive");
  }
  if (out.kind != MetricKind::Inverse) {
    action.error("CUTOFF works with METRIC=INVERSE only: other elements do not vanish at a "
                 "distance");
  }
  if (r_on == -1.0) {
    r_on = 0.8 * cutoff;
  }
  if (!(r_on >= 0.0 && r_on < cutoff)) {
    action.error("R_ON must lie between 0 and CUTOFF");
  }
  out.cutoff_ang = cutoff * angstrom;
  out.r_on_ang = r_on * angstrom;
  return out;
}

} // namespace

MatrixInput parse_matrix(PLMD::Colvar& action, double angstrom) {
  MatrixInput in;
  std::vector<std::uint8_t> sides = parse_groups(action, in);
  const std::size_t atoms = sides.size();
  in.selection = Selection(std::move(sides), parse_species(action, atoms));
  parse_exclusions(action, in);
  in.metric = parse_metric(action, angstrom);
  bool nopbc = false;
  action.parseFlag("NOPBC", nopbc);
  in.periodic = !nopbc;
  return in;
}

void copy_positions(const std::vector<PLMD::Vector>& from, double angstrom, std::vector<Vec3>& to) {
  to.resize(from.size());
  for (std::size_t a = 0; a < from.size(); ++a) {
    to[a] = {from[a][0] * angstrom, from[a][1] * angstrom, from[a][2] * angstrom};
  }
}

Cell make_cell(const PLMD::Tensor& box, double angstrom) {
  Mat3 rows;
  for (unsigned i = 0; i < 3; ++i) {
    for (unsigned j = 0; j < 3; ++j) {
      rows[i][j] = box(i, j) * angstrom;
    }
  }
  return Cell(rows);
}

PLMD::Tensor to_tensor(const Mat3& m) {
  return PLMD::Tensor(m[0][0], m[0][1], m[0][2], m[1][0], m[1][1], m[1][2], m[2][0], m[2][1],
                      m[2][2]);
}

} // namespace metamd::plumed
