// Mutated hills files through the reader: it may refuse them, it may not crash, and
// what it takes it must write and read back the same. Built with sanitizers:
//
//   cmake -S . -B build -DMETAMD_SANITIZE=ON && cmake --build build && build/tests/cpp/fuzz_hills
//   100000
#include "check.h"
#include "hilltext.h"
#include "sigma.h"

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <stdexcept>

using namespace metamd;

namespace {

std::uint64_t state = 88172645463325252ull;

std::uint64_t next() { // xorshift64
  state ^= state << 13;
  state ^= state >> 7;
  state ^= state << 17;
  return state;
}

std::string seed_text() {
  const std::string open =
      "2\nProperties=species:S:1:pos:R:3:id:I:1 pbc=\"F F F\" step=20 time=0.01 height=0.05 "
      "sigma=\"0.2,C-H:0.1\" biasf=inf metric=INVERSE pairs=1\nC 0.1 -2e-3 3 1\nH 1 2 3 2\n";
  const std::string periodic =
      "1\nLattice=\"9 0 0 1 9 0 -1 2 9\" Properties=species:S:1:pos:R:3:id:I:1 pbc=\"T T T\" "
      "step=40 time=0.02 height=0.04 sigma=\"0.2\" biasf=10 metric=DISTANCE cutoff=6 r_on=4.8 "
      "pairs=1\nO 1 2 3 7\n";
  return open + periodic + open;
}

void mutate(std::string& text) {
  static const char* const words[] = {"nan",    "inf",
                                      "1e999",  "-1",
                                      "\n",     "\"",
                                      "=",      " ",
                                      "\0\0",   "9999999999999999999",
                                      "2\n",    "Lattice=\"",
                                      ",",      ":",
                                      "-",      "0x1",
                                      "1e-400", "pbc=\"T T T\"",
                                      "\r"};
  for (std::uint64_t n = 1 + next() % 6; n > 0; --n) {
    const std::size_t at = text.empty() ? 0 : next() % text.size();
    const std::size_t length = std::min<std::size_t>(next() % 40, text.size() - at);
    switch (next() % 6) {
    case 0:
      if (!text.empty()) {
        text[at] = static_cast<char>(next());
      }
      break;
    case 1:
      text.erase(at, length);
      break;
    case 2:
      text.insert(at, words[next() % (sizeof words / sizeof *words)]);
      break;
    case 3:
      text.insert(at, text.substr(at, length));
      break;
    case 4:
      text.resize(at);
      break;
    default:
      text.insert(at, 1, static_cast<char>(next()));
    }
  }
}

} // namespace

int main(int argc, char** argv) {
  const long inputs = argc > 1 ? std::atol(argv[1]) : 5000;
  long taken = 0, refused = 0, torn = 0;
  for (long n = 0; n < inputs; ++n) {
    std::string text = seed_text();
    mutate(text);
    // An exact copy on the heap, so that reading one byte too far is seen.
    const std::unique_ptr<char[]> exact(new char[text.size()]);
    std::memcpy(exact.get(), text.data(), text.size());
    const std::string_view view(exact.get(), text.size());
    HillFrame hill;
    ParseResult r;
    for (std::size_t begin = 0;; begin = r.next) {
      r = parse_hill(view, begin, hill);
      if (r.status != ParseStatus::Ok) {
        break;
      }
      ++taken;
      const std::string again = hill_text(hill);
      HillFrame same;
      check(parse_hill(again, 0, same).status == ParseStatus::Ok && hill_text(same) == again,
            "what is taken reads back");
      try {
        (void)Sigma::parse(hill.sigma).text();
      } catch (const std::invalid_argument&) {
        // refused with a message, as it should be
      }
    }
    refused += r.status == ParseStatus::Bad;
    torn += r.status == ParseStatus::Torn;
  }
  std::printf("%ld inputs: %ld hills taken, %ld files refused, %ld torn\n", inputs, taken, refused,
              torn);
  check(taken > inputs / 4 && refused > inputs / 10 && torn > inputs / 10, "every way was met");
  return finish();
}
