// Checked blobs: plain numbers and arrays in little-endian order behind a tag, closed by a BLAKE2b
// checksum. Saved states of core are made of them. Values in, values out; any thread.
#pragma once

#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "core/result.hpp"

namespace kpool {

class BlobWriter {
 public:
  /// tag: names the kind and version of what follows.
  explicit BlobWriter(std::string_view tag) : bytes_(tag) {}

  template <class Value>
  void put(Value value) {
    static_assert(std::is_arithmetic_v<Value>);
    bytes_.append(reinterpret_cast<const char*>(&value), sizeof value);
  }
  template <class Value>
  void put_all(const std::vector<Value>& values) {
    static_assert(std::is_arithmetic_v<Value>);
    put<std::uint64_t>(values.size());
    bytes_.append(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(Value));
  }
  /// The blob with its checksum; the writer is empty afterwards.
  std::string close();

 private:
  std::string bytes_;
};

/// Reads what a BlobWriter wrote; after any read that does not fit, every value is zero and failed() is true.
class BlobReader {
 public:
  /// Errors: bad_input, naming `what`: another tag, or the checksum does not match.
  static Result<BlobReader> open(std::string_view bytes, std::string_view tag, const std::string& what);

  template <class Value>
  Value get() {
    Value value{};
    take(&value, sizeof value);
    return value;
  }
  template <class Value>
  std::vector<Value> get_all() {
    const auto count = get<std::uint64_t>();
    if (count > rest_.size() / sizeof(Value)) failed_ = true;
    std::vector<Value> values(failed_ ? 0 : count);
    take(values.data(), values.size() * sizeof(Value));
    return values;
  }
  bool failed() const { return failed_; }
  /// Everything was read and nothing is left over.
  bool complete() const { return !failed_ && rest_.empty(); }

 private:
  explicit BlobReader(std::string_view rest) : rest_(rest) {}
  void take(void* into, std::size_t length) {
    if (length > rest_.size()) failed_ = true;
    if (failed_ || length == 0) return;
    std::memcpy(into, rest_.data(), length);
    rest_.remove_prefix(length);
  }

  std::string_view rest_;
  bool failed_ = false;
};

}  // namespace kpool
