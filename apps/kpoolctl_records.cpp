#include "apps/kpoolctl_records.hpp"

#include <sys/stat.h>

#include <cerrno>
#include <cstring>

namespace kpool {
namespace {

using nlohmann::ordered_json;

constexpr int depth_max = 64;  // dump() recurses

Error wrong(std::string what) { return {Fault::bad_input, std::move(what)}; }

Result<ordered_json> parse_object(std::string_view line) {
  bool too_deep = false;
  try {
    auto json = ordered_json::parse(line, [&](int depth, ordered_json::parse_event_t, ordered_json&) {
      too_deep = too_deep || depth > depth_max;
      return depth <= depth_max;
    });
    if (too_deep) return wrong("the JSON is nested more than " + std::to_string(depth_max) + " deep");
    if (!json.is_object()) return wrong("no JSON object with a field \"text\"");
    return json;
  } catch (const ordered_json::parse_error& error) {
    const bool encoding = std::strstr(error.what(), "UTF-8") != nullptr;
    return wrong((encoding ? "not valid UTF-8 at byte " : "broken JSON at byte ") + std::to_string(error.byte));
  } catch (const ordered_json::exception&) {
    return wrong("broken JSON: a number is out of range");
  }
}

}  // namespace

Result<InputRecord> parse_record(std::string_view line) {
  auto json = parse_object(line);
  if (!json) return json.error();
  const auto text = json->find("text"), prompt = json->find("prompt");
  if (text == json->end()) return wrong("the object has no field \"text\"");
  if (!text->is_string()) return wrong("the field \"text\" is not a string");
  InputRecord input;
  if (prompt != json->end() && prompt->is_string()) {
    const auto& lead = prompt->get_ref<const std::string&>();
    if (text->get_ref<const std::string&>().starts_with(lead))
      input.record.prompt_bytes = static_cast<std::uint32_t>(lead.size());
  }
  input.record.text = std::move(text->get_ref<std::string&>());
  json->erase("text");
  json->erase("prompt");
  input.fields = *std::move(json);
  return input;
}

InputRecords::InputRecords(std::vector<std::string> files, std::istream& standard_input, std::ostream& complaints)
    : files_(files.empty() ? std::vector<std::string>{"-"} : std::move(files)),
      standard_input_(standard_input),
      complaints_(complaints) {}

Status InputRecords::open_next() {
  const std::string& path = files_[next_file_++];
  line_ = 0;
  name_ = path == "-" ? "standard input" : path;
  in_ = path == "-" ? &standard_input_ : &file_;
  if (path == "-") return Done{};
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0)
    return Error{Fault::missing, path + ": cannot be read: " + std::strerror(errno)};
  if (S_ISDIR(status.st_mode)) return Error{Fault::missing, path + ": is a directory; name its files"};
  file_ = std::ifstream(path, std::ios::binary);
  if (!file_) return Error{Fault::denied, path + ": cannot be read: " + std::strerror(errno)};
  return Done{};
}

bool InputRecords::read_line(std::string& line, bool& too_long) {
  line.clear();
  too_long = false;
  auto* buffer = in_->rdbuf();
  constexpr int end = std::char_traits<char>::eof();
  int byte = buffer->sbumpc();
  if (byte == end) return false;
  for (; byte != end && byte != '\n'; byte = buffer->sbumpc()) {
    if (line.size() < line_bytes_max) line.push_back(static_cast<char>(byte));
    else too_long = true;
  }
  ++line_;
  return true;
}

Result<std::optional<InputRecord>> InputRecords::next() {
  std::string line;
  bool too_long = false;
  for (;;) {
    if (!in_) {
      if (next_file_ == files_.size()) return std::optional<InputRecord>();
      if (auto opened = open_next(); !opened) return opened.error();
    }
    if (!read_line(line, too_long)) {
      in_ = nullptr;
      continue;
    }
    const std::string where = name_ + ":" + std::to_string(line_);
    if (too_long) {
      complain(where, "the line is longer than 16 MiB");
      continue;
    }
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    auto input = parse_record(line);
    if (!input) {
      complain(where, input.error().message);
      continue;
    }
    input->where = where;
    return std::optional<InputRecord>(*std::move(input));
  }
}

Result<std::vector<InputRecord>> InputRecords::next_some(std::size_t records_max, std::size_t bytes_max) {
  std::vector<InputRecord> records;
  for (std::size_t bytes = 0; records.size() < records_max && bytes < bytes_max;) {
    auto input = next();
    if (!input) return input.error();
    if (!*input) break;
    bytes += (*input)->record.text.size();
    records.push_back(**std::move(input));
  }
  return records;
}

void InputRecords::complain(const std::string& where, const std::string& what) {
  ++broken_;
  complaints_ << where << ": " << what << "\n";
}

Status InputRecords::finish() const {
  if (broken_ == 0) return Done{};
  return Error{Fault::bad_input, std::to_string(broken_) + (broken_ == 1 ? " line was" : " lines were") +
                                     " left out, as told above; all others were worked on"};
}

Result<Output> Output::open(const std::string& path, std::ostream& standard_output) {
  Output output;
  output.path_ = path;
  output.out_ = &standard_output;
  if (path.empty() || path == "-") return output;
  output.file_ = std::make_unique<std::ofstream>(path, std::ios::binary | std::ios::trunc);
  output.out_ = output.file_.get();
  if (!*output.file_)
    return Error{errno == EACCES ? Fault::denied : Fault::io, path + ": cannot be written: " + std::strerror(errno)};
  return output;
}

Status Output::finish() {
  out_->flush();
  if (file_) file_->close();
  if (!*out_) return Error{Fault::io, (file_ ? path_ : "standard output") + ": not everything could be written"};
  return Done{};
}

}  // namespace kpool
