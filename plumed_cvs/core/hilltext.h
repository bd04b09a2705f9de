// One hill as one frame of an extended-XYZ trajectory, to text and back.
//
//   9
//   Properties=species:S:1:pos:R:3:id:I:1 pbc="F F F" step=20 time=0.01 height=0.05 ...
//   C 0.1 0.2 0.3 1
//   ...
//
// Positions in Angstrom, heights in eV, times in ps, whatever units the host uses;
// `id` is the atom's number in the host.  The parser takes nothing it does not
// understand: a file is somebody's bias, and half of one is another bias.
#pragma once

#include "geometry.h"
#include "numbers.h"

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace metamd {

struct HillFrame {
  long long step = 0; ///< of the host
  double time_ps = 0.0;
  double height_ev = 0.0;  ///< as added: well-tempered already, without gamma/(gamma-1)
  std::string sigma;       ///< as Sigma::text(), in units of D made from Angstrom
  double biasfactor = 0.0; ///< 0: constant heights, written as inf
  std::string metric;      ///< INVERSE, DISTANCE or SCREENED
  double cutoff_ang = 0.0; ///< 0: none, and then not written
  double r_on_ang = 0.0;
  long long pairs = 0; ///< in the matrix
  bool periodic = false;
  Mat3 cell_ang{};
  std::vector<std::string> species;
  std::vector<Vec3> positions_ang;
  std::vector<long long> ids;
};

enum class ParseStatus {
  Ok,
  End,  ///< nothing left
  Torn, ///< the text stops within a frame: the writer was interrupted
  Bad   ///< not a hill; `message` says why
};

struct ParseResult {
  ParseStatus status = ParseStatus::End;
  std::size_t next = 0; ///< where the next frame begins, after Ok
  std::string message;
};

inline std::string hill_text(const HillFrame& h) {
  std::string out = std::to_string(h.positions_ang.size()) + "\n";
  if (h.periodic) {
    out += "Lattice=\"";
    for (int k = 0; k < 9; ++k) {
      out += (k ? " " : "") + format_double(h.cell_ang[k / 3][k % 3]);
    }
    out += "\" ";
  }
  out += "Properties=species:S:1:pos:R:3:id:I:1 pbc=\"";
  out += h.periodic ? "T T T\"" : "F F F\"";
  out += " step=" + std::to_string(h.step) + " time=" + format_double(h.time_ps) +
         " height=" + format_double(h.height_ev) + " sigma=\"" + h.sigma +
         "\" biasf=" + (h.biasfactor > 0.0 ? format_double(h.biasfactor) : "inf") +
         " metric=" + h.metric;
  if (h.cutoff_ang > 0.0) {
    out += " cutoff=" + format_double(h.cutoff_ang) + " r_on=" + format_double(h.r_on_ang);
  }
  out += " pairs=" + std::to_string(h.pairs) + "\n";
  for (std::size_t a = 0; a < h.positions_ang.size(); ++a) {
    out += h.species[a];
    for (const double v : h.positions_ang[a]) {
      out += " " + format_double(v);
    }
    out += " " + std::to_string(h.ids[a]) + "\n";
  }
  return out;
}

namespace detail {

/// Words of a line, split at single or several blanks.
inline std::vector<std::string_view> words(std::string_view line) {
  std::vector<std::string_view> out;
  std::size_t p = 0;
  while (p < line.size()) {
    const std::size_t begin = line.find_first_not_of(' ', p);
    if (begin == std::string_view::npos) {
      break;
    }
    p = std::min(line.find(' ', begin), line.size());
    out.push_back(line.substr(begin, p - begin));
  }
  return out;
}

/// key=value or key="value with blanks"; no key twice.
inline bool key_values(std::string_view line,
                       std::map<std::string, std::string, std::less<>>& out) {
  std::size_t p = 0;
  while ((p = line.find_first_not_of(' ', p)) != std::string_view::npos) {
    const std::size_t eq = line.find('=', p);
    if (eq == std::string_view::npos || eq == p) {
      return false;
    }
    const std::string key(line.substr(p, eq - p));
    std::size_t begin = eq + 1, end;
    if (begin < line.size() && line[begin] == '"') {
      end = line.find('"', ++begin);
      if (end == std::string_view::npos) {
        return false;
      }
      p = end + 1;
      if (p < line.size() && line[p] != ' ') {
        return false;
      }
    } else {
      p = end = std::min(line.find(' ', begin), line.size());
      if (line.substr(begin, end - begin).find('"') != std::string_view::npos) {
        return false;
      }
    }
    if (key.find_first_of(" \"") != std::string::npos ||
        !out.emplace(key, std::string(line.substr(begin, end - begin))).second) {
      return false;
    }
  }
  return true;
}

class FrameReader {
public:
  FrameReader(std::string_view text, std::size_t begin) : text_(text), next_(begin) {}

  ParseResult read(HillFrame& h) {
    std::string_view line;
    if (next_ >= text_.size()) {
      return {ParseStatus::End, next_, ""};
    }
    if (!take(line)) {
      return torn();
    }
    long long atoms = 0;
    if (!parse_integer(line, atoms) || atoms <= 0 || atoms > 100000000) {
      return bad("a number of atoms is expected");
    }
    if (!take(line)) {
      return torn();
    }
    std::string why = comment(line, h);
    if (!why.empty()) {
      return bad(why);
    }
    h.species.clear();
    h.positions_ang.clear();
    h.ids.clear();
    for (long long a = 0; a < atoms; ++a) {
      if (!take(line)) {
        return torn();
      }
      why = atom(line, h);
      if (!why.empty()) {
        return bad(why);
      }
    }
    return {ParseStatus::Ok, next_, ""};
  }

private:
  ParseResult torn() const { return {ParseStatus::Torn, next_, ""}; }
  ParseResult bad(const std::string& why) const {
    return {ParseStatus::Bad, next_, "line " + std::to_string(line_) + " of the frame: " + why};
  }

  /// A line counts only with its end: a number without one may go on.
  bool take(std::string_view& line) {
    const std::size_t end = text_.find('\n', next_);
    if (end == std::string_view::npos) {
      return false;
    }
    line = text_.substr(next_, end - next_);
    next_ = end + 1;
    ++line_;
    return true;
  }

  static std::string comment(std::string_view line, HillFrame& h) {
    std::map<std::string, std::string, std::less<>> keys;
    if (!key_values(line, keys)) {
      return "key=value entries are expected, each key once";
    }
    const auto get = [&keys](const char* key) {
      const auto found = keys.find(key);
      return found == keys.end() ? std::string() : found->second;
    };
    for (const char* key :
         {"Properties", "pbc", "step", "time", "height", "sigma", "biasf", "metric", "pairs"}) {
      if (keys.count(key) == 0) {
        return std::string("key ") + key + " is missing";
      }
    }
    if (get("Properties") != "species:S:1:pos:R:3:id:I:1") {
      return "Properties must be species:S:1:pos:R:3:id:I:1";
    }
    h.periodic = get("pbc") == "T T T";
    if (!h.periodic && get("pbc") != "F F F") {
      return "pbc must be T T T or F F F";
    }
    if (h.periodic != (keys.count("Lattice") != 0)) {
      return "Lattice and pbc contradict each other";
    }
    h.cell_ang = Mat3{};
    if (h.periodic) {
      const std::string lattice_text = get("Lattice");
      const auto lattice = words(lattice_text);
      if (lattice.size() != 9) {
        return "Lattice needs nine numbers";
      }
      for (std::size_t k = 0; k < 9; ++k) {
        if (!parse_double(lattice[k], h.cell_ang[k / 3][k % 3])) {
          return "Lattice needs nine numbers";
        }
      }
      if (!(std::abs(determinant(h.cell_ang)) > 0.0)) {
        return "the Lattice is flat";
      }
    }
    if (!parse_integer(get("step"), h.step)) {
      return "step is no integer";
    }
    if (!parse_double(get("time"), h.time_ps) || !parse_double(get("height"), h.height_ev)) {
      return "time and height must be numbers";
    }
    h.biasfactor = 0.0;
    if (get("biasf") != "inf" &&
        (!parse_double(get("biasf"), h.biasfactor) || !(h.biasfactor > 1.0))) {
      return "biasf must be inf or larger than 1";
    }
    h.sigma = get("sigma");
    h.metric = get("metric");
    if (h.metric != "INVERSE" && h.metric != "DISTANCE" && h.metric != "SCREENED") {
      return "metric must be INVERSE, DISTANCE or SCREENED";
    }
    h.cutoff_ang = h.r_on_ang = 0.0;
    if (keys.count("cutoff") != keys.count("r_on") ||
        (keys.count("cutoff") != 0 &&
         (!parse_double(get("cutoff"), h.cutoff_ang) || !parse_double(get("r_on"), h.r_on_ang) ||
          !(h.cutoff_ang > h.r_on_ang) || !(h.r_on_ang >= 0.0)))) {
      return "cutoff and r_on must be numbers, r_on below cutoff";
    }
    if (!parse_integer(get("pairs"), h.pairs) || h.pairs <= 0) {
      return "pairs is no positive integer";
    }
    return "";
  }

  static std::string atom(std::string_view line, HillFrame& h) {
    const auto w = words(line);
    Vec3 x{};
    long long id = 0;
    if (w.size() != 5 || !parse_double(w[1], x[0]) || !parse_double(w[2], x[1]) ||
        !parse_double(w[3], x[2]) || !parse_integer(w[4], id) || id <= 0) {
      return "an element, three coordinates and an atom number are expected";
    }
    h.species.emplace_back(w[0]);
    h.positions_ang.push_back(x);
    h.ids.push_back(id);
    return "";
  }

  std::string_view text_;
  std::size_t next_;
  int line_ = 0;
};

} // namespace detail

/// Read the frame that begins at `begin`.
inline ParseResult parse_hill(std::string_view text, std::size_t begin, HillFrame& hill) {
  return detail::FrameReader(text, begin).read(hill);
}

} // namespace metamd
