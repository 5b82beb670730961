// Turns files into records: JSON Lines with a `text`, or paragraphs of plain text. The same files give
// the same records in the same order, so a record's number names it across runs.
// Owned by whoever sends them, used on that thread alone.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "clients/line_reader.hpp"
#include "messages/gateway.hpp"

namespace kpool {

enum class InputKind { automatic, jsonl, text };

struct RecordReaderOptions {
  InputKind kind = InputKind::automatic;  ///< automatic: by the name's end; standard input by its first byte
  bool strict = false;                    ///< a field other than text and prompt is an error
};

constexpr std::size_t paragraph_characters_max = 2000, paragraph_characters_min = 200;

/// Where a record began.
struct Place { std::uint32_t file = 0; std::uint64_t line = 0; };

struct ReadRecord { Place place; gateway::OutgoingRecord record; };
struct ReadRejection { Place place; std::string why; };  ///< one sentence
struct ReadNothingYet {};                                ///< standard input waits for its writer
struct ReadEnd {};
using ReadItem = std::variant<ReadRecord, ReadRejection, ReadNothingYet, ReadEnd>;

class RecordReader {
 public:
  RecordReader(std::vector<std::string> paths, RecordReaderOptions options);
  /// Errors: a file cannot be read.
  Result<ReadItem> next();
  /// "path:line", or "standard input:line".
  std::string name(const Place& place) const;
  std::uint64_t bytes() const { return bytes_before_ + (lines_ ? lines_->bytes() : 0); }  ///< read so far

 private:
  Result<std::optional<ReadItem>> next_of_file();
  std::optional<ReadItem> take_json(std::string_view line);
  std::optional<ReadItem> take_text(std::string_view line);
  std::optional<ReadItem> finish_paragraph(bool file_ends);
  ReadItem cut();
  Place place(std::uint64_t line) const { return {static_cast<std::uint32_t>(file_), line}; }

  const std::vector<std::string> paths_;
  const RecordReaderOptions options_;
  std::size_t file_ = 0;
  std::optional<LineReader> lines_;
  std::optional<InputKind> kind_;  ///< of the open file, once known
  std::uint64_t bytes_before_ = 0;
  std::string paragraph_;  ///< lines that are to become records
  std::uint64_t paragraph_line_ = 0;
  bool paragraph_closed_ = false;  ///< a blank line came
};

/// The record in one line of JSON, or what is wrong with it. Errors: bad_input.
Result<gateway::OutgoingRecord> parse_json_record(std::string_view line, bool strict);

}  // namespace kpool
