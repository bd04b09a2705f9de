// The width of a bump: one number, or one per pair of elements.
//
//   0.2               for every pair
//   0.2,C-H:0.1       C-H pairs 0.1, all others 0.2
//   C-C:0.2,C-H:0.1   no other pair may occur
#pragma once

#include "numbers.h"
#include "selection.h"

#include <cmath>
#include <map>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace metamd {

class Sigma {
public:
  Sigma() = default;
  explicit Sigma(double value) : rest_(value) {}

  /// Throws std::invalid_argument naming what is wrong.
  static Sigma parse(const std::string& text) {
    Sigma out;
    std::size_t begin = 0;
    while (begin <= text.size()) {
      const std::size_t end = std::min(text.find(',', begin), text.size());
      out.add_term(text.substr(begin, end - begin));
      begin = end + 1;
    }
    return out;
  }

  /// Every width times a factor: a change of units.
  Sigma scaled(double factor) const {
    Sigma out = *this;
    out.rest_ *= factor;
    for (auto& entry : out.pairs_) {
      entry.second *= factor;
    }
    return out;
  }

  std::string text() const {
    std::string out = rest_ > 0.0 ? format_double(rest_) : "";
    for (const auto& [pair, value] : pairs_) {
      out += (out.empty() ? "" : ",") + pair.first + "-" + pair.second + ":" + format_double(value);
    }
    return out;
  }

  /// Same widths within rounding: what a unit conversion there and back may leave.
  bool matches(const Sigma& other) const {
    const auto close = [](double a, double b) {
      return std::abs(a - b) <= 1e-9 * std::max(std::abs(a), std::abs(b));
    };
    if (!close(rest_, other.rest_) || pairs_.size() != other.pairs_.size()) {
      return false;
    }
    for (auto a = pairs_.begin(), b = other.pairs_.begin(); a != pairs_.end(); ++a, ++b) {
      if (a->first != b->first || !close(a->second, b->second)) {
        return false;
      }
    }
    return true;
  }

  /// Width by element numbers of a selection: entry kind_i * kinds + kind_j.
  /// A pair of elements without a width is an error only if such a pair can occur.
  std::vector<double> table(const Selection& sel) const {
    const auto& kinds = sel.kinds();
    for (const auto& entry : pairs_) {
      if (kinds.count(entry.first.first) == 0 || kinds.count(entry.first.second) == 0) {
        throw std::invalid_argument("SIGMA has a width for " + entry.first.first + "-" +
                                    entry.first.second +
                                    ", but SPECIES has no such pair of elements");
      }
    }
    std::vector<double> out(kinds.size() * kinds.size(), 0.0);
    for (const auto& [a, ia] : kinds) {
      for (const auto& [b, ib] : kinds) {
        const auto found = pairs_.find(ordered(a, b));
        const double value = found == pairs_.end() ? rest_ : found->second;
        if (!(value > 0.0) && sel.kinds_can_pair(ia, ib)) {
          throw std::invalid_argument("SIGMA has no width for pairs " + a + "-" + b +
                                      "; add it, or a plain number for all other pairs");
        }
        out[ia * kinds.size() + ib] = value > 0.0 ? value : 1.0;
      }
    }
    return out;
  }

private:
  static std::pair<std::string, std::string> ordered(std::string a, std::string b) {
    return a <= b ? std::make_pair(std::move(a), std::move(b))
                  : std::make_pair(std::move(b), std::move(a));
  }

  void add_term(const std::string& term) {
    const std::size_t colon = term.find(':');
    double value = 0.0;
    if (!parse_double(term.substr(colon == std::string::npos ? 0 : colon + 1), value) ||
        !(value > 0.0)) {
      throw std::invalid_argument("SIGMA: '" + term +
                                  "' is no positive width; write 0.2 or C-H:0.2");
    }
    if (colon == std::string::npos) {
      if (rest_ > 0.0) {
        throw std::invalid_argument("SIGMA has two plain numbers; give one, or C-H:0.2 for pairs");
      }
      rest_ = value;
      return;
    }
    const std::size_t dash = term.find('-');
    if (dash == std::string::npos || dash == 0 || dash + 1 >= colon) {
      throw std::invalid_argument("SIGMA: '" + term + "' is not written as C-H:0.2");
    }
    const auto pair = ordered(term.substr(0, dash), term.substr(dash + 1, colon - dash - 1));
    if (!pairs_.emplace(pair, value).second) {
      throw std::invalid_argument("SIGMA has two widths for " + pair.first + "-" + pair.second);
    }
  }

  double rest_ = 0.0;
  std::map<std::pair<std::string, std::string>, double> pairs_;
};

} // namespace metamd
