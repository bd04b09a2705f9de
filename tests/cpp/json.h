// Just enough JSON to read tests/cases: no escapes but \" and \\, no comments.
#pragma once

#include <cctype>
#include <cstdlib>
#include <fstream>
#include <map>
#include <memory>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

struct Json {
  enum class Kind { Null, Bool, Number, String, Array, Object } kind = Kind::Null;
  double number = 0.0;
  std::string string;
  std::vector<Json> array;
  std::map<std::string, Json> object;

  bool null() const { return kind == Kind::Null; }
  const Json& at(const std::string& key) const { return object.at(key); }

  static Json load(const std::string& path) {
    std::ifstream in(path);
    if (!in) {
      throw std::runtime_error("cannot open " + path);
    }
    std::stringstream text;
    text << in.rdbuf();
    const std::string all = text.str();
    const char* p = all.c_str();
    return parse(p);
  }

private:
  static void blanks(const char*& p) {
    while (std::isspace(static_cast<unsigned char>(*p))) {
      ++p;
    }
  }
  static void expect(const char*& p, const std::string& word) {
    for (const char c : word) {
      if (*p++ != c) {
        throw std::runtime_error("JSON: expected " + word);
      }
    }
  }
  static Json parse(const char*& p) {
    blanks(p);
    Json out;
    if (*p == '{' || *p == '[') {
      const bool object = *p == '{';
      out.kind = object ? Kind::Object : Kind::Array;
      const char close = object ? '}' : ']';
      ++p;
      for (blanks(p); *p != close; blanks(p)) {
        std::string key;
        if (object) {
          key = parse(p).string;
          blanks(p);
          expect(p, ":");
        }
        Json value = parse(p);
        if (object) {
          out.object[key] = std::move(value);
        } else {
          out.array.push_back(std::move(value));
        }
        blanks(p);
        if (*p == ',') {
          ++p;
        }
      }
      ++p;
    } else if (*p == '"') {
      out.kind = Kind::String;
      for (++p; *p != '"'; ++p) {
        if (*p == '\0') {
          throw std::runtime_error("JSON: open string");
        }
        p += *p == '\\';
        out.string += *p;
      }
      ++p;
    } else if (*p == 'n') {
      expect(p, "null");
    } else if (*p == 't' || *p == 'f') {
      out.kind = Kind::Bool;
      out.number = *p == 't';
      expect(p, *p == 't' ? "true" : "false");
    } else {
      char* end = nullptr;
      out.kind = Kind::Number;
      out.number = std::strtod(p, &end);
      if (end == p) {
        throw std::runtime_error("JSON: unexpected character");
      }
      p = end;
    }
    return out;
  }
};
