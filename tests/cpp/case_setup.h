// From a case of tests/cases to the core's own types.
#pragma once

#include "bias.h"
#include "cv.h"
#include "json.h"

#include <algorithm>
#include <string>
#include <vector>

struct Case {
  std::string name;
  metamd::Selection selection;
  metamd::Metric metric;
  std::vector<std::size_t> atoms; ///< of the group, in its order, among all
  std::vector<metamd::Vec3> x;    ///< of the group
  metamd::Cell cell;
};

inline std::vector<metamd::Vec3> vectors(const Json& rows) {
  std::vector<metamd::Vec3> out;
  for (const Json& r : rows.array) {
    out.push_back({r.array.at(0).number, r.array.at(1).number, r.array.at(2).number});
  }
  return out;
}

inline metamd::Cell cell_of(const Json& rows) {
  if (rows.null()) {
    return {};
  }
  const auto v = vectors(rows);
  return metamd::Cell(metamd::Mat3{v.at(0), v.at(1), v.at(2)});
}

inline Case set_up(const Json& c) {
  Case out;
  out.name = c.at("name").string;
  std::vector<std::uint8_t> sides;
  const auto put = [&](const Json& list, std::uint8_t side) {
    for (const Json& serial : list.array) {
      const std::size_t atom = std::size_t(serial.number) - 1;
      const auto at = std::find(out.atoms.begin(), out.atoms.end(), atom);
      if (at == out.atoms.end()) {
        out.atoms.push_back(atom);
        sides.push_back(side);
      } else {
        sides[std::size_t(at - out.atoms.begin())] |= side;
      }
    }
  };
  if (!c.at("group").null()) {
    put(c.at("group"), metamd::Selection::Both);
  } else {
    put(c.at("group_a"), metamd::Selection::A);
    put(c.at("group_b"), metamd::Selection::B);
  }
  std::vector<std::string> species;
  const auto all = vectors(c.at("positions_ang"));
  for (const std::size_t atom : out.atoms) {
    species.push_back(c.at("species").array.at(atom).string);
    out.x.push_back(all.at(atom));
  }
  out.selection = metamd::Selection(sides, species);
  for (const Json& pair : c.at("exclude_species").array) {
    const std::size_t dash = pair.string.find('-');
    out.selection.exclude_species(pair.string.substr(0, dash), pair.string.substr(dash + 1));
  }
  for (const Json& pair : c.at("exclude_pairs").array) {
    const auto place = [&](int k) {
      return std::size_t(
          std::find(out.atoms.begin(), out.atoms.end(), std::size_t(pair.array.at(k).number) - 1) -
          out.atoms.begin());
    };
    out.selection.exclude_pair(place(0), place(1));
  }
  out.metric.kind = metamd::metric_from_name(c.at("metric").string);
  if (!c.at("cutoff_ang").null()) {
    out.metric.cutoff_ang = c.at("cutoff_ang").number;
    out.metric.r_on_ang =
        c.at("r_on_ang").null() ? 0.8 * out.metric.cutoff_ang : c.at("r_on_ang").number;
  }
  out.cell = cell_of(c.at("cell_ang"));
  return out;
}

inline metamd::MatrixBias bias_of(const Json& c, const Case& set, metamd::BiasOptions options) {
  options.matrix.metric = set.metric;
  options.sigma = metamd::Sigma::parse(c.at("sigma").string);
  metamd::MatrixBias bias(set.selection, options);
  for (const Json& hill : c.at("hills").array) {
    bias.add(vectors(hill.at("positions_ang")), cell_of(hill.at("cell_ang")),
             hill.at("height_ev").number, 0);
  }
  return bias;
}
