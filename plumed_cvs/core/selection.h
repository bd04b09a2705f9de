// Which pairs of the chosen atoms belong to the matrix.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <set>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace metamd {

/// Atoms are numbered 0..n-1 within the selection; i < j in every pair.
class Selection {
public:
  /// Which sides of a pair an atom may stand on: GROUP gives every atom both.
  enum Side : std::uint8_t { A = 1, B = 2, Both = 3 };

  Selection() = default;
  Selection(std::vector<std::uint8_t> sides, std::vector<std::string> species)
      : sides_(std::move(sides)), names_(std::move(species)) {
    if (names_.size() != sides_.size()) {
      throw std::invalid_argument("one element name is needed for each atom");
    }
    for (const std::string& s : names_) {
      kinds_.emplace(s, 0);
    }
    int k = 0;
    for (auto& entry : kinds_) {
      entry.second = k++;
    }
    kind_.reserve(names_.size());
    for (const std::string& s : names_) {
      kind_.push_back(kinds_.at(s));
    }
    left_out_.assign(kinds_.size() * kinds_.size(), 0);
  }

  static Selection all(std::vector<std::string> species) {
    std::vector<std::uint8_t> sides(species.size(), Both);
    return Selection(std::move(sides), std::move(species));
  }

  std::size_t size() const { return sides_.size(); }
  const std::vector<std::string>& species() const { return names_; }
  const std::string& species(std::size_t i) const { return names_[i]; }
  int kind(std::size_t i) const { return kind_[i]; }
  /// Distinct elements, in alphabetical order of their numbers.
  const std::map<std::string, int>& kinds() const { return kinds_; }

  /// Whether two atoms of these elements can stand in a pair, sides aside.
  bool kinds_can_pair(int a, int b) const { return left_out_[a * kinds_.size() + b] == 0; }

  /// Leave out every pair of these two elements; false if an element is not there.
  bool exclude_species(const std::string& a, const std::string& b) {
    const auto ia = kinds_.find(a), ib = kinds_.find(b);
    if (ia == kinds_.end() || ib == kinds_.end()) {
      return false;
    }
    left_out_[ia->second * kinds_.size() + ib->second] = 1;
    left_out_[ib->second * kinds_.size() + ia->second] = 1;
    return true;
  }

  /// Leave out one pair; false if it is not in the matrix anyway.
  bool exclude_pair(std::size_t i, std::size_t j) {
    if (i == j || i >= size() || j >= size() || !allowed(i, j)) {
      return false;
    }
    pairs_.insert(key(i, j));
    return true;
  }

  bool allowed(std::size_t i, std::size_t j) const {
    return by_class(sides_[i], kind_[i], sides_[j], kind_[j]) &&
           (pairs_.empty() || pairs_.count(key(i, j)) == 0);
  }

  /// Number of pairs in the matrix, without walking through N^2 of them.
  std::int64_t count() const {
    std::map<std::pair<std::uint8_t, int>, std::int64_t> classes;
    for (std::size_t i = 0; i < size(); ++i) {
      ++classes[{sides_[i], kind_[i]}];
    }
    std::int64_t total = 0;
    for (auto a = classes.begin(); a != classes.end(); ++a) {
      for (auto b = a; b != classes.end(); ++b) {
        if (by_class(a->first.first, a->first.second, b->first.first, b->first.second)) {
          total += a == b ? a->second * (a->second - 1) / 2 : a->second * b->second;
        }
      }
    }
    return total - static_cast<std::int64_t>(pairs_.size());
  }

private:
  std::uint64_t key(std::size_t i, std::size_t j) const {
    return std::uint64_t(std::min(i, j)) * size() + std::max(i, j);
  }
  bool by_class(std::uint8_t side_i, int kind_i, std::uint8_t side_j, int kind_j) const {
    return (((side_i & A) && (side_j & B)) || ((side_i & B) && (side_j & A))) &&
           left_out_[kind_i * kinds_.size() + kind_j] == 0;
  }

  std::vector<std::uint8_t> sides_;
  std::vector<std::string> names_;
  std::vector<int> kind_;
  std::map<std::string, int> kinds_;
  std::vector<char> left_out_;
  std::set<std::uint64_t> pairs_;
};

} // namespace metamd
