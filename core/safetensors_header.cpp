#include "core/safetensors_header.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>

namespace kpool {
namespace {

constexpr std::size_t kDimensionsMax = 16;

// {"name": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}, ..., "__metadata__": {"key": "value", ...}}
class HeaderReader final : public nlohmann::json_sax<nlohmann::json> {
 public:
  SafetensorsHeader header;
  std::string reason;

  bool start_object(std::size_t) override {
    if (place_ == Place::outside) return enter(Place::top);
    if (place_ != Place::top || name_.empty()) return unexpected();
    entry_ = {};
    fields_.clear();
    return enter(name_ == "__metadata__" ? Place::metadata : Place::entry);
  }

  bool key(string_t& key) override {
    if (place_ == Place::top) {
      name_ = key;
      const bool twice = key == "__metadata__" ? std::exchange(saw_metadata_, true) : header.entries.contains(key);
      return twice ? fail("the key '" + key + "' stands there twice") : !key.empty() || fail("a name is empty");
    }
    field_ = key;
    const bool known = place_ == Place::metadata || key == "dtype" || key == "shape" || key == "data_offsets";
    if (!known) return fail("the tensor '" + name_ + "' has an unknown field '" + key + "'");
    const bool twice = place_ == Place::metadata ? header.metadata.contains(key)
                                                 : std::find(fields_.begin(), fields_.end(), key) != fields_.end();
    if (twice) return fail("the key '" + key + "' stands twice in '" + name_ + "'");
    if (place_ == Place::entry) fields_.push_back(key);
    return true;
  }

  bool string(string_t& value) override {
    if (place_ == Place::metadata) header.metadata[field_] = value;
    else if (place_ == Place::entry && field_ == "dtype") entry_.dtype = value;
    else return unexpected();
    return true;
  }

  bool start_array(std::size_t) override {
    if (place_ != Place::entry || field_ == "dtype") return unexpected();
    numbers_.clear();
    return enter(Place::array);
  }

  bool number_unsigned(number_unsigned_t value) override {
    if (place_ != Place::array) return unexpected();
    if (value > INT64_MAX || numbers_.size() == kDimensionsMax) return unexpected();
    numbers_.push_back(static_cast<std::int64_t>(value));
    return true;
  }

  bool end_array() override {
    if (field_ == "shape") {
      entry_.shape = numbers_;
    } else {
      if (numbers_.size() != 2) return unexpected();
      entry_.begin = static_cast<std::uint64_t>(numbers_[0]);
      entry_.end = static_cast<std::uint64_t>(numbers_[1]);
    }
    return enter(Place::entry);
  }

  bool end_object() override {
    if (place_ == Place::top) return enter(Place::outside);
    if (place_ == Place::entry) {
      if (fields_.size() != 3) return fail("the tensor '" + name_ + "' lacks dtype, shape or data_offsets");
      header.entries.emplace(name_, std::move(entry_));
    }
    return enter(Place::top);
  }

  bool null() override { return unexpected(); }
  bool boolean(bool) override { return unexpected(); }
  bool number_integer(number_integer_t) override { return unexpected(); }
  bool number_float(number_float_t, const string_t&) override { return unexpected(); }
  bool binary(binary_t&) override { return unexpected(); }
  bool parse_error(std::size_t position, const std::string&, const nlohmann::detail::exception&) override {
    return fail("its header is not JSON at byte " + std::to_string(position));
  }

 private:
  enum class Place { outside, top, entry, array, metadata };

  bool enter(Place place) {
    place_ = place;
    return true;
  }
  bool fail(std::string what) {
    if (reason.empty()) reason = std::move(what);
    return false;
  }
  bool unexpected() {
    return fail(name_.empty() ? "its header is not an object of tensors"
                              : "its header has an unexpected value in '" + name_ + "'");
  }

  Place place_ = Place::outside;
  bool saw_metadata_ = false;
  std::string name_, field_;
  SafetensorsEntry entry_;
  std::vector<std::string> fields_;  // that the entry has so far
  std::vector<std::int64_t> numbers_;
};

}  // namespace

Result<SafetensorsHeader> parse_safetensors_header(std::string_view json) {
  HeaderReader reader;
  const bool whole = nlohmann::json::sax_parse(json, &reader);
  if (!whole) return Error{Fault::bad_input, reader.reason};
  return std::move(reader.header);
}

}  // namespace kpool
