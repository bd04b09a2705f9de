#include "plumed_input.h"

#include <fstream>
#include <set>
#include <sstream>
#include <vector>

namespace metamd {
namespace {

constexpr int deepest_include = 20; // a file that includes itself is PLUMED's to report

void scan(const std::string& file, int depth, PlumedInput& found);

/// A line up to its comment, split at white space.
std::vector<std::string> words_of(const std::string& line) {
  std::istringstream text(line.substr(0, line.find('#')));
  std::vector<std::string> words;
  for (std::string word; text >> word;) {
    words.push_back(word);
  }
  return words;
}

/// "label: ACTION ..." or "ACTION ...".  Lines inside "ACTION ... / ... ACTION" look like
/// actions too; taking them for such costs at most an energy that nobody reads.
void scan_line(const std::vector<std::string>& words, int depth, PlumedInput& found) {
  static const std::set<std::string> setup = {"UNITS", "RESTART", "LOAD", "ENDPLUMED", "..."};
  if (words.empty()) {
    return;
  }
  const bool labelled = words[0].back() == ':';
  if (labelled && words.size() < 2) {
    found.has_actions = true;
    return;
  }
  const std::string& action = words[labelled ? 1 : 0];
  if (action == "INCLUDE") {
    for (const auto& word : words) {
      if (word.rfind("FILE=", 0) == 0) {
        scan(word.substr(5), depth + 1, found);
      }
    }
    return;
  }
  if (setup.count(action) == 0) {
    found.has_actions = true;
  }
  if (action == "ENERGY") {
    found.has_energy = true;
  }
}

void scan(const std::string& file, int depth, PlumedInput& found) {
  std::ifstream input(file);
  if (!input || depth > deepest_include) {
    found.has_actions = true;
    return;
  }
  for (std::string line; std::getline(input, line);) {
    scan_line(words_of(line), depth, found);
  }
}

} // namespace

PlumedInput scan_plumed_input(const std::string& file) {
  PlumedInput found;
  scan(file, 0, found);
  return found;
}

} // namespace metamd
