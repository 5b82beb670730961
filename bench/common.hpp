// What the measuring programs share: time, medians, texts, and results as lines of JSON.
#pragma once

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <functional>
#include <iostream>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/result.hpp"
#include "core/score.hpp"
#include "core/simd/kernels.hpp"
#include "core/tokenizer.hpp"

namespace kpool {

/// Ends the program with the sentence and the exit code of an error.
template <class T>
T value_or_exit(Result<T> result) {
  if (result) return std::move(*result);
  std::cerr << result.error().message << '\n';
  std::exit(exit_code(result.error().fault));
}

/// KPOOL_KERNELS in the environment names a lesser set of kernels (core/simd/kernels.hpp), to measure what lesser
/// processors do; ends the program where this one has no set of that name.
inline void choose_named_kernels() {
  const char* name = std::getenv("KPOOL_KERNELS");
  if (!name || simd::choose_kernels(name)) return;
  std::cerr << "KPOOL_KERNELS: this processor has no kernels " << name << ".\n";
  std::exit(exit_code(Fault::usage));
}

/// An argument; ends the program where it is none.
inline std::size_t whole_number(std::string_view text) {
  std::size_t value = 0;
  const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error == std::errc() && stop == text.data() + text.size()) return value;
  std::cerr << "The argument \"" << text << "\" stands where a whole number belongs.\n";
  std::exit(exit_code(Fault::usage));
}

inline double median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2), values.end());
  return values[values.size() / 2];
}

/// To so many digits after the point, for results.
inline double rounded(double value, int digits) {
  const double scale = std::pow(10.0, digits);
  return std::round(value * scale) / scale;
}

inline double seconds_now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

/// Of one call.
inline double seconds(const std::function<void()>& work) {
  const double start = seconds_now();
  work();
  return seconds_now() - start;
}

/// Of the calls after a first one, which warms caches and compiles kernels.
inline double median_seconds(int repeats, const std::function<void()>& work) {
  std::vector<double> all;
  work();
  for (int i = 0; i < repeats; ++i) all.push_back(seconds(work));
  return median(std::move(all));
}

/// The records of a JSON Lines file (field "text") that have something to predict.
inline std::vector<Sample> read_samples(const std::string& path, const Tokenizer& tokenizer) {
  std::ifstream in(path);
  std::vector<Sample> samples;
  for (std::string line; std::getline(in, line);) {
    const auto record = nlohmann::json::parse(line);
    samples.push_back({{0, samples.size() + 1}, 0, tokenizer.encode(record.at("text").get<std::string>())});
    if (samples.back().tokens.size() < 2) samples.pop_back();
  }
  return samples;
}

inline double nats_per_token(Scorer& scorer, std::span<const Sample> samples) {
  double nats = 0, tokens = 0;
  for (const Score& score : scorer.score(samples)) {
    nats += score.nats;
    tokens += static_cast<double>(score.tokens);
  }
  return nats / tokens;
}

/// Every result is a line of JSON: to stdout, and to FILE where the arguments end with --json FILE, which the
/// constructor takes away.
class Results {
 public:
  Results(int& count, char** arguments) {
    if (count < 3 || std::strcmp(arguments[count - 2], "--json") != 0) return;
    path_ = arguments[count - 1];
    count -= 2;
    file_.open(path_);
    check();
  }
  void add(const nlohmann::ordered_json& line) {
    std::cout << line << std::endl;
    if (path_.empty()) return;
    file_ << line << std::endl;
    check();
  }

 private:
  void check() const {
    if (file_) return;
    std::cerr << path_ << " cannot be written.\n";
    std::exit(exit_code(Fault::io));
  }
  std::string path_;
  std::ofstream file_;
};

}  // namespace kpool
