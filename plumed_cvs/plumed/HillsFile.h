// Hills on disk: read what is new and complete, cut what is torn, append and flush.
// Errors are std::runtime_error with the file's name in the message.
#pragma once

#include "hilltext.h"

#include <cstdint>
#include <cstdio>
#include <functional>
#include <memory>
#include <string>

namespace metamd::plumed {

class HillsReader {
public:
  explicit HillsReader(std::string path) : path_(std::move(path)) {}

  const std::string& path() const { return path_; }
  bool exists() const;
  /// Bytes of complete hills read so far.
  std::uint64_t offset() const { return offset_; }
  std::size_t hills() const { return hills_; }

  /// Hand over every complete hill behind the last one read; returns the bytes of a
  /// torn frame that are left at the end.
  std::uint64_t read_new(const std::function<void(const HillFrame&)>& take);

private:
  std::string path_;
  std::uint64_t offset_ = 0;
  std::size_t hills_ = 0;
};

/// Cut a file after the given number of bytes.
void cut_file(const std::string& path, std::uint64_t bytes);

class HillsWriter {
public:
  HillsWriter() = default;
  ~HillsWriter();
  HillsWriter(const HillsWriter&) = delete;
  HillsWriter& operator=(const HillsWriter&) = delete;

  void open_append(const std::string& path);
  /// The whole frame is on its way to the disk when this returns, or it throws and
  /// the file is as it was before.
  void append(const HillFrame& hill);

private:
  [[noreturn]] void fail(const std::string& what, int reason) const;

  std::string path_;
  std::FILE* file_ = nullptr;
};

} // namespace metamd::plumed
