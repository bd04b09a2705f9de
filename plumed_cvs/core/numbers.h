// Numbers to text and back, strictly and whatever the locale.
#pragma once

#include <charconv>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>
#include <system_error>

namespace metamd {

/// The shortest text that reads back as the same double.
inline std::string format_double(double value) {
  char text[40];
#ifdef __cpp_lib_to_chars
  return std::string(text, std::to_chars(text, text + sizeof text, value).ptr);
#else
  for (int digits = 15; digits <= 17; ++digits) {
    std::snprintf(text, sizeof text, "%.*g", digits, value);
    if (std::strtod(text, nullptr) == value) {
      break;
    }
  }
  return text;
#endif
}

/// The whole of `text` as a finite number: no blanks, no sign '+', no hexadecimals.
inline bool parse_double(std::string_view text, double& value) {
  if (text.empty() || text.size() > 64) {
    return false;
  }
  for (const char c : text) {
    if ((c < '0' || c > '9') && c != '.' && c != '-' && c != '+' && c != 'e' && c != 'E') {
      return false; // also keeps out inf, nan and 0x1p3
    }
  }
#ifdef __cpp_lib_to_chars
  const auto [end, status] = std::from_chars(text.data(), text.data() + text.size(), value);
  return status == std::errc() && end == text.data() + text.size() && std::isfinite(value);
#else
  const std::string copy(text);
  char* end = nullptr;
  value = std::strtod(copy.c_str(), &end);
  return end == copy.c_str() + copy.size() && std::isfinite(value);
#endif
}

inline bool parse_integer(std::string_view text, long long& value) {
  const auto [end, status] = std::from_chars(text.data(), text.data() + text.size(), value);
  return !text.empty() && status == std::errc() && end == text.data() + text.size();
}

} // namespace metamd
