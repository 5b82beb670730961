// Writes GGUF files for tests: tiny models, and files that are damaged on purpose. A value of the test that
// uses it; keeps everything in memory until it is asked for the bytes.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/gguf.hpp"

namespace kpool::testing {

class GgufWriter {
 public:
  explicit GgufWriter(std::uint32_t version = 3) : version_(version) {}

  GgufWriter& integer(std::string_view key, std::int64_t value);  ///< written as i64
  GgufWriter& word(std::string_view key, std::uint32_t value);    ///< written as u32, as converters do
  GgufWriter& real(std::string_view key, float value);            ///< written as f32
  GgufWriter& flag(std::string_view key, bool value);
  GgufWriter& text(std::string_view key, std::string_view value);
  GgufWriter& texts(std::string_view key, const std::vector<std::string>& values);
  GgufWriter& integers(std::string_view key, const std::vector<std::int32_t>& values);
  GgufWriter& reals(std::string_view key, const std::vector<float>& values);
  /// shape is row-major, as in GgufTensor.
  GgufWriter& tensor(std::string_view name, std::vector<std::int64_t> shape, const std::vector<float>& values);
  GgufWriter& raw_tensor(std::string_view name, GgmlType type, std::vector<std::int64_t> shape, std::string data);
  /// Moves the tensor that was added last from its place, to make a damaged file.
  GgufWriter& offset(std::uint64_t bytes);

  std::string bytes() const;
  /// Writes the file; a failure is an assertion.
  void write(const std::string& path) const;

 private:
  struct Tensor {
    std::string name;
    GgmlType type;
    std::vector<std::int64_t> shape;
    std::uint64_t offset;
    std::string data;
  };
  void key(std::string_view name, std::uint32_t kind);

  std::uint32_t version_;
  std::uint64_t keys_ = 0;
  std::string metadata_;
  std::uint64_t end_ = 0;  // of the tensors so far, padded
  std::vector<Tensor> tensors_;
};

}  // namespace kpool::testing
