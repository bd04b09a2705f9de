#include "HillsFile.h"

#include <cerrno>
#include <cstring>
#include <stdexcept>
#include <sys/stat.h>
#include <unistd.h>
#include <utility>
#include <vector>

namespace metamd::plumed {

namespace {
struct Closer {
  void operator()(std::FILE* f) const { std::fclose(f); }
};
constexpr std::size_t kPiece = 4u << 20;
} // namespace

bool HillsReader::exists() const {
  struct stat info;
  return ::stat(path_.c_str(), &info) == 0;
}

std::uint64_t HillsReader::read_new(const std::function<void(const HillFrame&)>& take) {
  const std::unique_ptr<std::FILE, Closer> file(std::fopen(path_.c_str(), "rb"));
  if (!file) {
    throw std::runtime_error("cannot open hills file " + path_ + ": " + std::strerror(errno));
  }
  struct stat info;
  if (::fstat(::fileno(file.get()), &info) != 0 || !S_ISREG(info.st_mode)) {
    throw std::runtime_error("hills file " + path_ + " is not a regular file");
  }
  if (std::uint64_t(info.st_size) < offset_) {
    throw std::runtime_error("hills file " + path_ +
                             " became shorter than what was read from it: "
                             "has its walker been started anew? Start all walkers together");
  }
  if (::fseeko(file.get(), static_cast<off_t>(offset_), SEEK_SET) != 0) {
    throw std::runtime_error("cannot read hills file " + path_ + ": " + std::strerror(errno));
  }
  std::string text;
  HillFrame hill;
  for (bool more = true; more;) {
    const std::size_t had = text.size();
    text.resize(had + kPiece);
    const std::size_t got = std::fread(&text[had], 1, kPiece, file.get());
    text.resize(had + got);
    if (std::ferror(file.get())) {
      throw std::runtime_error("cannot read hills file " + path_ + ": " + std::strerror(errno));
    }
    more = got == kPiece;
    std::size_t begin = 0;
    for (;;) {
      const ParseResult r = parse_hill(text, begin, hill);
      if (r.status == ParseStatus::Bad) {
        throw std::runtime_error("hills file " + path_ + ", hill " + std::to_string(hills_ + 1) +
                                 " is damaged, " + r.message +
                                 ". Repair the file or cut it before this hill");
      }
      if (r.status != ParseStatus::Ok) {
        break;
      }
      take(hill);
      ++hills_;
      offset_ += r.next - begin;
      begin = r.next;
    }
    text.erase(0, begin);
  }
  return text.size();
}

void cut_file(const std::string& path, std::uint64_t bytes) {
  if (::truncate(path.c_str(), static_cast<off_t>(bytes)) != 0) {
    throw std::runtime_error("cannot cut the torn last hill off " + path + ": " +
                             std::strerror(errno));
  }
}

HillsWriter::~HillsWriter() {
  if (file_) {
    std::fclose(file_);
  }
}

void HillsWriter::fail(const std::string& what, int reason) const {
  throw std::runtime_error("cannot " + what + " hills file " + path_ + ": " +
                           std::strerror(reason));
}

void HillsWriter::open_append(const std::string& path) {
  path_ = path;
  file_ = std::fopen(path.c_str(), "ab");
  if (!file_) {
    fail("open", errno);
  }
}

void HillsWriter::append(const HillFrame& hill) {
  const std::string text = hill_text(hill);
  struct stat before;
  const bool regular = ::fstat(::fileno(file_), &before) == 0 && S_ISREG(before.st_mode);
  if (std::fwrite(text.data(), 1, text.size(), file_) == text.size() && std::fflush(file_) == 0) {
    return;
  }
  const int reason = errno;
  // Leave no half of a hill behind; a reader would cut it off anyway.
  if (regular && ::truncate(path_.c_str(), before.st_size) != 0) {
    fail("write to (and could not cut the torn hill off)", reason);
  }
  fail("write to", reason);
}

} // namespace metamd::plumed
