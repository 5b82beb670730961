#include "clients/record_reader.hpp"

#include <algorithm>

namespace kpool {
namespace {

bool is_continuation(char byte) { return (static_cast<unsigned char>(byte) & 0xC0) == 0x80; }

std::size_t characters(std::string_view text) {
  return static_cast<std::size_t>(std::count_if(text.begin(), text.end(), [](char c) { return !is_continuation(c); }));
}

bool is_blank(std::string_view line) { return line.find_first_not_of(" \t\f\v") == std::string_view::npos; }

// The bytes of the first `count` characters; what is no UTF-8 counts four bytes as one at most.
std::size_t prefix_bytes(std::string_view text, std::size_t count) {
  std::size_t at = 0;
  for (std::size_t seen = 0; at < text.size() && at < 4 * count; ++at) {
    if (!is_continuation(text[at]) && ++seen > count) break;
  }
  return at;
}

// Where to cut a long paragraph: after a line, a sentence or a word in the second half, else at the limit.
std::size_t cut_at(std::string_view text) {
  const std::size_t limit = prefix_bytes(text, paragraph_characters_max);
  const auto head = text.substr(0, limit);
  for (const std::string_view end : {"\n", "。", ". ", " "}) {
    const auto at = head.rfind(end);
    if (at != std::string_view::npos && at + end.size() > limit / 2) return at + end.size();
  }
  return limit;
}

InputKind kind_of(const std::string& path) {
  for (const char* end : {".jsonl", ".ndjson", ".json"}) {
    if (path.ends_with(end)) return InputKind::jsonl;
  }
  return InputKind::text;
}

}  // namespace

RecordReader::RecordReader(std::vector<std::string> paths, RecordReaderOptions options)
    : paths_(std::move(paths)), options_(options) {}

std::string RecordReader::name(const Place& place) const {
  const std::string& path = paths_[place.file];
  return (path == "-" ? "standard input" : path) + ":" + std::to_string(place.line);
}

Result<ReadItem> RecordReader::next() {
  while (file_ < paths_.size()) {
    if (!lines_) {
      auto opened = LineReader::open(paths_[file_]);
      if (!opened) return opened.error();
      lines_ = std::move(*opened);
      kind_.reset();
    }
    auto item = next_of_file();
    if (!item) return item.error();
    if (*item) return std::move(**item);
    bytes_before_ += lines_->bytes();
    lines_.reset();
    ++file_;
  }
  return ReadItem(ReadEnd{});
}

Result<std::optional<ReadItem>> RecordReader::next_of_file() {
  if (!kind_ && options_.kind != InputKind::automatic) kind_ = options_.kind;
  if (!kind_ && paths_[file_] != "-") kind_ = kind_of(paths_[file_]);
  if (!kind_) {
    auto first = lines_->peek();
    if (!first) return first.error();
    if (*first == '\0') return std::optional<ReadItem>(ReadNothingYet{});
    kind_ = *first == '{' ? InputKind::jsonl : InputKind::text;
  }
  for (;;) {
    if (auto item = finish_paragraph(false)) return item;
    std::string_view line;
    auto state = lines_->next(line);
    if (!state) return state.error();
    if (*state == LineReader::State::nothing_yet) return std::optional<ReadItem>(ReadNothingYet{});
    if (*state == LineReader::State::end) return finish_paragraph(true);
    if (*state == LineReader::State::too_long) {
      return std::optional<ReadItem>(ReadRejection{place(lines_->number()), "the line is longer than 16 MiB"});
    }
    auto item = *kind_ == InputKind::jsonl ? take_json(line) : take_text(line);
    if (item) return item;
  }
}

std::optional<ReadItem> RecordReader::take_json(std::string_view line) {
  if (is_blank(line)) return std::nullopt;
  auto record = parse_json_record(line, options_.strict);
  if (!record) return ReadRejection{place(lines_->number()), record.error().message};
  return ReadRecord{place(lines_->number()), std::move(*record)};
}

std::optional<ReadItem> RecordReader::take_text(std::string_view line) {
  if (line.find('\0') != std::string_view::npos) {
    return ReadRejection{place(lines_->number()), "the line holds a NUL byte, so the file is probably no text"};
  }
  if (is_blank(line)) {
    paragraph_closed_ = !paragraph_.empty();
    return std::nullopt;
  }
  if (paragraph_.empty()) paragraph_line_ = lines_->number();
  else paragraph_ += paragraph_closed_ ? "\n\n" : "\n";
  paragraph_closed_ = false;
  paragraph_ += line;
  return std::nullopt;
}

// A short paragraph, a heading say, is joined to the next; a long one is cut.
std::optional<ReadItem> RecordReader::finish_paragraph(bool file_ends) {
  if (paragraph_.empty()) return std::nullopt;
  const bool long_enough = paragraph_.size() > 4 * paragraph_characters_max ||
                           (paragraph_.size() > paragraph_characters_max &&
                            characters(paragraph_) > paragraph_characters_max);
  const bool complete = file_ends || (paragraph_closed_ && characters(paragraph_) >= paragraph_characters_min);
  if (long_enough || complete) return cut();
  return std::nullopt;
}

ReadItem RecordReader::cut() {
  const std::size_t size = cut_at(paragraph_) < paragraph_.size() &&
                                   prefix_bytes(paragraph_, paragraph_characters_max) < paragraph_.size()
                               ? cut_at(paragraph_) : paragraph_.size();
  std::string text = paragraph_.substr(0, size);
  ReadRecord record{place(paragraph_line_), {}};
  paragraph_line_ += static_cast<std::uint64_t>(std::count(text.begin(), text.end(), '\n'));
  paragraph_.erase(0, size);
  text.erase(text.find_last_not_of(" \n") + 1);
  record.record.text = std::move(text);
  return record;
}

}  // namespace kpool
