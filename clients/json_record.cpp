// One JSON line's `text` and `prompt`, found without building the rest of it.
#include <nlohmann/json.hpp>

#include "clients/record_reader.hpp"

namespace kpool {
namespace {

using nlohmann::json;

class RecordFields final : public json::json_sax_t {
 public:
  std::optional<std::string> text, prompt;
  std::string unknown, wrong;
  bool is_object = false, text_is_other = false;

  bool null() override { return other(); }
  bool boolean(bool) override { return other(); }
  bool number_integer(number_integer_t) override { return other(); }
  bool number_unsigned(number_unsigned_t) override { return other(); }
  bool number_float(number_float_t, const string_t&) override { return other(); }
  bool binary(binary_t&) override { return other(); }
  bool string(string_t& value) override {
    if (depth_ != 1 || !is_object) return true;
    if (key_ == "text") text = std::move(value);
    else if (key_ == "prompt") prompt = std::move(value);
    return true;
  }
  bool start_object(std::size_t) override {
    if (depth_ == 0) is_object = true;
    else other();
    ++depth_;
    return true;
  }
  bool start_array(std::size_t) override {
    other();
    ++depth_;
    return true;
  }
  bool end_object() override { return --depth_, true; }
  bool end_array() override { return --depth_, true; }
  bool key(string_t& value) override {
    if (depth_ != 1) return true;
    key_ = std::move(value);
    if (key_ != "text" && key_ != "prompt" && unknown.empty()) unknown = key_;
    return true;
  }
  bool parse_error(std::size_t position, const std::string&, const json::exception& error) override {
    const std::string what = error.what();
    const char* cause = what.find("UTF-8") != std::string::npos ? "not valid UTF-8" : "broken JSON";
    wrong = std::string(cause) + " at byte " + std::to_string(position) + " of the line";
    return false;
  }

 private:
  // A value that is no text where a text belongs.
  bool other() {
    if (depth_ == 1 && is_object && key_ == "text") text_is_other = true;
    return true;
  }

  std::size_t depth_ = 0;
  std::string key_;
};

Error wrong(std::string message) { return {Fault::bad_input, std::move(message)}; }

}  // namespace

Result<gateway::OutgoingRecord> parse_json_record(std::string_view line, bool strict) {
  RecordFields fields;
  json::sax_parse(line.begin(), line.end(), &fields);
  if (!fields.wrong.empty()) return wrong(fields.wrong);
  if (!fields.is_object) return wrong("not a JSON object with a field \"text\"");
  if (!fields.text) {
    return wrong(fields.text_is_other ? "the field \"text\" is not a string" : "the object has no field \"text\"");
  }
  if (strict && !fields.unknown.empty()) return wrong("unknown field \"" + fields.unknown + "\"");
  gateway::OutgoingRecord record{std::move(*fields.text), 0};
  if (fields.prompt) {
    const bool leads = record.text.starts_with(*fields.prompt);
    if (strict && !leads) return wrong("the \"prompt\" is not the beginning of the \"text\"");
    if (leads) record.prompt_bytes = static_cast<std::uint32_t>(fields.prompt->size());
  }
  return record;
}

}  // namespace kpool
