// Lines of a file or of standard input, without ever waiting for more of it and without holding a
// line of unbounded length. Owned by a RecordReader, used on its thread alone.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "core/result.hpp"

namespace kpool {

class LineReader {
 public:
  static constexpr std::size_t line_bytes_max = 16u << 20;
  enum class State { line, too_long, nothing_yet, end };

  /// path: "-" is standard input. Errors: missing, denied, io.
  static Result<LineReader> open(const std::string& path);
  LineReader(LineReader&& other) noexcept;
  LineReader& operator=(LineReader&& other) noexcept;
  ~LineReader();

  /// The next line without its end, valid until the next call; too_long: it was skipped. Errors: io.
  Result<State> next(std::string_view& line);
  std::uint64_t number() const { return number_; }  ///< of the last line, from 1
  std::uint64_t bytes() const { return bytes_; }    ///< read up to the end of that line
  /// The first byte that is no white space, as far as is known; 0: not known yet.
  Result<char> peek();

 private:
  LineReader(int fd, std::string path) : fd_(fd), path_(std::move(path)) {}
  /// False: nothing has come yet, or the end.
  Result<bool> fill();

  int fd_ = -1;
  std::string path_, buffer_;
  std::size_t begin_ = 0, searched_ = 0;
  std::uint64_t number_ = 0, bytes_ = 0;
  bool end_ = false, skipping_ = false;
};

}  // namespace kpool
