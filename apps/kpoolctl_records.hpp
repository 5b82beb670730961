// Reads JSON Lines with a `text` for the model commands and writes JSON Lines for results. Every field but
// text and prompt goes through to the output, and nowhere else. Used by one command on one thread.
#pragma once

#include <fstream>
#include <istream>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "core/record.hpp"
#include "core/result.hpp"

namespace kpool {

struct InputRecord {
  std::string where;              ///< file:line
  nlohmann::ordered_json fields;  ///< an object
  Record record;                  ///< text, and how much of its beginning is the prompt
};

/// The record in one line of JSON. A `prompt` that does not begin the text is no prompt, as in kpool-gateway.
/// Errors: bad_input, a sentence about the line.
Result<InputRecord> parse_record(std::string_view line);

class InputRecords {
 public:
  static constexpr std::size_t line_bytes_max = 16u << 20;

  /// files: none or "-" is standard input. Sentences about broken lines go to `complaints`.
  InputRecords(std::vector<std::string> files, std::istream& standard_input, std::ostream& complaints);
  /// The next record that can be read; nothing at the end. Errors: missing, io.
  Result<std::optional<InputRecord>> next();
  /// At most so many records, and no more once their text has so many bytes.
  Result<std::vector<InputRecord>> next_some(std::size_t records_max, std::size_t bytes_max);
  void complain(const std::string& where, const std::string& what);
  /// An error if anything was complained about.
  Status finish() const;

 private:
  Status open_next();
  /// One line of at most line_bytes_max; the rest of a longer one is skipped.
  bool read_line(std::string& line, bool& too_long);

  const std::vector<std::string> files_;
  std::istream& standard_input_;
  std::ostream& complaints_;
  std::size_t next_file_ = 0;
  std::ifstream file_;
  std::istream* in_ = nullptr;
  std::string name_;
  std::uint64_t line_ = 0, broken_ = 0;
};

/// A file, or standard output where the path is empty or "-".
class Output {
 public:
  /// Errors: io, denied.
  static Result<Output> open(const std::string& path, std::ostream& standard_output);
  void write(const nlohmann::ordered_json& line) { *out_ << line.dump() << '\n'; }
  /// Errors: io, if anything did not get there.
  Status finish();

 private:
  std::string path_;
  std::unique_ptr<std::ofstream> file_;
  std::ostream* out_ = nullptr;
};

}  // namespace kpool
